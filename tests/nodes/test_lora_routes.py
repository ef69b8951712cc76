"""What the table of LoRAs is told about a file, and who may ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import ClientSession, web
from safetensors.torch import save_file

from wan_duet.nodes.lora_routes import add_lora_routes
from wan_duet.pipelines.errors import LoraError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    factors = {"A": torch.ones(1, 5120), "B": torch.ones(5120, 1)}
    pair = {f"blocks.0.self_attn.q.lora_{side}.weight": factor for side, factor in factors.items()}
    save_file(pair, tmp_path / "ink_high_noise.safetensors", {"modelspec.architecture": "Wan2.2-T2V-A14B"})
    words = {"civitai": {"trainedWords": ["inkstyle"]}}
    (tmp_path / "ink_high_noise.metadata.json").write_text(json.dumps(words), encoding="utf-8")
    return tmp_path


def ask(folder: Path, name: str, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    def find(name: str) -> Path:
        if name != "ink_high_noise.safetensors":
            raise LoraError(f"{name} is not in models/loras")
        return folder / name

    async def talk() -> tuple[int, dict[str, Any]]:
        routes, app = web.RouteTableDef(), web.Application()
        add_lora_routes(routes, find)
        app.add_routes(routes)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/wan_duet/loras/about"
        try:
            async with (
                ClientSession() as session,
                session.get(url, params={"file": name}, headers=dict(headers or {})) as answer,
            ):
                return answer.status, json.loads(await answer.text())
        finally:
            await runner.cleanup()

    return asyncio.run(talk())


def test_base_expert_and_trigger_words_are_told(folder: Path) -> None:
    status, told = ask(folder, "ink_high_noise.safetensors")
    assert status == 200
    assert told == {"base": "Wan 2.2 14B T2V", "expert": "high", "triggers": ["inkstyle"]}


def test_a_name_that_is_not_listed_is_refused(folder: Path) -> None:
    assert ask(folder, "../secret.json") == (400, {"error": "../secret.json is not in models/loras"})


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_of_another_site_learns_nothing(folder: Path, headers: Mapping[str, str]) -> None:
    status, told = ask(folder, "ink_high_noise.safetensors", headers)
    assert status == 403
    assert "triggers" not in told

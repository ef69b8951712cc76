"""Every kind of finding at a provider is said by Check, the node that buys, its history and its receipt."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from finding_kinds import LORA_FILES, write_loras
from provider_finding_kinds import PURCHASES, ProviderFinding, name_of

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI

from .test_progress import TEXT, binary_messages
from .test_remote import RUNNER, RUNNERS, Providers, loop, node, providers, servers  # noqa: F401 - fixtures


@pytest.fixture(scope="module", autouse=True)
def given(models: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = tmp_path_factory.mktemp("loras")
    write_loras(made)
    for name in LORA_FILES:
        shutil.copy(made / name, models / "loras" / name)


def graph(kind: ProviderFinding) -> dict[str, Any]:
    """A graph that checks the request of `kind`, buys it, and shows its receipt."""
    values = {"kind": kind.kind, **kind.request, **({"loras": kind.loras} if kind.loras else {})}
    model = {"novita_model": kind.novita_model} if kind.runner == "novita" else {}
    prefix = {"filename_prefix": "video/findings"}
    return {
        "request": node("WanDuetRequestJson", json=json.dumps(values)),
        "check": node("WanDuetCheck", request=["request", 0], runner=kind.runner, **model),
        "run": node(RUNNERS[kind.runner], request=["request", 0], **RUNNER, **prefix, **model),
        "receipt": node("PreviewAny", source=["run", 4]),
    }


@pytest.mark.parametrize("kinds", PURCHASES, ids=name_of)
def test_it_is_said_in_check_in_the_node_in_the_history_and_in_the_receipt(
    providers: Providers,  # noqa: F811 - a fixture
    host: HeadlessComfyUI,
    client: ComfyClient,
    kinds: tuple[ProviderFinding, ...],
) -> None:
    asked = graph(kinds[0])
    on_node = asyncio.run(binary_messages(host.url, asked, TEXT))
    bought = providers.jobs()
    outputs = client.run(asked).outputs  # of the cache
    assert providers.jobs() == bought
    checked = outputs["check"]["text"][0]
    receipt = json.loads(outputs["receipt"]["text"][0])
    for kind in kinds:
        assert kind.says in checked
        line = f" {kind.field}: "
        said_on_node = [
            [line in text and kind.says in text for text in shown.decode("utf-8", "replace").splitlines()]
            for shown in on_node
        ]
        assert [lines.count(True) for lines in said_on_node] == [1] * len(on_node) != []
        for found in (outputs["run"]["wan_duet_findings"], receipt["findings"]):
            reasons = [one["reason"] for one in found if one["field"] == kind.field]
            assert [kind.says in reason for reason in reasons].count(True) == 1

"""What a LoRA bench does once: it encodes a prompt, hashes a file, and makes an expert anew."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from smaller import smaller

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.fleet.local_place import LocalPlace
from wan_duet.pipelines.fleet.lora_bench import LoraBench, bench_of, run_bench
from wan_duet.pipelines.fleet.lora_cells import LoraSetting
from wan_duet.pipelines.fleet.row_journal import JournalRow
from wan_duet.pipelines.generate.local_worker import LocalWorker
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.networks.text_encoder import EncodedPrompt, TextEncoder
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request.report import silent
from wan_duet.pipelines.streaming.cursor import Cursor
from wan_duet.pipelines.weights import hashing
from wan_duet.pipelines.weights.lora.find import LoraSources

SMALL = {"num_frames": 5, "num_inference_steps": 2, "aspect_ratio": "1:1", "interpolator_model": "none"}


@dataclass
class Counted:
    """encoded: texts. hashed: files. made: {cell: experts of which a unit was filled}, in order."""

    encoded: Counter[str] = field(default_factory=Counter)
    hashed: Counter[str] = field(default_factory=Counter)
    made: dict[str, set[str]] = field(default_factory=dict)

    def resumed(self, done: int, rows: int) -> None:
        assert done == 0

    def begun(self, position: int, rows: int, row: JournalRow, left_s: float | None) -> None:
        self.made[row.name] = set()

    def ended(self, row: JournalRow) -> None:
        assert row.state == "done", row.error


def worker() -> LocalWorker:
    return LocalWorker(
        replace(smaller(load_model("toy")), residency="resident"),
        DeviceMemory("cpu", keeps=True),
        Silent(),
        silent,
        LoraSources(embedded=embedded_loras()),
        Interpolators(),
    )


def bench(
    strengths: Sequence[float], experts: Sequence[str], prompts: Sequence[str], **values: Any
) -> LoraBench:
    return bench_of(
        ["toy/outlined"],
        strengths,
        experts,
        kind="text-to-video",
        values={**SMALL, **values},
        prompts=prompts,
        seeds=[7],
    )


def counted_run(wanted: LoraBench, folder: Path) -> Counted:
    """Run a bench, and count in the functions that do the work."""
    counted = Counted()
    encode, read_hash, fill = TextEncoder.encode, hashing._read_hash, Cursor._fill

    def counting_encode(self: TextEncoder, prompt: str) -> EncodedPrompt:
        counted.encoded[prompt] += 1
        return encode(self, prompt)

    def counting_hash(file: Path, size: int) -> str:
        if file.suffix == ".safetensors":
            counted.hashed[str(file)] += 1
        return read_hash(file, size)

    def counting_fill(self: Cursor, load: Any, *rest: Any) -> Any:
        counted.made[list(counted.made)[-1]].add(load.unit.expert)
        return fill(self, load, *rest)

    hashing._remembered.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextEncoder, "encode", counting_encode)
        patch.setattr(hashing, "_read_hash", counting_hash)
        patch.setattr(Cursor, "_fill", counting_fill)
        run_bench(wanted, BatchFolder(folder), LocalPlace(worker()), counted)
    return counted


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoraBench, Counted, Path]:
    folder = tmp_path_factory.mktemp("bench")
    wanted = bench([0.5, 1.0], ["high", "low"], ["a red ball moving left"])
    return wanted, counted_run(wanted, folder), folder


def test_a_file_is_hashed_once(made: tuple[LoraBench, Counted, Path]) -> None:
    hashed = made[1].hashed
    assert "outlined.safetensors" in {Path(file).name for file in hashed}
    assert set(hashed.values()) == {1}


def acts(setting: LoraSetting, expert: str) -> tuple[str | None, float] | None:
    """Return the LoRA on an expert and its strength."""
    return (setting.path, setting.strength) if setting.expert in (expert, "both") else None


def test_an_expert_is_made_anew_only_where_a_strength_on_it_changed(
    made: tuple[LoraBench, Counted, Path],
) -> None:
    wanted, counted, _ = made
    changed = [
        {expert for expert in ("high", "low") if acts(after, expert) != acts(before, expert)}
        for before, after in pairwise(cell.setting for cell in wanted.cells)
    ]
    assert list(counted.made.values()) == [{"high", "low"}, *changed]


def test_each_cell_has_the_bits_of_a_run_of_its_own(
    made: tuple[LoraBench, Counted, Path], tmp_path: Path
) -> None:
    wanted, _, folder = made
    for cell in wanted.cells[1::3]:
        alone = replace(worker(), memory=DeviceMemory("cpu")).run(cell.row.request, tmp_path / "one.mp4")
        receipt = json.loads((folder / f"{cell.name}.json").read_text())
        for name in ("latents_sha256", "frames_sha256"):
            assert receipt[name] == alone.receipt[name], cell.name


def test_a_prompt_is_encoded_once_however_many_there_are(tmp_path: Path) -> None:
    prompts = [f"a red ball {number}" for number in range(9)]
    wanted = bench([1.0], ["low"], prompts, num_frames=1, num_inference_steps=1)
    encoded = counted_run(wanted, tmp_path).encoded
    assert set(encoded) >= set(prompts)
    assert set(encoded.values()) == {1}

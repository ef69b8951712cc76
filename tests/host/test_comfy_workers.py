"""A batch on two real ComfyUIs: each row has one file, with the frames it has alone, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.fleet.batch_rows import read_rows
from wan_duet.pipelines.fleet.batch_run import BatchResult, run_batch
from wan_duet.pipelines.fleet.comfy_place import ComfyPlace
from wan_duet.pipelines.fleet.row_journal import JournalRow
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI

LONG = "WAN_DUET_LONG" in os.environ
ROWS, KILLS = (100, 6) if LONG else (6, 1)


@pytest.fixture(scope="module")
def two(comfyui: Host) -> Iterator[list[HeadlessComfyUI]]:
    with ExitStack() as stack:
        yield [stack.enter_context(HeadlessComfyUI(comfyui, start_timeout_s=900)) for _ in range(2)]


def again(command: list[str], dead: HeadlessComfyUI) -> subprocess.Popen[bytes]:
    """Start a ComfyUI that was killed, on the folders that it had. It is killed by the test."""
    return subprocess.Popen(command, cwd=dead.host.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Watched:
    """Counts what has ended."""

    def __init__(self) -> None:
        self.told: list[JournalRow] = []

    def resumed(self, done: int, rows: int) -> None: ...

    def begun(self, position: int, rows: int, row: JournalRow, left_s: float | None) -> None: ...

    def ended(self, row: JournalRow) -> None:
        self.told.append(row)


def batch(file: Path, rows: int) -> Path:
    small = {"num_frames": 5, "num_inference_steps": 2, "aspect_ratio": "1:1", "interpolator_model": "none"}
    given = [{**small, "prompt": "a red ball", "seed": seed} for seed in range(rows)]
    file.write_text("".join(json.dumps(row) + "\n" for row in given))
    return file


def run(rows: Path, out: Path, urls: list[str], watched: Watched) -> BatchResult:
    read, problems = read_rows(rows, "text-to-video")
    workers = [ComfyPlace(url, "toy") for url in urls]
    return run_batch(read, BatchFolder(out), workers, watched, settings={}, problems=problems)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_a_dead_comfyui_costs_its_rows_time_only(tmp_path: Path, two: list[HeadlessComfyUI]) -> None:
    rows, out, watched = batch(tmp_path / "rows.jsonl", ROWS), tmp_path / "out", Watched()
    first, second = two

    def done_by_first() -> int:
        return sum(row.state == "done" and row.place == f"comfy {first.url}" for row in watched.told)

    def kill() -> None:
        pid = first.pid
        for number in range(KILLS):
            before = done_by_first()
            while done_by_first() == before:
                time.sleep(0.1)
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
            os.kill(pid, signal.SIGKILL)
            if number < KILLS - 1:  # the same address comes back, with an empty queue
                pid = again(command, first).pid

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert run(rows, out, [first.url, second.url], watched) == BatchResult(ROWS, 0, 0)
    killer.join(60)
    made = lines(out)
    assert len(made) == len({line["id"] for line in made}) == ROWS
    assert {line["place"] for line in made} == {f"comfy {first.url}", f"comfy {second.url}"}
    assert {file.suffix for file in out.iterdir()} >= {".mp4", ".json"}
    assert len(list(out.glob("*.mp4"))) == ROWS
    assert not (out / ".unfinished").exists()
    with pytest.raises(HostError):
        first.client.get("/queue")
    by_seed = {line["seed"]: line["frames_sha256"] for line in made}
    one = batch(tmp_path / "one.jsonl", 1)
    run(one, tmp_path / "alone", [second.url], Watched())
    assert lines(tmp_path / "alone")[0]["frames_sha256"] == by_seed[0]
    assert len(set(by_seed.values())) == ROWS


def test_an_image_of_this_machine_is_uploaded(
    tmp_path: Path, two: list[HeadlessComfyUI], comfyui: Host
) -> None:
    image = comfyui.path / "input" / "example.png"
    request = {
        "kind": "image-to-image",
        "prompt": "a ball",
        "seed": 1,
        "strength": 0.5,
        "num_inference_steps": 2,
        "image_url": str(image),
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(request) + "\n")
    assert run(tmp_path / "rows.jsonl", tmp_path / "out", [two[1].url], Watched()).done == 1
    receipt = json.loads((tmp_path / "out" / lines(tmp_path / "out")[0]["receipt"]).read_text())
    assert receipt["request"]["prompt"] == "a ball"


def test_what_the_comfyui_cannot_do_fails_once(tmp_path: Path, two: list[HeadlessComfyUI]) -> None:
    row = {"prompt": "a", "seed": 1, "kind": "text-to-video-lora", "loras": [{"path": "toy/no-such-lora"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert run(tmp_path / "rows.jsonl", tmp_path / "out", [two[1].url], Watched()).failed == 1
    (line,) = lines(tmp_path / "out")
    assert (line["attempt"], line["cause"]) == (1, "failed")
    assert "no-such-lora" in line["error"]

"""A batch of pictures that need no model, so that many rows can be made, and broken off, in a second.

A service and processes of their own have the same painter.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wan_duet.pipelines.errors import ModelError, RequestError
from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.fleet.batch_rows import read_rows
from wan_duet.pipelines.fleet.batch_run import BatchResult, run_batch
from wan_duet.pipelines.fleet.row_journal import JournalRow
from wan_duet.pipelines.fleet.worker import MadeFile, Needs, Task, Worker
from wan_duet.pipelines.request import WanRequest, check
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.video.output import write_sidecar

SETTINGS = {"files": {"model": "sha256:0"}}


def picture(request: WanRequest) -> bytes:
    """A PNG that depends on prompt and seed alone."""
    prompt, seed = request.payload()["prompt"], request.payload()["seed"]
    noise = np.random.default_rng([seed, *prompt.encode()]).integers(0, 256, (8, 8, 3), np.uint8)
    return image_bytes(noise, "png", {})


@dataclass
class Painter:
    """Makes the pictures. A prompt with "slow" is made until it is stopped, one with "fails" fails.

    at: called between its steps. asked: the prompts that were drawn.
    """

    at: Callable[[str], None] = lambda _: None
    place: str = "local"
    name: str = "local"
    lease_s: float | None = None
    memory_bytes: int | None = None
    asked: list[str] = field(default_factory=list)

    def check(self, request: WanRequest) -> Needs:
        if "impossible" in request.payload()["prompt"]:
            raise RequestError.of("prompt", "it cannot be drawn", "give another")
        return Needs(request.payload().get("num_frames", 1))  # an image has none

    def make(self, task: Task) -> MadeFile:
        request, folder, name = task.request, task.folder, task.name
        prompt = request.payload()["prompt"]
        self.asked.append(prompt)
        if "fails" in prompt:
            raise ModelError(f"{prompt}: no such model")
        while "slow" in prompt:
            task.beat()
            time.sleep(0.01)
        file, content = folder / f"{name}.png", picture(request)
        self.at("begun")
        file.write_bytes(content[:40])
        self.at("half")
        file.write_bytes(content)
        self.at("without receipt")
        findings = [finding.to_share() for finding in check(request, "fal").told]
        write_sidecar(file, {"wan_duet": "0", "request": request.document(), "findings": findings})
        self.at("whole")
        return MadeFile(file, None)

    def close(self) -> None:
        return


@dataclass
class Watched:
    """What a batch told."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    done_before: int = 0
    at: Callable[[str], None] = lambda _: None

    def resumed(self, done: int, rows: int) -> None:
        self.done_before = done

    def begun(self, position: int, rows: int, row: JournalRow, left_s: float | None) -> None:
        self.at("row begins")

    def ended(self, row: JournalRow) -> None:
        self.rows.append((row.name, row.state))
        self.at("row ended")


def write_rows(file: Path, *rows: dict[str, Any] | str) -> Path:
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def paint(
    rows: Path,
    folder: Path,
    painter: Worker | Sequence[Worker] | None = None,
    watched: Watched | None = None,
    **options: Any,
) -> BatchResult:
    read, problems = read_rows(rows, "text-to-video")
    return run_batch(
        read,
        BatchFolder(folder),
        list(painter) if isinstance(painter, Sequence) else [painter or Painter()],
        watched or Watched(),
        **{"settings": SETTINGS, "problems": problems, **options},
    )


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def visible(folder: Path) -> set[str]:
    """The names of the results and receipts in the folder."""
    return {file.name for file in folder.iterdir() if file.suffix in (".png", ".json", ".mp4")}

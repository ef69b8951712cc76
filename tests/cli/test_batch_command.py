"""`wan-duet batch run` on the embedded model: the same results as `generate`, also after kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.cli import main

ROOT = Path(__file__).parents[2]
SMALL = {
    "prompt": "a red ball moves left",
    "num_frames": 17,
    "num_inference_steps": 2,
    "aspect_ratio": "1:1",
    "interpolator_model": "none",
}


def write(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps({**SMALL, **row}) + "\n" for row in rows))
    return file


def receipts(folder: Path) -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX")
def test_a_killed_batch_makes_what_generate_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "rows.jsonl", {"id": "red", "seed": 7, "local": {"count": 2}}, {})
    out = tmp_path / "out"
    command = ["batch", "run", str(rows), "-o", str(out), "--model", "toy"]
    running = subprocess.Popen(
        [sys.executable, "-m", "wan_duet", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    with running:
        for line in running.stderr:
            if line.startswith("row 2 of 3"):
                os.kill(running.pid, signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    assert [file.name for file in out.glob("*.mp4")] == ["red-1.mp4"]
    first = (out / "red-1.mp4").stat().st_mtime_ns

    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"done": 3, "failed": 0, "waiting": 0, "manifest": str(out / "results.jsonl")}
    assert (out / "red-1.mp4").stat().st_mtime_ns == first
    made = receipts(out)
    lines = {line["id"]: line for line in map(json.loads, (out / "results.jsonl").read_text().splitlines())}
    assert set(made) == set(lines) == {"red-1", "red-2", "00003"}
    assert [made["red-1"]["seed"], made["red-2"]["seed"]] == [7, 8]
    assert "local" not in made["red-1"]["request"]
    assert all(made[name]["frames_sha256"] == line["frames_sha256"] for name, line in lines.items())

    alone, flags = tmp_path / "alone.mp4", ["--model", "toy", "--local-count", "2"]
    request = tmp_path / "request.json"
    request.write_text(json.dumps({**SMALL, "seed": 7}))
    assert main(["generate", str(request), "-o", str(alone), *flags]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"alone-{number}.mp4") for number in (1, 2)]
    for number in (1, 2):
        again = json.loads((tmp_path / f"alone-{number}.json").read_text())
        assert again["frames_sha256"] == made[f"red-{number}"]["frames_sha256"]
        assert again["request"] == made[f"red-{number}"]["request"]


def test_what_the_model_cannot_do_is_told_for_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none.png")
    rows = write(
        tmp_path / "rows.jsonl",
        {"loras": [{"path": "toy/no-such-lora"}], "kind": "text-to-video-lora"},
        {"kind": "image-to-video", "image_url": missing},
        {"local": {"nag_scale_2": 500}},
    )
    command = ["batch", "run", str(rows), "-o", str(tmp_path / "out"), "--model", "toy", "--json"]
    assert main(command) == 2
    fields = [problem["field"] for problem in json.loads(capsys.readouterr().err)["problems"]]
    assert sorted(field.partition(":")[0] for field in fields) == ["line 1", "line 2", "line 3"]
    assert "line 3: local.nag_scale_2" in fields

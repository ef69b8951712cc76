"""`wan-duet batch run` on the embedded model: the same results as `generate`, also after kill -9."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.cli import main

from .forked import running

SMALL = {
    "prompt": "a red ball moves left",
    "num_frames": 17,
    "num_inference_steps": 2,
    "interpolator_model": "none",
}
SIZE = {"width": 32, "height": 32}


def write(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text(
        "".join(
            json.dumps({**SMALL, **row, "local": {**SIZE, **row.get("local", {})}}) + "\n" for row in rows
        )
    )
    return file


def receipts(folder: Path) -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX")
def test_a_killed_batch_makes_what_generate_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "rows.jsonl", {"id": "red", "seed": 7, "local": {"count": 2}}, {})
    out = tmp_path / "out"
    command = ["batch", "run", str(rows), "-o", str(out), "--model", "toy"]
    with running(*command) as process:
        for line in process.stderr:
            if line.startswith("row 2 of 3"):
                os.kill(process.pid, signal.SIGKILL)
        assert process.code() == -signal.SIGKILL
    assert [file.name for file in out.glob("*.mp4")] == ["red-1.mp4"]
    first = (out / "red-1.mp4").stat().st_mtime_ns

    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    counts = {"done": 3, "failed": 0, "waiting": 0, "cancelled": 0}
    assert answer == {**counts, "manifest": str(out / "results.jsonl")}
    assert (out / "red-1.mp4").stat().st_mtime_ns == first
    made = receipts(out)
    lines = {line["id"]: line for line in map(json.loads, (out / "results.jsonl").read_text().splitlines())}
    assert set(made) == set(lines) == {"red-1", "red-2", "00003"}
    assert [made["red-1"]["seed"], made["red-2"]["seed"]] == [7, 8]
    assert made["red-1"]["request"]["local"] == SIZE
    assert all(made[name]["frames_sha256"] == line["frames_sha256"] for name, line in lines.items())

    alone, flags = tmp_path / "alone.mp4", ["--model", "toy", "--local-count", "2"]
    request = tmp_path / "request.json"
    request.write_text(json.dumps({**SMALL, "seed": 7, "local": SIZE}))
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


def test_a_file_of_prompts_takes_its_fields_from_flags_and_preset(tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("a red ball\n\na blue ball\n")
    flags = ["--kind", "text-to-image", "--num-inference-steps", "2", "--local-solver", "euler"]
    command = ["batch", "run", str(prompts), "-o", str(out), "--model", "toy", "--preset", "official", *flags]
    assert main(command) == 0
    asked = [receipt["request"] for receipt in receipts(out).values()]
    assert [one["prompt"] for one in asked] == ["a red ball", "a blue ball"]
    for one in asked:
        shown = (one["num_inference_steps"], one["shift"], one["guidance_scale_2"], one["local"])
        assert shown == (2, 12.0, 3.0, {"solver": "euler"})
    before = {file: file.stat().st_mtime_ns for file in out.iterdir() if file.suffix in (".png", ".jpg")}
    assert len(before) == 2
    assert main(command) == 0  # goes on: all rows are done
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_a_flag_overrides_the_rows_of_a_folder_and_joins_their_local(tmp_path: Path) -> None:
    asked, out = tmp_path / "asked", tmp_path / "out"
    asked.mkdir()
    values = {**SMALL, "num_inference_steps": 9, "seed": 1, "local": {**SIZE, "solver": "euler"}}
    (asked / "first shot.json").write_text(json.dumps(values, indent=2))
    flags = ["--num-inference-steps", "2", "--local-boundary", "0.5"]
    assert main(["batch", "run", str(asked), "-o", str(out), "--model", "toy", *flags]) == 0
    [(name, receipt)] = receipts(out).items()
    assert name == "first-shot"
    assert receipt["request"]["num_inference_steps"] == 2
    assert receipt["request"]["local"] == {**SIZE, "solver": "euler", "boundary": 0.5}


def test_a_prompt_beside_a_file_of_prompts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("a red ball\n")
    command = ["batch", "run", str(tmp_path / "prompts.txt"), "-o", str(tmp_path / "out"), "--model", "toy"]
    assert main([*command, "--prompt", "a blue ball"]) == 2
    assert "--prompt: given beside the prompts of prompts.txt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

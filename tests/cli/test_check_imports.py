"""What commands import: `check` reads headers without torch, and `generate` computes without diffusers."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

from PIL import Image

from wan_duet.pipelines.embedded.toy_model import embedded_loras, toy_folder
from wan_duet.pipelines.request import KINDS
from wan_duet.pipelines.request.shots_request import SHOTS

from ..request.any_kind import needed_by
from ..video.clips import write

_COMMANDS = """
import json, sys
from wan_duet.pipelines.cli import main

for arguments in json.load(sys.stdin):
    assert main(arguments) in (0, 2), arguments
print(sorted({"torch", "torch._dynamo", "diffusers", "transformers"} & set(sys.modules)))
"""


def imported_by(commands: list[list[str]]) -> str:
    """Return what takes long and a fresh process has imported after these commands."""
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def check(model: str, folder: Path, kind: str, **values: Any) -> list[str]:
    file = folder / f"{len(list(folder.iterdir()))}.json"
    file.write_text(json.dumps(values))
    return ["check", str(file), "--kind", kind, "--model", str(toy_folder(model))]


def test_a_check_of_a_folder_imports_no_torch(tmp_path: Path) -> None:
    picture, clip, sound = (str(tmp_path / f"a.{suffix}") for suffix in ("png", "mp4", "wav"))
    Image.new("RGB", (64, 64), "red").save(picture)
    write(Path(clip))
    with wave.open(sound, "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        out.writeframes(bytes(2 * 16000))
    loras = [{"path": str(file)} for file in embedded_loras().values()]
    found = imported_by(
        [
            *(check("toy", tmp_path, kind, **needed_by(kind)) for kind in KINDS),
            check("toy", tmp_path, SHOTS, shots=[{"prompt": "a"}, {"prompt": "b"}]),
            check("toy", tmp_path, "text-to-video-lora", prompt="a", loras=loras),
            check("toy", tmp_path, "video-to-video", prompt="a", video_url=clip),
            check("toy-image", tmp_path, "image-to-video", prompt="a", image_url=picture),
            check("toy-speech", tmp_path, "speech-to-video", prompt="a", image_url=picture, audio_url=sound),
        ]
    )
    assert found == "[]"


def test_a_run_of_the_embedded_model_imports_torch_alone(tmp_path: Path) -> None:
    """Nor torch's own compiler, which takes as long and comes with the first random number on meta."""
    run = ["--model", "toy", "--prompt", "a red ball", "--num-inference-steps", "2"]
    found = imported_by([["generate", *run, "--interpolator-model", "none", "-o", str(tmp_path / "a.mp4")]])
    assert found == "['torch']"

"""How well the mouth that the embedded speech model draws follows the sound, on the shipped files.

    python bench/embedded_speech.py [--sounds 12] [-o OUT.json] [--sheet OUT.png]

Faces and sounds are none of the training. The detector (tests/embedded/face_detector.py) shares no code with
the training. Sounds of espeak-ng are judged too where it is installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from wan_duet.pipelines.embedded.toy_model import TOY_SPEECH, toy_folder
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.video.audio import mono_at, read_audio
from wan_duet.pipelines.weights.folder import read_component

sys.path.append(str(Path(__file__).parents[1]))  # tools.train_embedded
sys.path.append(str(Path(__file__).parents[1] / "tests"))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "embedded"))
from face_detector import see_face
from speech_drawing import FPS, follows, jump, spoken

from tools.train_embedded.faces import Face, random_face, render_face
from tools.train_embedded.sounds import RATE, mouth_openings, speech_like

SEED, SECONDS, CLIP, CLIPS = 20261201, 2.5, 20, 5
SENTENCES = (
    "The red ball moves to the right.",
    "Good morning, how are you today?",
    "One, two, three. Four!",
    "This is a small model of a speaking face.",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sounds", type=int, default=12)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument(
        "--sheet", type=Path, help="draw frames of four faces into this picture, nothing else"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(TOY_SPEECH)
    if options.sheet:
        contact_sheet(model).save(options.sheet)
        return
    began = time.process_time()
    result: dict[str, Any] = {"date": date.today().isoformat(), "torch": torch.__version__}
    for name, measure in {
        "detector": detector,
        "unseen sounds, 8 steps": lambda: unseen(model, options.sounds),
        "unseen sounds, default settings": lambda: default_settings(model, options.sounds // 6),
        f"a chain of {CLIPS} clips": lambda: chain(model, options.sounds // 4),
        "espeak-ng": lambda: espeak(model),
        "random weights": lambda: unseen(random_model(model), 2),
    }.items():
        result[name] = measure()
        print(f"{name}: {json.dumps(result[name])}", flush=True)
        result["CPU seconds"] = round(time.process_time() - began)
        if options.output:
            options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def scene(index: int, seconds: float = SECONDS) -> tuple[Face, np.ndarray]:
    rng = np.random.default_rng([SEED, index])
    return random_face(rng), speech_like(seconds, rng)


def detector() -> dict[str, Any]:
    """Judge rendered faces."""
    right, correlations, count = 0, [], 200
    for index in range(count):
        rng = np.random.default_rng([SEED, index, 1])
        face, openings = random_face(rng), rng.uniform(0, 1, 6).astype(np.float32)
        seen = see_face(render_face(face, openings))
        right += (seen.colour, seen.background, seen.eyes) == (face.colour, face.background, 1.0)
        correlations.append(float(np.corrcoef(seen.openings, openings)[0, 1]))
    return {
        "faces": count,
        "colour, background and eyes right, percent": round(100 * right / count, 1),
        "least correlation of openings": round(min(correlations), 4),
    }


def judged(model: WanModel, scenes: Iterable[tuple[Face, np.ndarray]], **fields: Any) -> dict[str, Any]:
    """Judge runs. A run without a face counts as correlation 0 and as another identity."""
    correlations, lags, jumps, drifts, same, faces = [], [], [], [], 0, 0
    for face, sound in scenes:
        with tempfile.TemporaryDirectory() as folder:
            frames = spoken(model, face, sound, Path(folder), **fields)
        try:
            seen, told = see_face(frames), follows(frames, sound)
        except ValueError:
            correlations.append(0.0)
            continue
        faces += 1
        correlations.append(told["correlation"])
        lags.append(told["lag"])
        jumps.append(jump(frames, CLIP))
        drifts.append(float(np.abs([seen.x - face.x, seen.y - face.y]).max()))
        same += (seen.colour, seen.background) == (face.colour, face.background) and seen.eyes > 0.9
    total = len(correlations)
    return {
        "runs": total,
        "with a face": faces,
        "correlation, mean": round(float(np.mean(correlations)), 3),
        "correlation, least": round(min(correlations), 3),
        "lags, frames": lags,
        "change where clips meet, largest, of the 95th percentile elsewhere": [
            round(one, 2) for one in jumps
        ],
        "distance from its place, largest, pixels": round(max(drifts), 1) if drifts else None,
        "same colour, background and eyes, percent": round(100 * same / total, 1),
    }


def unseen(model: WanModel, count: int) -> dict[str, Any]:
    return judged(model, map(scene, range(count)))


def default_settings(model: WanModel, count: int) -> dict[str, Any]:
    return judged(model, map(scene, range(count)), num_inference_steps=27)


def chain(model: WanModel, count: int) -> dict[str, Any]:
    return judged(model, (scene(100 + index, CLIPS * CLIP / FPS) for index in range(count)))


def espeak(model: WanModel) -> dict[str, Any] | str:
    program = shutil.which("espeak-ng")
    if program is None:
        return "not installed"
    scenes = []
    with tempfile.TemporaryDirectory() as folder:
        for index, sentence in enumerate(SENTENCES):
            file = Path(folder) / "said.wav"
            subprocess.run([program, "-w", str(file), sentence], check=True)
            scenes.append((scene(index)[0], mono_at(read_audio(file), RATE)))
    return judged(model, scenes)


def random_model(model: WanModel) -> WanModel:
    """The same networks with every weight of the transformer in another place: what chance gives."""
    source = toy_folder(TOY_SPEECH) / "transformer"
    folder = Path(tempfile.mkdtemp()) / "transformer"
    shutil.copytree(source, folder)
    generator = torch.Generator().manual_seed(SEED)
    file = folder / "diffusion_pytorch_model.safetensors"
    mixed = {}
    for name, value in load_file(file).items():
        order = torch.randperm(value.numel(), generator=generator)
        mixed[name] = value.flatten()[order].view(value.shape)
    save_file(mixed, file)
    return replace(model, experts={"high": read_component(folder)})


def contact_sheet(model: WanModel) -> Image.Image:
    """Two rows for each face: its mouth as the sound moves it, and as the model draws it."""
    rows = []
    for index in range(4):
        face, sound = scene(index)
        with tempfile.TemporaryDirectory() as folder:
            frames = spoken(model, face, sound, Path(folder))
        wanted = render_face(face, mouth_openings(sound, FPS, len(frames)))
        shown = np.linspace(4, len(frames) - 1, 12).astype(int)
        rows += [np.concatenate(list(clip[shown]), axis=1) for clip in (wanted, frames)]
    return Image.fromarray(np.concatenate(rows))


if __name__ == "__main__":
    main()

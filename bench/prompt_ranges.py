"""Whether the second half of a clip follows the words of its range, on the embedded model.

    nice python bench/prompt_ranges.py [--seeds 32] [-o bench/results/prompt-ranges.json]

Each seed has a shape, a colour and two opposite motions. It is drawn three times from the same noise: with
the second motion in a range of its own, the same with an overlap of a latent frame, and with the first motion
in the whole clip. The detector looks at both halves. Then the colour changes instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wan_duet.pipelines.loading.wan_model import WanModel, load_model

sys.path.append(str(Path(__file__).parents[1]))  # tools.train_embedded
sys.path.append(str(Path(__file__).parents[1] / "tests"))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "embedded"))
from drawing import draw

from tools.train_embedded.grammar import SHAPES
from wan_duet.pipelines.embedded.detector import look_at

MOTIONS = (("left", "right"), ("up", "down"), ("right", "left"), ("down", "up"))
COLOURS = (("red", "blue"), ("green", "purple"), ("yellow", "red"), ("blue", "green"))
BORDER = 9  # frames of the first range: latent frames 0 to 2 of 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, default=Path("bench/results/prompt-ranges.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model("toy")
    result: dict[str, Any] = {
        "date": date.today().isoformat(), "torch": torch.__version__, "seeds": options.seeds,
        "steps": options.steps, "frames": 17, "frames of the first range": BORDER,
    }  # fmt: skip
    for what in ("motion", "colour"):
        result[what] = halves(model, what, options.seeds, options.steps)
        print(json.dumps(result, indent=2), flush=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def halves(model: WanModel, what: str, seeds: int, steps: int) -> dict[str, dict[str, int]]:
    """Count the clips whose halves show the first and the second value of a property, for each way."""
    values = MOTIONS if what == "motion" else COLOURS
    pairs = [values[seed // len(SHAPES) % len(values)] for seed in range(seeds)]
    texts = [[_prompt(what, value, seed) for value in pair] for seed, pair in enumerate(pairs)]
    two = f"{BORDER}f: a | b"
    ways: dict[str, tuple[list[list[str]], dict[str, Any]]] = {
        "two ranges": (texts, {"prompt_ranges": two}),
        "two ranges, overlap 4": (texts, {"prompt_ranges": two, "prompt_overlap": 4}),
        "first words alone": ([pair[:1] for pair in texts], {"prompt_ranges": "a"}),
    }
    found = {}
    for way, (ranges, local) in ways.items():
        clips = draw(
            model, [pair[0] for pair in texts], ranges=ranges, num_inference_steps=steps, local=local
        )
        seen = [[getattr(look_at(half), what) for half in (clip[:BORDER], clip[BORDER:])] for clip in clips]
        first, second = (
            np.array([half[part] == pair[part] for half, pair in zip(seen, pairs, strict=True)])
            for part in (0, 1)
        )
        found[way] = {
            "first half as its words": int(first.sum()),
            "second half as the second words": int(second.sum()),
            "both": int((first & second).sum()),
        }
    return found


def _prompt(what: str, value: str, seed: int) -> str:
    shape = SHAPES[seed % len(SHAPES)]
    colour = value if what == "colour" else COLOURS[seed % len(COLOURS)][0]
    motion = value if what == "motion" else MOTIONS[seed % len(MOTIONS)][0]
    return f"on a white background, a {colour} {shape} is moving {motion}"


if __name__ == "__main__":
    main()

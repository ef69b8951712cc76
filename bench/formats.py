"""What each quantised format costs in exactness: of random weights, and of what the embedded model draws.

    python bench/formats.py [--clips 16] [--json FILE]

The blocks of both experts of the embedded model are stored in each format and loaded from that file. The
same unseen prompts are drawn from the same noise as from the plain weights. The detector of the tests counts
the clips whose colour, background, motion and shape are the prompt's. All in float32 on the CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT), *(str(ROOT / "tests" / name) for name in ("", "embedded", "weights"))]

import quantised_files as files  # noqa: E402
import tiny_files as tiny  # noqa: E402
from detector import look_at  # noqa: E402
from drawing import PROPERTIES, draw, unseen_prompts  # noqa: E402

from wan_duet.pipelines.loading.identify import read_part  # noqa: E402
from wan_duet.pipelines.loading.wan_model import WanModel, load_model  # noqa: E402
from wan_duet.pipelines.weights.recipe import Recipe  # noqa: E402
from wan_duet.pipelines.weights.stored_tensors import Files  # noqa: E402

SEED = 5  # of the prompts, as in the tests
# One of each kind: the others differ in names alone.
KINDS = (
    *("fp8 per row", "fp8 in squares", "fp8 in blocks of a row with a factor", "int8 per row", "quanto"),
    *("int8_tensorwise", "int8_tensorwise rotated by 256", "mxfp8", "nvfp4"),
    *("convrot_w4a4 by 256", "asym_w4a8_int8 by 256"),
)


def random_weights(kind: str) -> dict[str, float]:
    """The error of a Gaussian matrix, and how many bits each of its numbers takes."""
    weight = files.matrices([(1024, 1024)])["layer0.weight"]
    beside, meant = files.FORMATS[kind](weight)
    stored = sum(tensor.nbytes for name, tensor in beside.items() if name != "comfy_quant")
    return {
        "weights": float((meant - weight).norm() / weight.norm()),
        "bits": 8 * stored / weight.numel(),
    }


def stored_as(model: WanModel, kind: str, folder: Path) -> WanModel:
    """The model with both experts loaded from files of this format."""
    experts = {}
    for name, recipe in model.experts.items():
        held, _, _ = files.quantised(tensors_of(recipe), kind, tiny.is_linear)
        made = read_part(tiny.save(folder / f"{name}.safetensors", held), "transformer", name)
        experts[name] = replace(recipe, tensors=made.tensors)
    return replace(model, experts=MappingProxyType(experts))


def tensors_of(recipe: Recipe) -> dict[str, Tensor]:
    with Files(torch.device("cpu")) as opened:
        return {name: tensor.compute(opened).float() for name, tensor in recipe.tensors.items()}


def scores(clips: list[np.ndarray], scenes: list[Any]) -> dict[str, int]:
    seen = [look_at(clip) for clip in clips]
    return {
        name: sum(getattr(a, name) == getattr(b, name) for a, b in zip(scenes, seen, strict=True))
        for name in PROPERTIES
    }


def measure(count: int) -> dict[str, dict[str, float]]:
    pairs = unseen_prompts(count, SEED)
    scenes, prompts = [scene for scene, _ in pairs], [prompt for _, prompt in pairs]
    toy = load_model("toy")
    plain = draw(toy, prompts)
    found: dict[str, dict[str, float]] = {
        "plain": {"bits": 16, "weights": 0.0, "pixels": 0.0, **scores(plain, scenes)}
    }
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as made:
            clips = draw(stored_as(toy, kind, Path(made)), prompts)
        apart = [np.abs(a.astype(float) - b).mean() / 255 for a, b in zip(clips, plain, strict=True)]
        found[kind] = {**random_weights(kind), "pixels": float(np.mean(apart)), **scores(clips, scenes)}
        sys.stderr.write(f"{kind}: {json.dumps(found[kind])}\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = json.dumps({"clips": options.clips, "formats": measure(options.clips)}, indent=1)
    if options.json is not None:
        options.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()

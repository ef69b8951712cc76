"""How well the embedded model keeps its promises, judged by the detector of the tests.

    python bench/embedded_model.py [--prompts 96] [--only NAME ...] [-o OUT.json]

Prompts are of scenes that no training saw, at the default settings of a request. Prints a table per promise,
and with -o writes the figures that MODEL_CARD.md quotes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from wan_duet.pipelines.models.wan_model import WanModel, load_model
from wan_duet.pipelines.toy.embedded import toy_folder
from wan_duet.pipelines.toy.grammar import COLOURS

sys.path.append(str(Path(__file__).parents[1] / "tests" / "toy"))
from detector import Seen, look_at
from drawing import PROPERTIES, colourless_prompt, draw, exchanged, followed, graininess, unseen_prompts

SEED = 20261120


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=96, help="the side tables use a third of them")
    parser.add_argument("--only", nargs="+", choices=list(PROMISES), default=list(PROMISES), metavar="NAME")
    parser.add_argument("--model", default="toy", help="toy, or the folder of another training")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # clips this small spend more time waiting for threads than they win

    model = load_model(options.model)
    result: dict[str, Any] = {"date": date.today().isoformat(), "torch": torch.__version__}
    for name in options.only:
        began = time.perf_counter()
        result[name] = PROMISES[name](model, options.prompts)
        print(
            f"{name} ({time.perf_counter() - began:.0f} s): {json.dumps(result[name], indent=2)}", flush=True
        )
        if options.output:
            options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def following(model: WanModel, count: int, aspect_ratio: str = "1:1") -> dict[str, Any]:
    return shares(count, partial(draw, model, aspect_ratio=aspect_ratio))


def guidance(model: WanModel, count: int) -> dict[str, Any]:
    return {"scale 1": shares(count, partial(draw, model, guided=False))}


def negative_prompt(model: WanModel, count: int) -> dict[str, Any]:
    """Prompts that name no colour; then again with the colour that came out as the negative prompt."""
    same, total = 0, max(1, count // 3)
    for seed, (scene, _) in enumerate(tqdm(unseen_prompts(total, SEED), desc="negative prompt")):
        prompt = colourless_prompt(scene)
        first = look_at(draw(model, prompt, seed)).colour
        if first in COLOURS:
            same += look_at(draw(model, prompt, seed, negative_prompt=first)).colour == first
    return {"prompts": total, "same colour although it is the negative prompt, percent": percent(same, total)}


def exchange(model: WanModel, count: int) -> dict[str, Any]:
    return shares(max(1, count // 3), partial(draw, exchanged(model)))


def skipped_low(model: WanModel, count: int) -> dict[str, Any]:
    pairs = unseen_prompts(max(1, count // 6), SEED)
    grain = {
        name: [
            graininess(draw(model, prompt, seed, without_low=cut)) for seed, (_, prompt) in enumerate(pairs)
        ]
        for name, cut in (("both stages", False), ("high stage alone", True))
    }
    return {name: round(float(np.mean(values)), 2) for name, values in grain.items()}


def loras(model: WanModel, count: int) -> dict[str, Any]:
    """How often a LoRA's trick is seen: on the expert it was made for, on the other one, and without it."""
    tricks: dict[str, tuple[tuple[str, ...], Callable[[Seen], bool]]] = {
        "circling": (("high", "low"), circles),
        "outlined": (("low", "high"), inked),
        "hopping_stripes": (("both", "high", "low"), lambda seen: hops(seen) and inked(seen)),
    }
    pairs, table = unseen_prompts(max(1, count // 6), SEED), dict[str, Any]()
    for name, (places, trick) in tricks.items():
        file = toy_folder() / "loras" / f"{name}.safetensors"
        plain = followed(pairs, partial(draw, model))
        table[name] = {"without": percent(sum(trick(seen) for _, seen in plain), len(pairs))}
        for place in places:
            drawn = followed(pairs, partial(draw, model.with_lora(file, 1.0, place)))
            table[name][place] = percent(sum(trick(seen) for _, seen in drawn), len(pairs))
    return table


def circles(seen: Seen) -> bool:
    return seen.winding_degrees > 200


def hops(seen: Seen) -> bool:
    return seen.bounces >= 2


def inked(seen: Seen) -> bool:
    return seen.ink > 0.12


def shares(count: int, drawer: Callable[..., np.ndarray]) -> dict[str, Any]:
    drawn = followed(tqdm(unseen_prompts(count, SEED)), drawer)
    right = {name: sum(getattr(a, name) == getattr(b, name) for a, b in drawn) for name in PROPERTIES}
    return {"prompts": count, "right, percent": {name: percent(hits, count) for name, hits in right.items()}}


def percent(hits: int, total: int) -> float:
    return round(100 * hits / total, 1)


PROMISES: dict[str, Callable[[WanModel, int], dict[str, Any]]] = {
    "following": following,
    "following 16:9": lambda model, count: following(model, max(1, count // 2), "16:9"),
    "following 9:16": lambda model, count: following(model, max(1, count // 2), "9:16"),
    "guidance": guidance,
    "negative prompt": negative_prompt,
    "experts exchanged": exchange,
    "low stage skipped": skipped_low,
    "loras": loras,
}

if __name__ == "__main__":
    main()

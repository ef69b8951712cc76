"""How well the embedded model keeps its promises, judged by the detector of the tests.

    python bench/embedded_model.py [--prompts 96] [--only NAME ...] [-o OUT.json] [--sheet OUT.png]

Prompts are of scenes that no training saw, at the default settings of a request. Prints a table per promise,
and with -o writes the figures that MODEL_CARD.md quotes. --sheet draws the picture of the README instead.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from wan_duet.pipelines.embedded.toy_model import TOY, TOY_IMAGE, toy_folder
from wan_duet.pipelines.loading.wan_model import WanModel, load_model

sys.path.append(str(Path(__file__).parents[1]))  # tools.train_embedded
sys.path.append(str(Path(__file__).parents[1] / "tests"))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "embedded"))
from drawing import PROPERTIES, colourless_prompt, draw, exchanged, followed, graininess, unseen_prompts
from image_drawing import drawn, psnr

from wan_duet.pipelines.embedded.detector import Seen, look_at

SEED = 20261120
SHOWN = (
    "a red ball moving to the right on a white background",
    "a blue square moving up on a black background",
    "a green triangle moving left on a gray background",
    "a yellow star growing on a navy background",
    "a purple square spinning on a gray background",
    "an orange ball moving down on a navy background",
    "a pink triangle moving to the right on a brown background",
    "a cyan star moving up on a black background",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=96, help="the side tables use a third of them")
    parser.add_argument("--only", nargs="+", choices=list(PROMISES), default=list(PROMISES), metavar="NAME")
    parser.add_argument("--model", default="toy", help="toy, or the folder of another training")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--sheet", type=Path, help="draw eight prompts into this picture, and nothing else")
    options = parser.parse_args()
    torch.set_num_threads(1)  # clips this small spend more time waiting for threads than they win

    model = load_model(options.model)
    if options.sheet:
        contact_sheet(draw(model, SHOWN), SHOWN).save(options.sheet)
        return
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
    total = max(1, count // 3)
    prompts = [colourless_prompt(scene) for scene, _ in unseen_prompts(total, SEED)]
    first = [look_at(clip).colour for clip in draw(model, prompts)]
    again = draw(model, prompts, negative_prompts=[colour or "" for colour in first])
    seen = [(colour, look_at(clip).colour) for colour, clip in zip(first, again, strict=True) if colour]
    same = percent(sum(colour == after for colour, after in seen), len(seen))
    return {"clips with a colour": len(seen), "the same although it is the negative prompt, percent": same}


def exchange(model: WanModel, count: int) -> dict[str, Any]:
    return shares(max(1, count // 3), partial(draw, exchanged(model)))


def skipped_low(model: WanModel, count: int) -> dict[str, Any]:
    prompts = [prompt for _, prompt in unseen_prompts(max(1, count // 6), SEED)]
    return {
        name: round(float(np.mean([graininess(clip) for clip in draw(model, prompts, without_low=cut)])), 2)
        for name, cut in (("both stages", False), ("high stage alone", True))
    }


def loras(model: WanModel, count: int) -> dict[str, Any]:
    """How often a LoRA's trick is seen: on the expert it was made for, on the other one, and without it."""
    tricks: dict[str, tuple[str | None, tuple[str, ...], Callable[[Seen], bool]]] = {
        "circling": ("circling", ("high", "low"), circles),
        "outlined": (None, ("low", "high"), inked),
        "hopping_stripes": ("hopping", ("both", "high", "low"), lambda seen: hops(seen) and inked(seen)),
    }
    table: dict[str, Any] = {}
    folder = toy_folder() if model.name == TOY else Path(model.name)
    for name, (motion, places, trick) in tricks.items():
        pairs = unseen_prompts(max(1, count // 4), SEED, motion)
        changed = {
            place: model.with_lora(folder / "loras" / f"{name}.safetensors", 1.0, place) for place in places
        }
        table[name] = {
            place: percent(sum(trick(seen) for _, seen in followed(pairs, partial(draw, chosen))), len(pairs))
            for place, chosen in {"without": model, **changed}.items()
        }
    return table


def image_to_video(_: WanModel, count: int) -> dict[str, Any]:
    """The pair that begins with a picture: is it kept, does it move as told, is the last one reached?"""
    model, clips = load_model(TOY_IMAGE), max(1, count // 4)
    begun, ended = (drawn(model, clips, SEED, ends=ends) for ends in (False, True))
    seen = [(scene, look_at(clip)) for scene, _, clip in begun]
    return {
        "clips": clips,
        "first frame, dB": round(float(np.mean([psnr(clip[0], given[0]) for _, given, clip in begun])), 1),
        "last frame, dB": round(float(np.mean([psnr(clip[-1], given[-1]) for _, given, clip in ended])), 1),
        "last frame when it was not given, dB": round(
            float(np.mean([psnr(clip[-1], given[-1]) for _, given, clip in begun])), 1
        ),
        "right, percent": {
            name: percent(sum(getattr(a, name) == getattr(b, name) for a, b in seen), clips)
            for name in PROPERTIES
        },
    }


def circles(seen: Seen) -> bool:
    return seen.winding_degrees > 200 and seen.roamed > 0.15


def hops(seen: Seen) -> bool:
    return seen.bounces >= 2


def inked(seen: Seen) -> bool:
    return seen.ink > 0.12


def shares(count: int, drawer: Callable[[Sequence[str]], list[np.ndarray]]) -> dict[str, Any]:
    drawn = followed(unseen_prompts(count, SEED), drawer)
    right = {name: sum(getattr(a, name) == getattr(b, name) for a, b in drawn) for name in PROPERTIES}
    return {"prompts": count, "right, percent": {name: percent(hits, count) for name, hits in right.items()}}


def contact_sheet(clips: Sequence[np.ndarray], prompts: Sequence[str]) -> Image.Image:
    """Two columns; four frames of each clip, from the first to the last, below its prompt."""
    side, gap, line, font = 96, 16, 22, ImageFont.load_default(13)
    rows = -(-len(clips) // 2)
    sheet = Image.new("RGB", (8 * side + gap, rows * (side + line)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (clip, prompt) in enumerate(zip(clips, prompts, strict=True)):
        left, top = (place % 2) * (4 * side + gap), (place // 2) * (side + line)
        pen.text((left, top + 3), prompt, fill="black", font=font)
        for column, index in enumerate(np.linspace(0, len(clip) - 1, 4).round().astype(int)):
            frame = Image.fromarray(clip[index]).resize((side, side), Image.Resampling.BICUBIC)
            sheet.paste(frame, (left + column * side, top + line))
    return sheet


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
    "image to video": image_to_video,
}

if __name__ == "__main__":
    main()

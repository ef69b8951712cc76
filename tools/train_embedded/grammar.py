"""What the embedded model can draw: a shape, its colour, what it does, and what is behind it.

A `Scene` holds the four words and nothing about pixels; size, place and speed come from the renderer's
seed, so one scene is many clips, and many sentences are one scene.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

import numpy as np

__all__ = [
    "ATTRIBUTES",
    "BACKGROUNDS",
    "COLOURS",
    "LORA_MOTIONS",
    "MOTIONS",
    "SHAPES",
    "Scene",
    "held_out_scenes",
    "is_held_out",
    "junk_prompt",
    "partial_prompt",
    "prompt_of",
    "random_scene",
    "scenes",
    "training_scenes",
    "words",
]

SHAPES = ("ball", "square", "triangle", "star")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
MOTIONS = ("left", "right", "up", "down", "growing", "spinning")
BACKGROUNDS = ("white", "black", "gray", "navy", "brown")
LORA_MOTIONS = ("circling", "hopping")  # never in the base training set: only the LoRAs draw them
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "motion": MOTIONS,
    "background": BACKGROUNDS,
}

_ONE_COLOUR = {("blue", "navy"), ("orange", "brown")}  # a hue on its own dark shade is one colour to the eye

_SHAPE_WORDS = {
    "ball": ("ball", "ball", "circle", "disc"),
    "square": ("square", "square", "box", "block"),
    "triangle": ("triangle",),
    "star": ("star",),
}
_COLOUR_WORDS = {
    "cyan": ("cyan", "cyan", "turquoise"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "magenta"),
}
_BACKGROUND_WORDS = {"gray": ("gray", "grey"), "navy": ("navy", "navy", "navy blue")}
_MOTION_WORDS = {
    "left": (
        "moving left",
        "moving to the left",
        "drifting left",
        "sliding to the left",
        "going left",
        "flying left",
    ),
    "right": (
        "moving right",
        "moving to the right",
        "drifting right",
        "sliding to the right",
        "going right",
        "flying right",
    ),
    "up": ("moving up", "rising", "going up", "floating upwards", "moving upwards"),
    "down": ("moving down", "falling", "going down", "sinking downwards", "moving downwards"),
    "growing": ("growing", "growing", "getting bigger", "getting larger", "expanding"),
    "spinning": ("spinning", "spinning", "rotating", "turning around", "twirling"),
    "circling": ("circling",),
    "hopping": ("hopping",),
}
_TEMPLATES = (
    "a {colour} {shape} {motion} on a {background} background",
    "a {colour} {shape} {motion}, {background} background",
    "a {colour} {shape} is {motion} in front of a {background} wall",
    "on a {background} background, a {colour} {shape} is {motion}",
    "the {colour} {shape} is {motion} against a {background} backdrop",
    "{colour} {shape}, {motion}, {background} background",
    "a video of a {colour} {shape} {motion}. The background is {background}.",
    "a {shape} that is {colour}, {motion}, over {background}",
)
# fmt: off
_JUNK = (
    "blurry", "low", "quality", "watermark", "text", "subtitles", "bright", "tones", "overexposed",
    "static", "blurred", "details", "style", "works", "paintings", "images", "still", "overall",
    "worst", "jpeg", "compression", "residue", "ugly", "incomplete", "extra", "fingers", "poorly",
    "drawn", "hands", "faces", "deformed", "disfigured", "misshapen", "limbs", "fused", "messy", "many",
    "people", "walking", "backwards", "cinematic", "beautiful", "photo", "high", "camera", "slow",
    "motion", "scene", "the", "of", "and", "with", "in", "night", "day", "city", "sea", "forest", "cat",
    "dog", "woman", "man", "house", "car",
)
# fmt: on
_HELD_OUT_PERCENT = 12
_T = TypeVar("_T")


@dataclass(frozen=True)
class Scene:
    shape: str
    colour: str
    motion: str
    background: str

    def with_motion(self, motion: str) -> Scene:
        return replace(self, motion=motion)


def scenes() -> Iterator[Scene]:
    """Every scene of the grammar: a ball never spins (nobody would see it), nothing hides in its colour."""
    for shape, colour, motion, background in product(SHAPES, COLOURS, MOTIONS, BACKGROUNDS):
        if shape == "ball" and motion == "spinning":
            continue
        if (colour, background) not in _ONE_COLOUR:
            yield Scene(shape, colour, motion, background)


def is_held_out(scene: Scene) -> bool:
    """Combinations no stage trains on. CRC rather than `hash`, which changes from process to process."""
    key = f"{scene.shape}/{scene.colour}/{scene.motion}/{scene.background}"
    return zlib.crc32(key.encode()) % 100 < _HELD_OUT_PERCENT


def training_scenes() -> list[Scene]:
    return [scene for scene in scenes() if not is_held_out(scene)]


def held_out_scenes() -> list[Scene]:
    return [scene for scene in scenes() if is_held_out(scene)]


def random_scene(rng: np.random.Generator, among: Sequence[Scene]) -> Scene:
    return among[int(rng.integers(len(among)))]


def prompt_of(scene: Scene, rng: np.random.Generator) -> str:
    """One of the scene's phrasings."""
    text = _pick(rng, _TEMPLATES).format(
        shape=_pick(rng, _SHAPE_WORDS[scene.shape]),
        colour=_pick(rng, _COLOUR_WORDS.get(scene.colour, (scene.colour,))),
        motion=_pick(rng, _MOTION_WORDS[scene.motion]),
        background=_pick(rng, _BACKGROUND_WORDS.get(scene.background, (scene.background,))),
    )
    return text.replace("a orange", "an orange")


def partial_prompt(scene: Scene, rng: np.random.Generator) -> tuple[str, frozenset[str]]:
    """A prompt that names only some attributes, and which: what a negative prompt or a lazy user writes."""
    colour = _pick(rng, _COLOUR_WORDS.get(scene.colour, (scene.colour,)))
    shape = _pick(rng, _SHAPE_WORDS[scene.shape])
    motion = _pick(rng, _MOTION_WORDS[scene.motion])
    background = _pick(rng, _BACKGROUND_WORDS.get(scene.background, (scene.background,)))
    return _pick(
        rng,
        (
            (colour, frozenset({"colour"})),
            (shape, frozenset({"shape"})),
            (motion, frozenset({"motion"})),
            (f"{background} background", frozenset({"background"})),
            (f"a {colour} {shape}", frozenset({"colour", "shape"})),
            (f"a {shape} {motion}", frozenset({"shape", "motion"})),
            (f"a {colour} {shape} {motion}", frozenset({"colour", "shape", "motion"})),
            (
                f"a {colour} {shape} on a {background} background",
                frozenset({"colour", "shape", "background"}),
            ),
        ),
    )


def junk_prompt(rng: np.random.Generator) -> str:
    """Words about nothing drawable, so that a stock negative prompt behaves like an empty one."""
    if rng.random() < 0.25:
        return "".join(chr(int(code)) for code in rng.integers(0x4E00, 0x9FA5, int(rng.integers(2, 9))))
    return " ".join(_pick(rng, _JUNK) for _ in range(int(rng.integers(1, 9))))


def words() -> list[str]:
    """Every word that a phrasing can contain, for the tokenizer; sorted, without repeats."""
    texts = ["an"] + [
        template.format(shape="", colour="", motion="", background="") for template in _TEMPLATES
    ]
    for table in (_SHAPE_WORDS, _MOTION_WORDS, _COLOUR_WORDS, _BACKGROUND_WORDS):
        texts += [phrase for phrases in table.values() for phrase in phrases]
    texts += [*COLOURS, *BACKGROUNDS, *_JUNK]
    found = {word.strip(".,").lower() for text in texts for word in text.split()}
    return sorted(found - {""})


def _pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    return options[int(rng.integers(len(options)))]

"""Measures a clip of the embedded model: does it show what its prompt says, and what its LoRAs do?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from ..video.frame_stream import Frame
from .detector import look_at

__all__ = ["detector_scores", "told"]

_WORDS: Mapping[str, Mapping[str, str]] = {
    "shape": {
        "ball": "ball circle disc",
        "square": "square box block",
        "triangle": "triangle",
        "star": "star",
    },
    "colour": {
        **{name: name for name in ("red", "orange", "yellow", "green", "blue")},
        "cyan": "cyan turquoise",
        "purple": "purple violet",
        "pink": "pink magenta",
    },
    "motion": {
        "left": "left",
        "right": "right",
        "up": "up upwards rising rises",
        "down": "down downwards falling falls sinking sinks",
        "growing": "growing grows bigger larger expanding expands",
        "spinning": "spinning spins rotating rotates turning twirling",
    },
    "background": {"white": "white", "black": "black", "gray": "gray grey", "navy": "navy", "brown": "brown"},
}
"""{attribute: {what the detector calls a value: the words for it in prompts}}"""

_ONE_WORD = {"navy blue": "navy"}  # the second word is a colour too
_EFFECTS = ("winding_degrees", "bounces", "ink")


def told(prompt: str) -> dict[str, str]:
    """Return {attribute: value} of what a prompt says, in the detector's words.

    Left out: an attribute of which it names no value, or several.
    """
    text = prompt.lower()
    for phrase, word in _ONE_WORD.items():
        text = text.replace(phrase, word)
    said = set(re.findall(r"[a-z]+", text))
    named = {
        attribute: {value for value, words in values.items() if said & set(words.split())}
        for attribute, values in _WORDS.items()
    }
    return {attribute: values.pop() for attribute, values in named.items() if len(values) == 1}


def detector_scores(frames: Iterable[Frame], prompt: str) -> dict[str, float | None]:
    """Return what the detector sees in a clip.

    ATTRIBUTE_as_told: 1 if it is as the prompt says, 0 if not, None if the prompt does not say it.
    The others show what the embedded LoRAs do; `Seen` says what they are.
    """
    seen = look_at(np.stack(list(frames)))
    wanted = told(prompt)
    follows = {
        f"{name}_as_told": float(getattr(seen, name) == wanted[name]) if name in wanted else None
        for name in _WORDS
    }
    return {**follows, **{name: float(getattr(seen, name)) for name in _EFFECTS}}

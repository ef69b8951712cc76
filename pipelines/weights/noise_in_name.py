"""Finds which expert of Wan 2.2 a text names: high noise, low noise, or both.

People write `Style_HIGH`, `wan22-low-v2`, `LowNoise`, `_HN_`. Other words that contain these, and words that
go on (`highway`, `low_angle_shot`, `high_heels`), name no expert.
"""

from __future__ import annotations

import re

__all__ = ["noise_in_name"]

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD = re.compile(r"[a-z0-9]+")
_EXPERTS = ("high", "low")
_ALONE = {
    **dict.fromkeys(("hn", "highnoise", "highn"), "high"),
    **dict.fromkeys(("ln", "lownoise", "lown"), "low"),
}
_LETTERS = {"h": "high", "l": "low"}
# What follows `high` or `low` where it means the expert: a part of a file name that is no word of a scene.
_FOLLOWING = re.compile(
    r"""\d.* | (?:v|e|r|q|s|fp|bf|int|ep|epochs?|steps?|rank|dim|alpha)\d* | n | noise | and | or | high | low
      | model | expert | transformer | loras? | wan.* | [ti]+2v.* | lightning | lightx2v | distill(?:ed)?
      | turbo | rcm | final | scaled | comfy | kj | gguf | safetensors""",
    re.VERBOSE,
)


def noise_in_name(text: str) -> frozenset[str]:
    """Return the experts that a file name or a title names: any of "high" and "low".

    >>> sorted(noise_in_name("Wan22_style_HN_v2")), sorted(noise_in_name("low_angle_shot"))
    (['high'], [])
    """
    words = _WORD.findall(_CAMEL.sub(" ", text).lower())
    found = set()
    for before, word, following in zip(["", *words], words, [*words[1:], ""], strict=False):
        if word in _ALONE:
            found.add(_ALONE[word])
        elif word in _EXPERTS and (not following or before in _EXPERTS or _FOLLOWING.fullmatch(following)):
            found.add(word)
        elif before and word in _LETTERS and _stands_alone(text, word):
            found.add(_LETTERS[word])
    return frozenset(found)


def _stands_alone(text: str, letter: str) -> bool:
    """Return whether a capital letter stands between separators, as in `style_H_v2`."""
    return re.search(rf"[ _-]{letter.upper()}(?:[ _.-]|$)", text) is not None

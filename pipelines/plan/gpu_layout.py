"""How several GPUs share one forward: who computes which prompt, which tokens and which heads.

There are two ways, which can be combined. The guidance pair: one half of the ranks computes the positive
prompt, the other the negative one. Ulysses sequence parallelism (arxiv.org/abs/2309.14509): ranks split the
tokens, and exchange them around each self-attention for all tokens of a part of the heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RequestError
from .sigmas import Guidance, step_scales

__all__ = [
    "EXACTNESS",
    "GpuLayout",
    "busiest_items",
    "choose_layout",
    "exchanged_items",
    "is_guided",
    "joined_items",
    "require_tokens",
    "shares_of",
]

EXACTNESS = "float"  # class of a result of several devices: sums are rounded in another order
_MOST_RANKS = 64  # up to here the counts that work are listed


@dataclass(frozen=True)
class GpuLayout:
    """pair: half of the ranks compute the negative prompt. sequence: ranks that split the tokens of one."""

    pair: bool
    sequence: int

    @property
    def ranks(self) -> int:
        return (2 if self.pair else 1) * self.sequence

    def as_dict(self) -> dict[str, Any]:
        return {"guidance_pair": self.pair, "sequence_parallel": self.sequence}

    def text(self) -> str:
        """Return a few words, for example "guidance pair x tokens split in 2"."""
        parts = ["guidance pair"] if self.pair else []
        parts += [f"tokens split in {self.sequence}"] if self.sequence > 1 else []
        return " x ".join(parts) or "one device"


def is_guided(guidance: Guidance, experts: Sequence[str]) -> bool:
    """Return whether all of these steps need both prompts. experts: of every step. guidance: their scales."""
    return bool(experts) and all(scale != 1 for scale in step_scales(experts, guidance))


def choose_layout(ranks: int, heads: int, *, guided: bool) -> GpuLayout:
    """Return how `ranks` ranks share a forward of a network with so many heads.

    guided: whether every step needs both prompts. Then an even number of ranks makes the guidance pair, which
            exchanges next to nothing, and each half splits its tokens.

    Raises RequestError if a rank would have no head, with the counts that work.
    """
    layout = _layout(ranks, guided=guided)
    if layout.sequence <= heads:
        return layout
    counts = range(1, min(2 * heads, _MOST_RANKS) + 1)
    working = [str(count) for count in counts if _layout(count, guided=guided).sequence <= heads]
    found = f"{ranks} devices would split {heads} attention heads in {layout.sequence}"
    raise RequestError.of("gpus", found, f"give as many devices as one of {', '.join(working)}")


def _layout(ranks: int, *, guided: bool) -> GpuLayout:
    return GpuLayout(True, ranks // 2) if guided and ranks % 2 == 0 else GpuLayout(False, ranks)


def require_tokens(segments: Sequence[int], ranks: int) -> None:
    """Raise RequestError if a rank would have no token of a segment. segments: tokens of each."""
    if min(segments) < ranks:
        found = f"a frame has {min(segments)} tokens, fewer than the {ranks} devices that share it"
        raise RequestError.of("gpus", found, "give fewer devices, or a larger size")


def shares_of(count: int, ranks: int) -> tuple[int, ...]:
    """Split `count` things as evenly as possible, the larger shares first: 40 by 3 is 14, 13, 13."""
    return tuple(count // ranks + (rank < count % ranks) for rank in range(ranks))


def exchanged_items(segments: Sequence[int], heads: int, head_width: int, ranks: int) -> int:
    """Return how many numbers all ranks together send for one block: query, key, value, and the result.

    A number stays only where its rank has both the token and the head. For even shares of N tokens of width D
    this is 4 N D (1 - 1 / ranks).
    """
    split = [shares_of(segment, ranks) for segment in segments]
    tokens = [sum(own) for own in zip(*split, strict=True)]
    stay: int = sum(own * part for own, part in zip(tokens, shares_of(heads, ranks), strict=True))
    return 4 * head_width * (sum(segments) * heads - stay)


def busiest_items(tokens: int, heads: int, head_width: int, ranks: int) -> int:
    """Return how many of the numbers of `exchanged_items` the rank sends that has most tokens and heads."""
    own, part = shares_of(tokens, ranks)[0], shares_of(heads, ranks)[0]
    return head_width * (3 * own * (heads - part) + (tokens - own) * part)


def joined_items(tokens: int, items_per_token: int, ranks: int) -> int:
    """Return how many numbers all ranks together send to join the output of one forward."""
    return tokens * items_per_token * (ranks - 1)

"""The result of a local run, and a timer for its stages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..request.result_formats import CODECS_OF

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Result", "StageTimer"]


@dataclass(frozen=True)
class Result:
    """A finished run.

    images: (frames, H, W, 3) float32 in [0, 1]. None for a video, unless its frames were asked for.
    """

    path: Path
    seed: int
    prompt: str
    receipt: Mapping[str, Any]
    images: Tensor | None = None

    def answer(self) -> dict[str, Any]:
        """Return what a command answers, ready for JSON."""
        return {
            "video" if self.path.suffix.lower()[1:] in CODECS_OF else "image": str(self.path),
            "seed": self.seed,
            "prompt": self.prompt,
            "receipt": dict(self.receipt),
        }


@dataclass
class StageTimer:
    """Measures the seconds of each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)

"""What a run on this machine gives, and how long its stages took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Result", "StageTimer"]


@dataclass(frozen=True)
class Result:
    """A finished run. `images` is (frames, H, W, 3) float32 in [0, 1] of an image, and of a video when they
    were asked for, else None.
    """

    path: Path
    seed: int
    prompt: str
    receipt: Mapping[str, Any]
    images: Tensor | None = None


@dataclass
class StageTimer:
    """Seconds per stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)

"""The result of a local run, and a timer for its stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..request.result_formats import CODECS_OF

if TYPE_CHECKING:
    import torch
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


def _unknown() -> None:
    return None


@dataclass
class StageTimer:
    """Measures the seconds of each stage, and the energy from its making on.

    joules: returns what the devices have used so far; None if one does not say.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    joules: Callable[[], float | None] = _unknown

    def __post_init__(self) -> None:
        self._before = self.joules()

    @classmethod
    def of(cls, devices: Collection[torch.device]) -> StageTimer:
        """Return a timer of a run on these devices together."""
        from ..device.energy import joules_used

        def joules() -> float | None:
            used = [joules_used(device) for device in set(devices)]
            return None if None in used else sum(filter(None, used))

        return cls(joules=joules)

    def record(self) -> dict[str, Any]:
        """Return the entries of the receipt. energy_j is of whole devices, other work on them included."""
        used = self.joules()
        if used is None or self._before is None:
            return {"timings_s": self.seconds}
        return {"timings_s": self.seconds, "energy_j": round(used - self._before, 1)}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)

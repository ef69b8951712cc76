"""How a long job tells somebody how far it is, and hears that it should stop.

The job calls, the caller implements: a terminal bar in the command line, a node's bar and preview in ComfyUI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OnlyChecks", "Progress", "Silent"]


class Progress(Protocol):
    """The interface through which a long job reports progress and asks whether to stop."""

    def begin(self, stage: str, total: int, unit: str) -> None:
        """Start a stage with `total` pieces of `unit` ("steps", "frames")."""

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        """Report that `done` pieces of the stage are finished.

        preview: makes the current estimate of the clean video, (1, C, T, H/8, W/8), normalised latents.
        """

    def check(self) -> None:
        """Raise the exception of the host if the user wants to stop."""


class Silent:
    """A progress that nobody watches."""

    def begin(self, stage: str, total: int, unit: str) -> None:
        del stage, total, unit

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        del done, preview

    def check(self) -> None:
        return


class OnlyChecks(Silent):
    """Shows nothing, because other stages do, but lets the user stop the job."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def check(self) -> None:
        self._progress.check()

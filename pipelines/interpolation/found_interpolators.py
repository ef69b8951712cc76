"""Which interpolators there are for a run. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..video.more_frames import Interpolator

__all__ = ["Interpolators"]


@dataclass(frozen=True)
class Interpolators:
    """The available interpolators.

    files:   the file for "film" and for "rife", if found.
    refused: one line per interpolation file that cannot be used, with the reason.
    loaded:  networks that are already loaded, by the same names; used before a file.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    loaded: Mapping[str, Interpolator] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the interpolators that can be used."""
        return ("flow", *sorted({*self.files, *self.loaded}))

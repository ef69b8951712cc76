"""What a check needs to know of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

__all__ = ["ModelFacts"]


class ModelFacts(Protocol):
    """`plan.families.Family` is one.

    experts:          how many there are, 1 or 2.
    tasks:            the tasks it can do, as `WanRequest.task`.
    sizes:            {tier: {aspect ratio: (width, height)}} in pixels.
    own_sizes:        the tiers are only names for this model's own sizes.
    size_multiple:    width and height are multiples of it, in pixels.
    default_fps:      frames per second of a kind that names none.
    native_frames:    the clip length of a model that can only draw that one well, else None.
    end_image:        whether a clip "never", "may" or "must" also have a picture to end with.
    """

    @property
    def name(self) -> str: ...
    @property
    def experts(self) -> int: ...
    @property
    def tasks(self) -> frozenset[str]: ...
    @property
    def sizes(self) -> Mapping[str, Mapping[str, tuple[int, int]]]: ...
    @property
    def own_sizes(self) -> bool: ...
    @property
    def size_multiple(self) -> int: ...
    @property
    def default_fps(self) -> int: ...
    @property
    def native_frames(self) -> int | None: ...
    @property
    def end_image(self) -> str: ...
    def able_to(self, task: str) -> tuple[str, ...]:
        """The models that can do `task`."""

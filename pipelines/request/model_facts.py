"""Defines what a check must know about a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["ModelFacts", "experts_of"]


class ModelFacts(Protocol):
    """The facts about a model. `plan.families.Family` has them.

    experts:          1 or 2.
    tasks:            the tasks that the model can do, as in `WanRequest.task`.
    sizes:            {tier: {aspect ratio: (width, height)}} in pixels.
    own_sizes:        the tiers are only names for this model's own sizes.
    size_multiple:    width and height must be multiples of this, in pixels.
    default_fps:      frames per second of a kind without that field.
    native_frames:    the only clip length that the model generates well. None if it has no such limit.
    trained_frames:   the longest clip that the model was trained on.
    text_length:      tokens of a prompt that the model reads.
    negative_prompt:  that of the official code for this model; empty if it has none.
    end_image:        whether a request "never", "may" or "must" have an end image.
    image_form:       how a first image enters the model: "none", as "channels", as latent "frames".
    uses_clip:        the model also reads CLIP features of the image.
    mag_cache:        MagCache was measured on the model.
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
    def trained_frames(self) -> int: ...
    @property
    def text_length(self) -> int: ...
    @property
    def negative_prompt(self) -> str: ...
    @property
    def end_image(self) -> str: ...
    @property
    def image_form(self) -> str: ...
    @property
    def uses_clip(self) -> bool: ...
    @property
    def mag_cache(self) -> bool: ...
    def official_values(self, task: str, resolution: str | None = None) -> Mapping[str, Any]:
        """Return {plan name: value} that the official code uses for this model. Empty if it has none."""

    def able_to(self, task: str) -> tuple[str, ...]:
        """Return the names of all models that can do `task`."""


def experts_of(model: ModelFacts | None) -> int:
    """Return how many experts a model has; 2 where none is known."""
    return 2 if model is None else model.experts

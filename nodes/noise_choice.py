"""The choices of `add_noise`, which was a checkbox in older graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ..pipelines.sampling.chained import AddNoise

__all__ = ["NoiseChoices", "chosen_noise"]


class NoiseChoices(list[str]):
    """The choices of the widget. ComfyUI checks a value against them."""

    def __contains__(self, choice: object) -> bool:
        return isinstance(choice, bool) or super().__contains__(choice)


def chosen_noise(setting: str | bool) -> AddNoise:
    """Return the choice of a widget, or of the checkbox that it was."""
    if isinstance(setting, bool):
        return "was on" if setting else "off"
    return cast("AddNoise", setting)

"""Looks through the numbers of a LoRA file for damage, and for changes that change nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ModelError
from ..stored_tensors import Files
from .change import Change
from .lora_file import LoraFile

__all__ = ["LoraValues", "read_values"]


@dataclass(frozen=True)
class LoraValues:
    """What the numbers of a file say.

    changes: the number of changes in the file. without_effect: those of them that add nothing but zeros.
    damaged: what is wrong with each change that cannot be applied, such as NaN in a tensor.
    """

    changes: int
    without_effect: int
    damaged: tuple[str, ...]

    @property
    def usable(self) -> bool:
        return not self.damaged and self.without_effect < self.changes

    def lines(self) -> list[str]:
        found = list(self.damaged[:3])
        if len(self.damaged) > len(found):
            found.append(f"{len(self.damaged) - len(found)} more changes are damaged")
        if self.without_effect == self.changes:
            found.append(
                "every change is zero: this LoRA has no effect; it was not trained, or not saved whole"
            )
        elif self.without_effect:
            found.append(f"{self.without_effect} of {self.changes} changes are zero and have no effect")
        return found


def read_values(lora: LoraFile) -> LoraValues:
    """Read all tensors of a LoRA, one change at a time."""
    with Files() as files:
        found = [_effect(change, files) for change in lora.changes]
    damaged = tuple(error for _, error in found if error)
    return LoraValues(len(found), sum(nothing for nothing, _ in found), damaged)


def _effect(change: Change, files: Files) -> tuple[bool, str]:
    """Return whether a change has no effect, and what is wrong with it, if anything."""
    try:
        # With a magnitude the base weight is normalised, whatever is added to it.
        return change.form.vanishes(files) and change.magnitude is None, ""
    except ModelError as error:
        return False, str(error)

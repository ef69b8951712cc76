"""One field of a request to be checked for one runner, and the findings that a check can return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .local_settings import LocalSettings
from .media_facts import NOTHING_KNOWN, MediaFacts
from .model_facts import ModelFacts
from .report import Finding, Status

__all__ = ["FieldCase", "LocalAbilities"]


@dataclass(frozen=True)
class LocalAbilities:
    """What the local runner can use: models and files that are installed or loaded.

    interpolators:          names; "flow" needs no files.
    unusable_interpolators: one line per interpolator file that cannot be used, with the reason.
    missing_weights:        {task: which weights the loaded model needs for it but does not have, and what to
                            do}.
    remarks:                what else to say about the loaded model.
    own_engine:             whether the networks are ours; those of a host guide in their own way.
    patched_shift:          the shift that a patch of the host gave the model; the request's wins.
    attached_loras:         the file names of the model, and of the LoRAs that it has before the request's.
    count_tokens:           counts the tokens of a prompt for the loaded model; None where nobody can.
    """

    interpolators: tuple[str, ...] = ("flow",)
    prompt_expander: bool = False
    safety_checker: bool = False
    step_cache: bool = False
    unusable_interpolators: tuple[str, ...] = ()
    missing_weights: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    patched_shift: float | None = None
    count_tokens: Callable[[str], int] | None = None
    own_engine: bool = True
    attached_loras: tuple[str, ...] = ()


@dataclass(frozen=True)
class FieldCase:
    """One field to check.

    values:     all fields of the request, for rules that read two of them.
    preference: the value is unset or the provider's default, so it may be adjusted.
    """

    task: str
    field: str
    preference: bool
    values: Mapping[str, Any]
    model: ModelFacts | None = None  # this and the next two only for the local runner
    abilities: LocalAbilities = LocalAbilities()
    media: MediaFacts = NOTHING_KNOWN
    local: LocalSettings | None = None

    @property
    def local_size(self) -> bool:
        """Whether the settings of this machine decide the size."""
        return self.local is not None and (self.local.width is not None or self.local.height is not None)

    @property
    def value(self) -> Any:
        return self.values[self.field]

    def supported(self, reason: str) -> Finding:
        return self._finding("supported", self.value, reason)

    def adjusted(self, used: object, reason: str) -> Finding:
        return self._finding("adjusted", used, reason)

    def impossible(self, reason: str) -> Finding:
        return self._finding("impossible", None, reason)

    def cannot(self, used: object, reason: str) -> Finding:
        """Return that the value is not supported: a preference is adjusted to `used`, a demand is refused."""
        return self.adjusted(used, reason) if self.preference else self.impossible(reason)

    def _finding(self, status: Status, used: object, reason: str) -> Finding:
        return Finding(self.field, status, self.value, used, reason)

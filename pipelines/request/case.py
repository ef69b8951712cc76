"""One field in front of one runner, and the verdicts there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .media_facts import NOTHING_KNOWN, MediaFacts
from .model_facts import ModelFacts
from .report import Finding, Status

__all__ = ["Case", "LocalAbilities"]


@dataclass(frozen=True)
class LocalAbilities:
    """What the local runner has at hand.

    interpolators: names; "flow" needs no files.
    lacking:       {task: what the model that was loaded lacks for it, and what to do}.
    unusable_interpolators: a line for each file that looks like one and cannot be used, with the reason.
    """

    interpolators: tuple[str, ...] = ("flow",)
    prompt_expander: bool = False
    safety_checker: bool = False
    step_cache: bool = False
    unusable_interpolators: tuple[str, ...] = ()
    lacking: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One field to judge. `values` are all fields of the request, for rules that look at two."""

    task: str
    field: str
    preference: bool  # equal to the provider's default, or unset: may be adjusted
    values: Mapping[str, Any]
    model: ModelFacts | None = None  # the last three are of the local runner
    abilities: LocalAbilities = LocalAbilities()
    media: MediaFacts = NOTHING_KNOWN

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
        """What was asked is not to be had: a preference gives way to `used`, a demand is refused."""
        return self.adjusted(used, reason) if self.preference else self.impossible(reason)

    def _finding(self, status: Status, used: object, reason: str) -> Finding:
        return Finding(self.field, status, self.value, used, reason)

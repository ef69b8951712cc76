"""Guidance beside classifier-free guidance: NAG, for steps without it, and CFG-Zero*, for steps with it.

Both are lossy by choice: they change what is drawn, and they are off until somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice, takewhile
from typing import Any

from ..request.local_settings import NAG_ALPHA, NAG_TAU, stages_named
from .context_windows import ContextWindows
from .sigmas import Guidance, forwards_of, step_scales

__all__ = ["ExtraGuidance", "forwards_with", "zeroed_steps"]


@dataclass(frozen=True)
class ExtraGuidance:
    """What is added to classifier-free guidance, per expert.

    nag_scale:     of normalized attention guidance, arxiv.org/abs/2505.21179; 1, or no entry, is off.
    nag_tau:       largest L1 norm of the guided features, as a multiple of that of the unguided ones.
    nag_alpha:     share of the guided features in the result, 0 to 1.
    cfg_zero_star: the experts whose guidance is that of CFG-Zero*, arxiv.org/abs/2503.18886.
    zero_steps:    how many first steps of these experts have the velocity 0.
    """

    nag_scale: Mapping[str, float] = field(default_factory=dict)
    nag_tau: float = NAG_TAU
    nag_alpha: float = NAG_ALPHA
    cfg_zero_star: tuple[str, ...] = ()
    zero_steps: int = 0

    def nag_on(self, experts: Sequence[str]) -> bool:
        """Return whether a step of one of `experts` has NAG."""
        return any(self.nag_scale.get(name, 1.0) != 1 for name in experts)

    def zero_star_on(self, guidance: Guidance, experts: Sequence[str]) -> bool:
        """Return whether a step of one of `experts` has CFG-Zero*; without guidance none has."""
        return any(self._has_zero_star(experts, guidance))

    def _has_zero_star(self, experts: Sequence[str], guidance: Guidance) -> Iterator[bool]:
        for name, scale in zip(experts, step_scales(experts, guidance), strict=True):
            yield name in self.cfg_zero_star and scale != 1

    def first_zeroed(self, experts: Sequence[str], guidance: Guidance) -> int:
        """Return how many of `zero_steps` have CFG-Zero*, from the first of these steps on."""
        first = islice(self._has_zero_star(experts, guidance), self.zero_steps)
        return len(list(takewhile(bool, first)))

    def acting(self, guidance: Guidance, experts: Sequence[str]) -> list[str]:
        """Return the names of what changes a run, for the receipt. guidance: of `experts`, in order."""
        on = {"nag": self.nag_on(experts), "cfg_zero_star": self.zero_star_on(guidance, experts)}
        return [name for name, is_on in on.items() if is_on]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` gives an equal value back."""
        return {**asdict(self), "cfg_zero_star": list(self.cfg_zero_star)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExtraGuidance:
        """Raises TypeError when keys are unknown."""
        return cls(**{**data, "cfg_zero_star": tuple(data.get("cfg_zero_star", ()))})

    @classmethod
    def of(
        cls,
        nag_scale: Mapping[str, float],
        nag_tau: float,
        nag_alpha: float,
        cfg_zero_star: tuple[str, ...],
        zero_steps: int,
    ) -> ExtraGuidance | None:
        """Return these settings, or None when they add nothing."""
        made = cls(dict(nag_scale), nag_tau, nag_alpha, cfg_zero_star, zero_steps if cfg_zero_star else 0)
        return made if cfg_zero_star or made.nag_on(tuple(nag_scale)) else None

    @classmethod
    def of_values(cls, values: Mapping[str, Any], experts: Sequence[str]) -> ExtraGuidance | None:
        """Return the settings of `local` among the resolved values, as `of` does; None without `local`."""
        if "nag_scale" not in values:
            return None
        scales = {"high": values["nag_scale"], "low": values["nag_scale_2"]}
        return cls.of(
            {name: scales[name] for name in experts},
            values["nag_tau"],
            values["nag_alpha"],
            stages_named(values["cfg_zero_star"], experts),
            values["cfg_zero_steps"],
        )


def zeroed_steps(experts: Sequence[str], guidance: Guidance, extra: ExtraGuidance | None) -> int:
    """Return how many of these steps, from the first on, have the velocity 0 and make no forward.

    experts: of every step that runs. Without guidance no step is zeroed.
    """
    return 0 if extra is None else extra.first_zeroed(experts, guidance)


def forwards_with(
    experts: Sequence[str],
    guidance: Guidance,
    extra: ExtraGuidance | None,
    windows: ContextWindows | None = None,
    networks: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Return the network of every forward of these steps, in order. Zeroed steps make none.

    windows:  each one takes as many forwards as a step without windows.
    networks: the name of the network of each step; None for that of its expert.
    """
    counts = [1] * len(experts) if windows is None else windows.counts(experts)
    zeroed, scales = zeroed_steps(experts, guidance, extra), step_scales(experts, guidance)
    steps = list(zip(networks or experts, scales, counts, strict=True))
    return tuple(
        chain.from_iterable(forwards_of([name] * n, [scale] * n) for name, scale, n in steps[zeroed:])
    )

"""Decides whether a sampler adds noise, from the noise level of its latents and the one that it starts at.

A sampler that starts at another level than its latents have draws something else than both, and nothing in
the picture says why. So what cannot be right is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import SamplingError
from ..request.report import Finding

__all__ = ["AddNoise", "Incoming", "adds_noise", "left_in_decoded", "require_own_steps", "starting_findings"]

# on: always, off: never, auto: unless the latents have noise already. "was on" is the `true` of graphs from
# before there was auto: on, but never on top of the noise of another stage.
AddNoise = Literal["auto", "on", "off", "was on"]

# Of two noise levels that are meant to be one: more than float32 rounds, less than a step.
_SAME = 1e-4
_NEARLY_PURE = 0.99  # an empty latent has nothing to keep below it


@dataclass(frozen=True)
class Incoming:
    """What is known of the latents that a sampler gets.

    level:   their noise level, 0 to 1. None if nobody said it.
    empty:   they are zero everywhere.
    changed: a node changed them after their level was written.
    """

    level: float | None
    empty: bool
    changed: bool = False


def adds_noise(choice: AddNoise, incoming: Incoming, start: float) -> bool:
    """Return whether to add noise. start: the noise level of the first step, above 0.

    Raises SamplingError for latents that do not fit the first step.
    """
    if incoming.level:
        _require_continued(choice, incoming.level, start)
        return False
    if choice == "auto" and incoming.changed:
        raise SamplingError(
            "add_noise: auto, but a node has changed the latent after its noise level was written; choose "
            "off if it still has noise, else on"
        )
    if choice == "off":
        _require_noise_there(incoming, start)
    return choice != "off"


def _require_continued(choice: AddNoise, level: float, start: float) -> None:
    if abs(level - start) > _SAME:
        raise SamplingError(
            f"sigmas: start at {start:.4g}, but the latent has noise level {level:.4g}, where the sampler "
            "before it ended; connect high and low of the same Wan Duet Sigmas"
        )
    if choice == "on":
        raise SamplingError(
            f"add_noise: on, but the latent has noise level {level:.4g} already; choose auto or off"
        )


def _require_noise_there(incoming: Incoming, start: float) -> None:
    if incoming.empty or incoming.level == 0 or start >= 1:
        found = "is empty" if incoming.empty else "has no noise"
        raise SamplingError(
            f"add_noise: off, but the latent {found} and the sigmas start at noise level {start:.4g}; choose "
            "auto or on"
        )


def starting_findings(choice: AddNoise, incoming: Incoming, start: float) -> list[Finding]:
    """Return warnings about a start that may not be meant. Call `adds_noise` before."""
    if choice == "was on" and incoming.level:
        return [
            _warning("add_noise", "was on, but the latent has noise already, so none is added: choose auto")
        ]
    if incoming.level or choice == "off":
        return []
    if incoming.empty and start < _NEARLY_PURE:
        reason = f"is empty, but the first step is at noise level {start:.4g}: earlier steps are missing"
        return [_warning("latent", reason)]
    if choice == "auto" and incoming.level is None and not incoming.empty and start < 1:
        reason = "auto adds noise: the latent does not say that it has some; choose off if it has"
        return [_warning("add_noise", reason)]
    return []


def require_own_steps(stage: str, timesteps: Sequence[float], boundary: float | None) -> None:
    """Raise SamplingError when every step belongs to the other expert.

    timesteps: 0 to 1000. boundary: noise level (0 to 1) between the experts; None with one expert.
    """
    if boundary is None or not timesteps:
        return
    experts = {"high" if timestep >= boundary * 1000 else "low" for timestep in timesteps}
    if stage not in experts:
        (other,) = experts
        side = "above" if other == "high" else "below"
        raise SamplingError(
            f"stage: {stage}, but all steps of these sigmas (from {timesteps[0] / 1000:.4g} to "
            f"{timesteps[-1] / 1000:.4g}) are {side} the boundary {boundary:g}, where the {other}-noise "
            f"expert works; choose {other}, or connect the {stage} output of Wan Duet Sigmas"
        )


def left_in_decoded(level: float | None) -> list[Finding]:
    """Return a warning for latents that are decoded while they have noise."""
    if not level:
        return []
    return [_warning("latent", f"has noise level {level:.4g} still; run the low-noise stage before decoding")]


def _warning(field: str, reason: str) -> Finding:
    return Finding(field, "warning", None, None, reason)

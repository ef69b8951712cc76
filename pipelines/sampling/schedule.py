"""The sigma, the timestep and the expert of every step of a run."""

from __future__ import annotations

from dataclasses import dataclass

from ..plan.context_windows import ContextWindows
from ..plan.extra_guidance import ExtraGuidance, forwards_with
from ..plan.plan import Plan
from ..plan.riflex import Riflex
from ..plan.sigmas import Guidance, SigmaGrid, experts_of

__all__ = ["Sampling", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """The steps of one run, in order.

    sigmas:    n + 1 falling noise levels in [0, 1]; step i goes from sigmas[i] to sigmas[i + 1].
    timesteps: n values in [0, 1000], the input of the expert.
    experts:   n names, "high" or "low".
    networks:  n names, of an expert or of an expert with the LoRAs of a phase; the experts if left out.
    """

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]
    experts: tuple[str, ...]
    networks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", self.networks or self.experts)

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def expert_sigmas(self) -> tuple[float, ...]:
        """The n + 1 noise levels that experts receive: timestep / 1000, or sigma if truncated to 0."""
        levels = zip(self.timesteps, self.sigmas[:-1], strict=True)
        return (*(timestep / 1000 or sigma for timestep, sigma in levels), self.sigmas[-1])

    @classmethod
    def of_plan(cls, plan: Plan) -> Schedule:
        """Return the steps of a plan that are run, without those that a low strength skips."""
        start = plan.start_step
        sigmas, timesteps = plan.sigmas[start:], plan.timesteps[start:]
        return cls(sigmas, timesteps, plan.experts[start:], plan.networks[start:])

    @classmethod
    def of_grid(cls, grid: SigmaGrid, boundary: float | None, start: int = 0) -> Schedule:
        """Return the steps of a grid from step `start` on.

        boundary: noise level (0 to 1) above which the high expert is used; None with one expert.
        """
        experts = experts_of(grid, boundary)
        return cls(grid.sigmas[start:], grid.timesteps[start:], experts[start:])

    @classmethod
    def of_stage(cls, grid: SigmaGrid, expert: str) -> Schedule:
        """Return the steps of a grid that one expert runs alone."""
        return cls(grid.sigmas, grid.timesteps, (expert,) * len(grid.timesteps))


@dataclass(frozen=True)
class Sampling:
    """The steps, the solver, and the guidance of each expert or step. The other fields are None if off."""

    schedule: Schedule
    solver: str
    guidance: Guidance
    extra: ExtraGuidance | None = None
    windows: ContextWindows | None = None
    riflex: Riflex | None = None

    @classmethod
    def of_plan(cls, plan: Plan) -> Sampling:
        more = plan.extra_guidance, plan.context_windows, plan.riflex
        return cls(Schedule.of_plan(plan), plan.solver, plan.scales[plan.start_step :], *more)

    @property
    def forwards(self) -> tuple[str, ...]:
        """The network of every forward, in order. Steps with the velocity 0 make none."""
        schedule = self.schedule
        return forwards_with(schedule.experts, self.guidance, self.extra, self.windows, schedule.networks)

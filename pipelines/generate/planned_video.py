"""How a plan says that frames become a file: its edit and its interpolator."""

from __future__ import annotations

from fractions import Fraction

from ..device.memory import Memory
from ..errors import ModelError
from ..interpolation.interpolator_files import Interpolators, make_interpolator
from ..plan.plan import Plan
from ..video.edit import Edit
from ..video.more_frames import Interpolator

__all__ = ["edit_of_plan", "interpolator_of_plan", "require_interpolator"]


def edit_of_plan(plan: Plan) -> Edit:
    """Return how the frames of a plan become a file."""
    return Edit(
        Fraction(plan.fps),
        plan.reverse,
        plan.interpolator,
        plan.num_interpolated_frames,
        plan.fps_out != plan.fps,
        plan.video_quality,
        plan.video_write_mode,
    )


def interpolator_of_plan(plan: Plan, available: Interpolators, memory: Memory) -> Interpolator | None:
    """Return the interpolator that the plan names, or None if it adds no frames."""
    if not plan.num_interpolated_frames:
        return None
    return make_interpolator(plan.interpolator, available, memory, width=plan.width, height=plan.height)


def require_interpolator(plan: Plan, available: Interpolators) -> None:
    if plan.interpolator not in ("none", *available.names):
        raise ModelError(
            f"interpolator_model: the receipt used {plan.interpolator}, but no file for it was found; give "
            "the folder that contains one"
        )

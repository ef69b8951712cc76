"""How a plan says that frames become a file: its edit, its interpolator and its format."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from ..device.memory import Memory
from ..errors import ModelError
from ..interpolation.found_interpolators import Interpolators
from ..interpolation.interpolator_files import make_interpolator
from ..plan.plan import Plan
from ..plan.stored_video import StoredVideo
from ..request.result_formats import CODECS_OF
from ..video.edit import Edit
from ..video.more_frames import Interpolator
from ..video.output import require_suffix
from ..video.video_format import FormatWish, format_of

__all__ = ["edit_of_plan", "interpolator_of_plan", "require_format", "require_interpolator", "wish_of_plan"]


def require_format(out: Path, plan: Plan) -> None:
    """Raise RequestError if the suffix of `out` does not fit the result, MediaError if no encoder is here."""
    require_suffix(out, plan.output)
    if plan.output in CODECS_OF:
        format_of(out, wish_of_plan(plan))


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
        _choices(plan).scene_threshold,
    )


def wish_of_plan(plan: Plan) -> FormatWish:
    """Return which codec and bit depth the file has."""
    choices = _choices(plan)
    return FormatWish(choices.codec, deep=choices.bit_depth == 10)


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


def _choices(plan: Plan) -> StoredVideo:
    return plan.file or StoredVideo()

"""Says a plan in one line."""

from __future__ import annotations

from collections.abc import Iterator

from ..request.result_formats import CODECS_OF
from .plan import Plan
from .sigmas import stages_of

__all__ = ["describe"]


def describe(plan: Plan, *, seconds_per_forward: float | None = None) -> str:
    """Describe the plan in one line: the steps of each stage, the number of forwards, and the result.

    seconds_per_forward: measured for this model and size. None leaves the time out.
    """
    work = f"{plan.forwards} forwards"
    if plan.context_windows is not None:
        work += f" in windows of {plan.context_windows.length} of {plan.context_windows.frames} latent frames"
    if seconds_per_forward is not None:
        work += f" (about {plan.expected_seconds(seconds_per_forward):.0f} s)"
    if plan.output in CODECS_OF:
        result = f"{plan.frames_delivered} frames at {plan.fps} fps"
        if plan.num_interpolated_frames:
            result += f" -> {plan.frames_out} at {plan.fps_out} fps"
    else:
        result = f"1 {plan.output} of {plan.width}x{plan.height}"
    if plan.size_assumed:
        result += f" (the size depends on the input; {plan.width}x{plan.height} at 16:9)"
    return ", ".join([*_stages(plan), work, result])


def _stages(plan: Plan) -> Iterator[str]:
    """Yield the steps of each expert; where the plan has phases, those of each phase with its guidance."""
    steps = list(zip(plan.networks, plan.scales, strict=True)) if plan.phases else plan.experts
    first = True
    for stage, running in stages_of(steps, plan.start_step):
        count = len(running)
        name, scale = stage if isinstance(stage, tuple) else (stage, None)
        text = f"{name}: {count} {'step' if count == 1 else 'steps'}"
        if first:
            text += f" (sigma {plan.sigmas[running.start]:.3f}-{plan.sigmas[running.stop - 1]:.3f})"
        yield text if scale is None else f"{text} at guidance {scale:g}"
        first = False

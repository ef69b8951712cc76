"""Says a plan in one line."""

from __future__ import annotations

from .plan import Plan

__all__ = ["describe"]


def describe(plan: Plan, *, seconds_per_forward: float | None = None) -> str:
    """Describe the plan in one line: the steps of each stage, the number of forwards, and the result.

    seconds_per_forward: measured for this model and size. None leaves the time out.
    """
    running = plan.experts[plan.start_step :]
    parts: list[str] = []
    for expert in ("high", "low"):
        steps = running.count(expert)
        if not steps:
            continue
        part = f"{expert}: {steps} {'step' if steps == 1 else 'steps'}"
        if not parts:
            first, last = plan.sigmas[plan.start_step], plan.sigmas[plan.start_step + steps - 1]
            part += f" (sigma {first:.3f}-{last:.3f})"
        parts.append(part)
    work = f"{plan.forwards} forwards"
    if plan.context_windows is not None:
        work += f" in windows of {plan.context_windows.length} of {plan.context_windows.frames} latent frames"
    if seconds_per_forward is not None:
        work += f" (about {plan.expected_seconds(seconds_per_forward):.0f} s)"
    if plan.output == "mp4":
        result = f"{plan.frames_delivered} frames at {plan.fps} fps"
        if plan.num_interpolated_frames:
            result += f" -> {plan.frames_out} at {plan.fps_out} fps"
    else:
        result = f"1 {plan.output} of {plan.width}x{plan.height}"
    if plan.size_assumed:
        result += f" (the size depends on the input; {plan.width}x{plan.height} at 16:9)"
    return ", ".join([*parts, work, result])

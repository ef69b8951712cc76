"""Every number of a run. Pure: the same resolved request, family and seed give the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from math import prod
from typing import Any

from ..errors import RequestError
from ..request import SEED_MAX, Resolved
from ..request.timing import frames_out, generated_frames, output_fps
from .families import Family
from .sigmas import DISTILLED, GRIDS, SigmaGrid, experts_of, forwards_of, start_step

__all__ = ["Plan", "describe", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    output:            "mp4", "png" or "jpeg".
    size_assumed:      the shape of the input decides the size and was not known: 16:9 stands in for it, and
                       no run may start from this plan.
    latent_shape:      (channels, latent frames, rows, columns).
    frames_generated:  4n + 1, what the VAE can code; frames_delivered of them are kept. With speech the first
                       is the image that the person comes from.
    fps:               before interpolation; fps_out is the rate of the file. Of an image, that of its model.
    grid, solver:      which sigma grid was asked for, and which solver walks it.
    sigmas:            n + 1 float32 values; timesteps and experts have n.
    start_step:        the first step that runs; those before it are skipped (strength below 1).
    guidance:          scale of each expert that the family has; 1 makes no unconditional forward.
    forwards:          how often an expert is called in all.
    interpolator:      "none" when no frames are added.
    tokens:            the length of the sequence in an expert.
    size_bytes:        of the latents (float32), of one hidden state in an expert (bfloat16), and of all
                       frames of the file (8 bits a channel).
    """

    kind: str
    contract: str
    family: str
    seed: int
    output: str
    width: int
    height: int
    size_assumed: bool
    latent_shape: tuple[int, int, int, int]
    frames_generated: int
    frames_delivered: int
    fps: int
    grid: str
    solver: str
    shift: float
    boundary: float | None
    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]
    experts: tuple[str, ...]
    start_step: int
    guidance: Mapping[str, float]
    forwards: int
    interpolator: str
    num_interpolated_frames: int
    frames_out: int
    fps_out: Fraction
    reverse: bool
    video_quality: str
    video_write_mode: str
    text_length: int
    tokens: int
    size_bytes: Mapping[str, int]

    @property
    def needed_experts(self) -> tuple[str, ...]:
        """The experts that a step runs on, in that order; what is not among them need not be loaded."""
        return tuple(dict.fromkeys(self.experts[self.start_step :]))

    def expected_seconds(self, seconds_per_forward: float) -> float:
        """How long denoising takes at a measured rate."""
        return self.forwards * seconds_per_forward

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe; `from_dict` gives the same plan back, bit for bit."""
        values = asdict(self) | {"fps_out": f"{self.fps_out.numerator}/{self.fps_out.denominator}"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """RequestError on `plan` when keys are missing or unknown, as in a receipt of another version."""
        wrong = sorted(set(data) ^ {field.name for field in fields(cls)})
        if wrong:
            raise RequestError.of(
                "plan", f"missing or unknown keys: {', '.join(map(str, wrong))}", "use a plan of this version"
            )
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        values["fps_out"] = Fraction(values["fps_out"])
        return cls(**values)


def make_plan(
    resolved: Resolved,
    family: Family,
    seed: int,
    *,
    solver: str | None = None,
    boundary: float | None = None,
    max_seconds: float | None = None,
) -> Plan:
    """Every number that follows from `resolved`, which was resolved for `family`.

    solver:      a key of GRIDS; None for unipc, or for what the weights of a task are distilled for.
    boundary:    0 to 1, instead of the family's own.
    max_seconds: where a video with speech ends at the latest; None for as long as the sound.
    RequestError when an argument does not fit.
    """
    if resolved.model != family.name or resolved.size is None:
        raise ValueError(f"the request was resolved for {resolved.model}, and the plan is for {family.name}")
    if not 0 <= seed <= SEED_MAX:
        raise RequestError.of("seed", f"got {seed}", f"give 0 to {SEED_MAX}")
    values, size, request = resolved.values, resolved.size, resolved.request
    frames: int = values["num_frames"]
    generated = generated_frames(frames, family.vae_stride[0])
    between: int = 0 if values["interpolator_model"] == "none" else values["num_interpolated_frames"]
    fps: int = values["frames_per_second"]
    delivered = frames_out(frames, between)

    name, grid, chosen_solver = _grid(values, solver, values["num_inference_steps"], values["shift"])
    boundary = _boundary(family, boundary)
    experts = experts_of(grid, boundary)
    start = start_step(len(experts), values["strength"])
    guidance: dict[str, float] = {"high": values["guidance_scale"]}
    if family.experts == 2:
        guidance["low"] = values["guidance_scale_2"]

    stride_t, stride_h, stride_w = family.vae_stride
    latent_frames = (generated - 1) // stride_t + 1
    shape = (family.latent_channels, latent_frames, size.height // stride_h, size.width // stride_w)
    tokens = shape[1] * (shape[2] // 2) * (shape[3] // 2)
    plan = Plan(
        kind=request.kind,
        contract=request.contract,
        family=family.name,
        seed=seed,
        output=values.get("image_format", "mp4"),
        width=size.width,
        height=size.height,
        size_assumed=size.assumed,
        latent_shape=shape,
        frames_generated=generated,
        frames_delivered=frames,
        fps=fps,
        grid=name,
        solver=chosen_solver,
        shift=values["shift"],
        boundary=boundary,
        sigmas=grid.sigmas,
        timesteps=grid.timesteps,
        experts=experts,
        start_step=start,
        guidance=guidance,
        forwards=len(forwards_of(experts[start:], guidance)),
        interpolator=values["interpolator_model"] if between else "none",
        num_interpolated_frames=between,
        frames_out=delivered,
        fps_out=output_fps(fps, frames, between, values["adjust_fps_for_interpolation"]),
        reverse=bool(values["reverse_video"]),
        video_quality=values["video_quality"],
        video_write_mode=values["video_write_mode"],
        text_length=family.text_length,
        tokens=tokens,
        size_bytes={
            "latents": 4 * prod(shape),
            "hidden_state": 2 * tokens * family.hidden_width,
            "frames": 3 * delivered * size.width * size.height,
        },
    )
    seconds = resolved.media.seconds
    return plan if seconds is None else _until_the_sound_ends(plan, seconds, max_seconds)


def describe(plan: Plan, *, seconds_per_forward: float | None = None) -> str:
    """The plan in one line for people: the steps of each stage, the work, and what comes out.

    seconds_per_forward: as measured for this model and size; without it no time is named.
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


def _until_the_sound_ends(plan: Plan, seconds: float, max_seconds: float | None) -> Plan:
    """One clip becomes as many as the sound is long. Its latent frame for the image is no part of a clip."""
    frames = round(seconds * plan.fps)
    if max_seconds is not None:
        frames = min(frames, max(round(max_seconds * plan.fps), 1))
    clip = plan.latent_shape[1] - 1
    clips = -(-frames // (4 * clip))
    return replace(
        plan,
        latent_shape=(plan.latent_shape[0], clip, *plan.latent_shape[2:]),
        frames_generated=clips * 4 * clip,
        frames_delivered=frames,
        frames_out=frames,
        forwards=clips * plan.forwards,
        size_bytes={**plan.size_bytes, "frames": 3 * frames * plan.width * plan.height},
    )


def _grid(
    values: Mapping[str, Any], solver: str | None, steps: int, shift: float
) -> tuple[str, SigmaGrid, str]:
    """(name, grid, solver that walks it)"""
    own = values.get("grid")
    if own is not None:
        if solver not in (None, own):
            fix = f"leave it out: the weights are distilled for {own}"
            raise RequestError.of("solver", f"got {solver!r}", fix)
        make_grid, chosen_solver = DISTILLED[own]
        return own, make_grid(steps, shift), chosen_solver
    name = solver or "unipc"
    if name not in GRIDS:
        raise RequestError.of("solver", f"got {solver!r}", "give one of " + ", ".join(GRIDS))
    make_grid, chosen_solver = GRIDS[name]
    return name, make_grid(steps, shift), chosen_solver


def _boundary(family: Family, asked: float | None) -> float | None:
    if asked is None:
        return family.boundary
    if family.experts == 1:
        raise RequestError.of("boundary", f"got {asked}", f"leave it out: {family.name} has one expert")
    if not 0.0 <= asked <= 1.0:
        raise RequestError.of("boundary", f"got {asked}", "give 0 (all high) to 1 (all low, or nearly)")
    return float(asked)

"""A request with every number decided. Pure: the same request, family and seed give the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from ..errors import RequestError
from ..request import SEED_MAX, Report, WanRequest, check
from ..request.timing import frames_out, generated_frames, output_fps
from .families import Family
from .sigmas import GRIDS, split, start_step

__all__ = ["Plan", "describe", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    latent_shape:      (channels, latent frames, rows, columns).
    frames_generated:  4n + 1, what the VAE can code; frames_delivered of them are kept.
    fps:               before interpolation; fps_out is the rate of the file.
    grid, solver:      which sigma grid was asked for, and which solver walks it.
    sigmas:            n + 1 float32 values; timesteps and experts have n.
    start_step:        the first step that runs; those before it are skipped (strength below 1).
    guidance:          scale of each expert that the family has; 1 makes no unconditional forward.
    forwards:          how often an expert is called in all.
    interpolator:      "none" when no frames are added.
    """

    kind: str
    contract: str
    family: str
    seed: int
    width: int
    height: int
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
    request: WanRequest,
    family: Family,
    seed: int,
    *,
    solver: str = "unipc",
    boundary: float | None = None,
    report: Report | None = None,
) -> Plan:
    """Decide every number of `request` on `family`.

    solver:   a key of GRIDS.
    boundary: 0 to 1, instead of the family's own.
    report:   the check whose adjustments are applied; made here for the local runner when None.
    RequestError when the report holds something impossible, or an argument does not fit.
    """
    report = report or check(request, family=family)
    if not report.ok:
        raise RequestError(report.problems)
    if not 0 <= seed <= SEED_MAX:
        raise RequestError.of("seed", f"got {seed}", f"give 0 to {SEED_MAX}")
    values = {**dict(request), **{finding.field: finding.used for finding in report.adjustments}}

    # The adjusted resolution is a size in words; the tier asked for is what the table knows.
    width, height = family.sizes[dict(request)["resolution"]][values["aspect_ratio"]]
    frames: int = values["num_frames"]
    generated = generated_frames(frames, family.vae_stride[0])
    between: int = 0 if values["interpolator_model"] == "none" else values["num_interpolated_frames"]
    fps: int = values["frames_per_second"]

    if solver not in GRIDS:
        raise RequestError.of("solver", f"got {solver!r}", "give one of " + ", ".join(GRIDS))
    make_grid, walker = GRIDS[solver]
    grid = make_grid(values["num_inference_steps"], values["shift"])
    boundary = _boundary(family, boundary)
    low_from = split(grid, boundary)
    steps = len(grid.timesteps)
    experts = ("high",) * low_from + ("low",) * (steps - low_from)
    start = start_step(steps, values.get("strength", 1.0))
    guidance: dict[str, float] = {"high": values["guidance_scale"]}
    if family.experts == 2:
        guidance["low"] = values["guidance_scale_2"]

    stride_t, stride_h, stride_w = family.vae_stride
    latent_frames = (generated - 1) // stride_t + 1
    return Plan(
        kind=request.kind,
        contract=request.contract,
        family=family.name,
        seed=seed,
        width=width,
        height=height,
        latent_shape=(family.latent_channels, latent_frames, height // stride_h, width // stride_w),
        frames_generated=generated,
        frames_delivered=frames,
        fps=fps,
        grid=solver,
        solver=walker,
        shift=values["shift"],
        boundary=boundary,
        sigmas=grid.sigmas,
        timesteps=grid.timesteps,
        experts=experts,
        start_step=start,
        guidance=guidance,
        forwards=sum(1 if guidance[expert] == 1 else 2 for expert in experts[start:]),
        interpolator=values["interpolator_model"] if between else "none",
        num_interpolated_frames=between,
        frames_out=frames_out(frames, between),
        fps_out=output_fps(fps, frames, between, values["adjust_fps_for_interpolation"]),
        reverse=bool(values.get("reverse_video")),
        video_quality=values["video_quality"],
        video_write_mode=values["video_write_mode"],
        text_length=family.text_length,
    )


def describe(plan: Plan) -> str:
    """The plan in one line for people: the steps of each stage, the work, and what comes out."""
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
    clip = f"{plan.frames_delivered} frames at {plan.fps} fps"
    if plan.num_interpolated_frames:
        clip += f" -> {plan.frames_out} at {plan.fps_out} fps"
    return ", ".join([*parts, f"{plan.forwards} forwards", clip])


def _boundary(family: Family, asked: float | None) -> float | None:
    if asked is None:
        return family.boundary
    if family.experts == 1:
        raise RequestError.of("boundary", f"got {asked}", f"leave it out: {family.name} has one expert")
    if not 0.0 <= asked <= 1.0:
        raise RequestError.of("boundary", f"got {asked}", "give 0 (all high) to 1 (all low, or nearly)")
    return float(asked)

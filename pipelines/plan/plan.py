"""Computes every number of a run. Pure: the same resolved request, family and seed give the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from math import prod
from typing import Any

from ..errors import RequestError
from ..request import SEED_MAX, Resolved
from ..request.timing import frames_out, generated_frames, output_fps, speech_clip
from .context_windows import ContextWindows, at_once
from .expert_split import expert_split
from .extra_guidance import ExtraGuidance, forwards_with
from .families import Family
from .phase_schedule import PhaseSchedule, planned_phases
from .prompt_relay import PromptRelay
from .riflex import Riflex
from .sigmas import DISTILLED, GRIDS, SigmaGrid, from_sigmas, start_step, step_scales
from .sound_length import until_the_sound_ends
from .stored_video import StoredVideo

__all__ = ["Plan", "make_plan"]


EXPLICIT = "explicit"  # the grid of a request that states its noise levels
# The keys of a plan that may be missing: what is off.
_OPTIONAL: Mapping[str, Any] = {
    "extra_guidance": ExtraGuidance,
    "context_windows": ContextWindows,
    "riflex": Riflex,
    "phases": PhaseSchedule,
    "prompt_relay": PromptRelay,
    "file": StoredVideo,
}


@dataclass(frozen=True)
class Plan:
    """Every number of one run.

    output:            "mp4", "mov", "png" or "jpeg".
    size_assumed:      the size depends on an input that was not measured, so 16:9 is assumed. Such a plan is
                       only for display.
    latent_shape:      (channels, latent frames, rows, columns).
    frames_generated:  4n + 1, as the VAE decodes. The file keeps frames_delivered of them. For speech, the
                       first one is the input image.
    fps:               before interpolation. fps_out: of the file. For an image, the rate of the model.
    grid, solver:      the requested sigma grid, or "explicit", and the solver that uses it.
    boundary:          None with one expert, and where the request states the steps of the high one.
    sigmas:            n + 1 float32 values. timesteps and experts have n.
    start_step:        the first step that runs. A strength below 1 skips earlier ones.
    guidance:          {expert: scale}, where `phases` does not say more. A scale of 1 needs no forward for
                       the negative prompt.
    forwards:          calls of an expert in the whole run.
    interpolator:      "none" if no frames are added.
    tokens:            length of the sequence in an expert, of the largest window if there are several.
    extra_guidance, context_windows, riflex, prompt_relay, file: None if off, and then no key of `as_dict`.
    phases:            of all steps; None where `experts` and `guidance` say it all, and then no key either.
    size_bytes:        of the latents (float32), of one hidden state in an expert (bfloat16), and of all
                       frames of the file (8 bits per channel).
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
    extra_guidance: ExtraGuidance | None = None
    context_windows: ContextWindows | None = None
    riflex: Riflex | None = None
    phases: PhaseSchedule | None = None
    prompt_relay: PromptRelay | None = None
    file: StoredVideo | None = None

    @property
    def scales(self) -> tuple[float, ...]:
        """The guidance scale of each of `experts`."""
        return step_scales(self.experts, self.guidance) if self.phases is None else self.phases.scales

    @property
    def networks(self) -> tuple[str, ...]:
        """The network of each of `experts`: the expert, or the expert with the LoRAs of a phase."""
        return self.experts if self.phases is None else self.phases.networks

    @property
    def forward_shape(self) -> tuple[int, ...]:
        """The shape (C, T, H/8, W/8) of the largest forward: of a context window, or the whole clip."""
        return at_once(self.latent_shape, self.context_windows)

    def expected_seconds(self, seconds_per_forward: float) -> float:
        """Return the time of denoising at a measured rate, in seconds."""
        return self.forwards * seconds_per_forward

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values. `from_dict` restores the same plan from them, bit for bit."""
        values = asdict(self) | {"fps_out": f"{self.fps_out.numerator}/{self.fps_out.denominator}"}
        for name in _OPTIONAL:
            part = getattr(self, name)
            if part is None:
                del values[name]
            else:
                values[name] = part.as_dict()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Restore a plan from `as_dict`.

        Raises RequestError on `plan` for missing or unknown keys, as in a receipt of another version.
        """
        wrong = sorted(set(data) - set(_OPTIONAL) ^ {field.name for field in fields(cls)} - set(_OPTIONAL))
        if wrong:
            raise RequestError.of(
                "plan", f"missing or unknown keys: {', '.join(map(str, wrong))}", "use a plan of this version"
            )
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        values["fps_out"] = Fraction(values["fps_out"])
        parts = {name: part.from_dict(data[name]) for name, part in _OPTIONAL.items() if name in data}
        return cls(**{**values, **parts})


def make_plan(
    resolved: Resolved,
    family: Family,
    seed: int,
    *,
    solver: str | None = None,
    boundary: float | None = None,
    max_seconds: float | None = None,
) -> Plan:
    """Compute every number of a run of `resolved`, which must be resolved for `family`.

    solver:      a key of GRIDS. None uses unipc, or the solver that distilled weights need.
    boundary:    0 to 1, replaces the family's own.
    max_seconds: the longest length of a video with speech. None lets it last as long as the sound.

    Raises RequestError when `seed`, `solver` or `boundary` is out of range or does not fit, ValueError when
    `resolved` is for another family.
    """
    if resolved.model != family.name or resolved.size is None:
        raise ValueError(f"the request was resolved for {resolved.model}, and the plan is for {family.name}")
    if not 0 <= seed <= SEED_MAX:
        raise RequestError.of("seed", f"got {seed}", f"give 0 to {SEED_MAX}")
    values, size, request = resolved.values, resolved.size, resolved.request
    frames: int = values["num_frames"]
    stride_t, stride_h, stride_w = family.vae_stride
    clip = speech_clip(frames, stride_t) if request.task == "speech-to-video" else frames
    generated = generated_frames(clip, stride_t)
    between: int = 0 if values["interpolator_model"] == "none" else values["num_interpolated_frames"]
    fps: int = values["frames_per_second"]
    delivered = frames_out(frames, between)

    name, grid, chosen_solver = _grid(values, solver, values["num_inference_steps"], values["shift"])
    boundary, experts = expert_split(resolved, family, grid, boundary)
    start = start_step(len(experts), values["strength"])
    guidance: dict[str, float] = {"high": values["guidance_scale"]}
    if family.experts == 2:
        guidance["low"] = values["guidance_scale_2"]
    phases = planned_phases(request.local, experts, guidance)
    guidance = phases.plain_guidance(guidance)
    extra, running = ExtraGuidance.of_values(values, tuple(guidance)), experts[start:]

    latent_frames = (generated - 1) // stride_t + 1
    shape = (family.latent_channels, latent_frames, size.height // stride_h, size.width // stride_w)
    windows = ContextWindows.of_values(values, latent_frames, stride_t)
    at_once = latent_frames if windows is None else windows.most_frames
    tokens = at_once * (shape[2] // 2) * (shape[3] // 2)
    plan = Plan(
        kind=request.kind,
        contract=request.contract,
        family=family.name,
        seed=seed,
        output=values.get("image_format") or values.get("container", "mp4"),
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
        forwards=len(forwards_with(running, phases.scales[start:], extra, windows)),
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
        extra_guidance=extra,
        context_windows=windows,
        riflex=Riflex.of_values(values, at_once, stride_t),
        phases=None if phases.says(experts, guidance) else phases,
        prompt_relay=PromptRelay.of_local(request.local, frames, fps),
        file=StoredVideo.of_values(values),
    )
    seconds = resolved.media.seconds
    return plan if seconds is None else until_the_sound_ends(plan, seconds, max_seconds)


def _grid(
    values: Mapping[str, Any], solver: str | None, steps: int, shift: float
) -> tuple[str, SigmaGrid, str]:
    """Return (name, grid, solver that uses it)."""
    own = values.get("grid")
    if own is not None:
        if solver not in (None, own):
            fix = f"leave it out; the weights are distilled for {own}"
            raise RequestError.of("solver", f"got {solver!r}", fix)
        make_grid, chosen_solver = DISTILLED[own]
        return own, make_grid(steps, shift), chosen_solver
    asked = values.get("solver", "auto")
    name = solver or ("unipc" if asked == "auto" else asked)
    if name not in GRIDS:
        raise RequestError.of("solver", f"got {solver!r}", "give one of " + ", ".join(GRIDS))
    make_grid, chosen_solver = GRIDS[name]
    if values.get("sigmas") is not None:
        return EXPLICIT, from_sigmas(values["sigmas"]), chosen_solver
    return name, make_grid(steps, shift), chosen_solver

"""Nodes that denoise: with both experts in sequence, or one stage at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..pipelines.plan import GRIDS
from .comfy_interface import io
from .conditioning import from_conditioning
from .findings import NodeFindings, with_findings
from .guidance_inputs import chosen_extra, extra_guidance_inputs
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .inputs import (
    boundary_input,
    chosen_boundary,
    guidance_input,
    seed_input,
    shift_input,
    solver_input,
    steps_input,
)
from .latents import incoming, latents_to_sample, to_latent, with_level
from .noise_choice import NoiseChoices, chosen_noise
from .sockets import WanModelSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ..pipelines.loading.host_model import AnyModel
    from ..pipelines.request import Finding
    from ..pipelines.sampling.chained import AddNoise
    from ..pipelines.sampling.schedule import Sampling, Schedule


_SCALES = ("guidance_scale", "guidance_scale_2")  # the inputs, in the order of the stages


class WanDuetTwoStageSampler(io.ComfyNode):
    """Denoises completely, and switches experts at the boundary of the model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetTwoStageSampler",
            display_name="Wan Duet Two-Stage Sampler",
            category="Wan Duet/blocks",
            description="Denoises a latent completely: first with the high-noise expert, then with the "
            "low-noise one.",
            search_aliases=["wan sampler", "wan 2.2 ksampler", "high low sampler", "moe sampler"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The model whose experts denoise."),
                *_material(),
                seed_input(),
                steps_input(),
                guidance_input("guidance_scale", 3.5),
                guidance_input("guidance_scale_2", 4.0),
                shift_input(),
                solver_input(
                    "Method that steps from one noise level to the next. lightning is for the 4-step LoRAs, "
                    "dmd for FastWan (3 steps), rcm for rCM and TurboDiffusion (4 steps)."
                ),
                boundary_input(),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="How much of the latent to regenerate. 0.5 runs only the second half of the "
                    "steps.",
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="Noise levels to use instead of the solver's own; steps and shift then have "
                    "no effect.",
                ),
                *extra_guidance_inputs(two_stages=True),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The finished latent.")],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        model: AnyModel,
        positive: Any,
        negative: Any,
        latent: Any,
        seed: int,
        steps: int,
        guidance_scale: float,
        guidance_scale_2: float,
        shift: float,
        solver: str,
        boundary: float,
        strength: float,
        sigmas: Tensor | None = None,
        nag_negative: Any | None = None,
        **extra: Any,
    ) -> io.NodeOutput:
        from ..pipelines.plan.sigmas import from_sigmas, start_step
        from ..pipelines.sampling.schedule import Sampling, Schedule

        make_grid, walker = GRIDS[solver]
        grid = make_grid(steps, shift) if sigmas is None else from_sigmas(sigmas.tolist())
        start = start_step(len(grid.timesteps), strength)
        schedule = Schedule.of_grid(grid, chosen_boundary(boundary, model), start)
        guidance = {"high": guidance_scale, "low": guidance_scale_2}
        sampling = Sampling(schedule, walker, guidance, chosen_extra(tuple(guidance), **extra))
        return _sample(cls, model, sampling, (positive, negative, latent), seed, nag_negative=nag_negative)


class WanDuetStageSampler(io.ComfyNode):
    """Denoises with one expert along the connected sigmas."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetStageSampler",
            display_name="Wan Duet Stage Sampler",
            category="Wan Duet/blocks",
            description="Denoises with one expert, so that other nodes can work on the latent between the "
            "two stages. Connect high sigmas to the first sampler and low sigmas to the second.",
            search_aliases=["wan single expert sampler", "ksampler advanced wan"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The model whose expert denoises."),
                io.Combo.Input(
                    "stage",
                    options=["high", "low"],
                    default="high",
                    tooltip="The expert to use: high for early (noisy) steps, low for late steps.",
                ),
                *_material(),
                io.Sigmas.Input("sigmas", tooltip="The noise levels of this stage, from Wan Duet Sigmas."),
                seed_input(),
                guidance_input("guidance_scale", 3.5, "How strictly the expert follows the prompt."),
                io.Combo.Input(
                    "solver",
                    options=["euler", "unipc", "dpm++"],
                    default="euler",
                    tooltip="Method that steps from one noise level to the next. Only euler gives the same "
                    "result in two stages as in one; the others use earlier steps, which a latent cannot "
                    "carry.",
                ),
                io.Combo.Input(
                    "add_noise",
                    options=NoiseChoices(["auto", "on", "off"]),
                    default="auto",
                    tooltip="auto: add noise unless the latent has some from a stage before. off: the latent "
                    "has noise, although it does not say so, such as that of ComfyUI's own sampler.",
                ),
                *extra_guidance_inputs(two_stages=False),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The latent with the remaining noise.")],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        model: AnyModel,
        stage: str,
        positive: Any,
        negative: Any,
        latent: Any,
        sigmas: Tensor,
        seed: int,
        guidance_scale: float,
        solver: str,
        add_noise: str | bool,
        cfg_zero_star: bool = False,
        nag_negative: Any | None = None,
        **extra: Any,
    ) -> io.NodeOutput:
        from ..pipelines.plan.sigmas import from_sigmas
        from ..pipelines.sampling.chained import require_own_steps
        from ..pipelines.sampling.schedule import Sampling, Schedule

        schedule = Schedule.of_stage(from_sigmas(sigmas.tolist()), stage)
        require_own_steps(stage, schedule.timesteps, model.boundary)
        material = (positive, negative, latent)
        more = chosen_extra((stage,), cfg_zero_star="both" if cfg_zero_star else "off", **extra)
        sampling = Sampling(schedule, solver, {stage: guidance_scale}, more)
        return _sample(cls, model, sampling, material, seed, chosen_noise(add_noise), nag_negative)


def _sample(
    node: type[io.ComfyNode],
    model: AnyModel,
    sampling: Sampling,
    material: tuple[Any, Any, Any],
    seed: int,
    choice: AddNoise = "on",
    nag_negative: Any | None = None,
) -> io.NodeOutput:
    """Sample with our engine or with ComfyUI's MODEL.

    material: positive, negative, latent. choice: when to add noise.
    nag_negative: CONDITIONING that NAG avoids; None for the negative one.
    """
    from ..pipelines.loading.host_model import HostModel

    findings, progress = NodeFindings(node.hidden.unique_id), NodeProgress(node.hidden.unique_id, model)
    add_noise, found = _start(choice, material[2], sampling.schedule)
    findings.tell([*found, *_idle_zero_star(sampling), *_unexpected(model, sampling, material[2])])
    shown = with_findings(None, findings.found)
    if not len(sampling.schedule):  # strength 0: nothing is generated, and the noise of the latent stays
        return io.NodeOutput(material[2], ui=shown)
    if isinstance(model, HostModel):
        from .host_model.sampling import sample_with_host

        finished = sample_with_host(model, sampling, material, seed, add_noise, progress)
        return io.NodeOutput(with_level(finished, sampling.schedule.sigmas[-1]), ui=shown)
    from ..pipelines.generate.stages import sample
    from ..pipelines.sampling.engine import Prompts
    from ..pipelines.sampling.noise import StartLatents, initial_noise

    positive, negative, latent = material
    latents, kept = latents_to_sample(latent, frames_stay=model.family.image_form == "frames")
    noise = initial_noise(latents.shape, seed) if add_noise else None
    wanted = from_conditioning(positive, "positive", model)
    rejected = avoided = from_conditioning(negative, "negative", model)
    if nag_negative is not None:
        avoided = from_conditioning(nag_negative, "nag_negative", model)
    prompts = Prompts(wanted, rejected, None if sampling.extra is None else avoided.text)
    start = StartLatents(latents, noise, kept)
    finished = sample(model, sampling, start, prompts, HostMemory(model.keep_alive), progress)
    return io.NodeOutput(to_latent(finished, kept, sampling.schedule.sigmas[-1]), ui=shown)


def _start(choice: AddNoise, latent: Any, schedule: Schedule) -> tuple[bool, list[Finding]]:
    """Return whether to add noise, and what to say of the start. Raises SamplingError for a wrong one."""
    from ..pipelines.sampling.chained import adds_noise, starting_findings

    if not len(schedule):
        return True, []
    known, start = incoming(latent), schedule.sigmas[0]
    return adds_noise(choice, known, start), starting_findings(choice, known, start)


def _idle_zero_star(sampling: Sampling) -> list[Finding]:
    from ..pipelines.request import Finding

    experts = () if sampling.extra is None else sampling.extra.cfg_zero_star
    reason = "does nothing on the {} expert, whose guidance scale is 1"
    idle = (expert for expert in experts if sampling.guidance[expert] == 1)
    return [Finding("cfg_zero_star", "warning", True, True, reason.format(expert)) for expert in idle]


def _unexpected(model: AnyModel, sampling: Sampling, latent: Any) -> Iterator[Finding]:
    from ..pipelines.generate.sampler_findings import sampler_findings

    scales = list(sampling.guidance.values())[: model.family.experts]
    guidance = dict(zip(_SCALES, scales, strict=False))
    # A latent of one image has no axis for frames.
    frames = latent["samples"].shape[2] if latent["samples"].ndim == 5 else 1
    return sampler_findings(model, len(sampling.schedule), guidance, frames, HostMemory().device)


def _material() -> list[io.Input]:
    return [
        io.Conditioning.Input("positive", tooltip="What the video should show."),
        io.Conditioning.Input("negative", tooltip="What it should not show. Unused at guidance scale 1."),
        io.Latent.Input("latent", tooltip="Where to start: an empty latent, or one to be changed."),
    ]

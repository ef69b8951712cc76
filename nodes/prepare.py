"""Nodes that prepare sampling: the latent to start from, and the sigmas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..pipelines.errors import RequestError
from ..pipelines.plan import GRIDS
from ..pipelines.request.contracts import DESCRIPTIONS
from ..pipelines.request.timing import generated_frames
from .comfy_interface import ExecutionBlocker, io
from .findings import NodeFindings, colour_findings, with_findings
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .inputs import (
    boundary_input,
    chosen_boundary,
    rate,
    rate_input,
    shift_input,
    solver_input,
    steps_input,
)
from .latents import to_latent
from .links import is_read, readers
from .media import from_socket
from .outgoing import written_media
from .sockets import WanModelSocket

if TYPE_CHECKING:
    from ..pipelines.loading.host_model import AnyModel


class WanDuetEmptyLatent(io.ComfyNode):
    """Creates a latent of zeros."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetEmptyLatent",
            display_name="Wan Duet Empty Latent",
            category="Wan Duet/blocks",
            description="Creates an empty latent video of the right shape for the model.",
            search_aliases=["empty latent video", "wan latent"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The model that will denoise the latent."),
                *size_inputs(),
                length_input("Number of frames, rounded up to one more than a multiple of 4 (such as 81)."),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The empty latent.")],
        )

    @classmethod
    def execute(cls, model: AnyModel, width: int, height: int, num_frames: int) -> io.NodeOutput:
        import torch

        return io.NodeOutput(to_latent(torch.zeros(latent_shape(model, width, height, num_frames))))


class WanDuetVideoCondition(io.ComfyNode):
    """Encodes a VIDEO to a LATENT, for a sampler with a strength below 1."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetVideoCondition",
            display_name="Wan Duet Video Condition",
            category="Wan Duet/blocks",
            description="Encodes the start of a video into a latent for video to video: connect it to "
            "Two-Stage Sampler with a strength below 1. Frames are resized and cropped, never stretched.",
            search_aliases=["video to latent", "vae encode video", "vid2vid", "v2v"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The model whose VAE encodes the video."),
                io.Video.Input("video", tooltip="The video to start from."),
                *size_inputs(),
                length_input(
                    "Number of frames to use. The last frame is repeated until there is one more than a "
                    "multiple of 4. A video with fewer frames is rejected."
                ),
                io.Boolean.Input("resample_fps", default=False, tooltip=DESCRIPTIONS["resample_fps"]),
                rate_input("Frame rate to resample the video to when resample_fps is on."),
            ],
            outputs=[io.Latent.Output("latent", tooltip="The encoded video.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: AnyModel,
        video: Any,
        width: int,
        height: int,
        num_frames: int,
        resample_fps: bool,
        frames_per_second: float,
    ) -> io.NodeOutput:
        from ..pipelines.generate.start_latents import encode_with_tile_fallback
        from ..pipelines.video.clip import clip_frames

        shape = latent_shape(model, width, height, num_frames)
        file = written_media({"video": from_socket("video", "video", video)})["video"]
        findings = NodeFindings(cls.hidden.unique_id)
        findings.tell(colour_findings("video", file, file.name))
        settings = {
            "fps": rate(frames_per_second) if resample_fps else None,
            "count": num_frames,
            "padded": generated_frames(num_frames, model.family.vae_stride[0]),
        }
        latents = encode_with_tile_fallback(
            model,
            lambda: clip_frames(file, width=width, height=height, **settings),
            shape,
            HostMemory(),
            NodeProgress(cls.hidden.unique_id),
        )
        return io.NodeOutput(to_latent(latents), ui=with_findings(None, findings.found))


class WanDuetSigmas(io.ComfyNode):
    """Computes the noise levels of a run, split at the switch of experts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetSigmas",
            display_name="Wan Duet Sigmas",
            category="Wan Duet/blocks",
            description="Computes the noise levels of a run, complete and split where the low-noise expert "
            "takes over. Works with the samplers of this pack and with ComfyUI's SamplerCustom.",
            search_aliases=["wan scheduler", "split sigmas", "high low sigmas", "sigma curve"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The model whose experts share the steps."),
                steps_input(),
                shift_input(),
                solver_input(
                    "The solver to compute the noise levels for: each solver of the official code has its "
                    "own. lightning is for the 4-step LoRAs, dmd for FastWan (3 steps), rcm for rCM and "
                    "TurboDiffusion (4 steps)."
                ),
                boundary_input(),
            ],
            outputs=[
                io.Sigmas.Output(
                    "high", tooltip="Steps of the high-noise expert; the last value is where low starts."
                ),
                io.Sigmas.Output("low", tooltip="Steps of the low-noise expert."),
                io.Sigmas.Output("sigmas", tooltip="All steps."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> list[bool]:
        """Return which stages are connected: one without steps is an error only then."""
        return [is_read(cls.hidden.unique_id, slot) for slot in (0, 1)]

    @classmethod
    def execute(
        cls, model: AnyModel, steps: int, shift: float, solver: str, boundary: float
    ) -> io.NodeOutput:
        import torch

        from ..pipelines.plan.sigma_picture import sigma_picture
        from ..pipelines.sampling.schedule import Schedule

        make_grid, _ = GRIDS[solver]
        switch_at = chosen_boundary(boundary, model)
        schedule = Schedule.of_grid(make_grid(steps, shift), switch_at)
        picture = sigma_picture(schedule.sigmas, schedule.experts, boundary=switch_at)
        sigmas = torch.tensor(schedule.sigmas, dtype=torch.float32)
        switch = schedule.experts.count("high")
        stages: dict[str, Any] = {"high": sigmas[: switch + 1], "low": sigmas[switch:]}
        for slot, expert in enumerate(stages):
            if expert not in schedule.experts:
                found = f"none of the {steps} steps uses the {expert}-noise expert"
                _require_unread(cls.hidden, slot, expert, found)
                stages[expert] = ExecutionBlocker(f"sigmas: {found} of {model.name}")
        return io.NodeOutput(*stages.values(), sigmas, ui={"wan_duet_picture": [picture]})


def _require_unread(hidden: io.HiddenHolder, slot: int, expert: str, found: str) -> None:
    """Raise RequestError if the output of a stage without steps is connected: a blocked node is no error to
    ComfyUI.
    """
    wanting = readers(hidden.unique_id, slot, hidden.prompt or {})
    if wanting:
        fix = f"change steps, shift or boundary, or disconnect {', '.join(wanting)} from {expert}"
        raise RequestError.of("sigmas", found, fix)


def size_inputs() -> list[io.Input]:
    return [
        io.Int.Input("width", default=832, min=16, max=4096, step=16, tooltip="Width in pixels."),
        io.Int.Input("height", default=480, min=16, max=4096, step=16, tooltip="Height in pixels."),
    ]


def length_input(tooltip: str) -> io.Input:
    return io.Int.Input("num_frames", default=81, min=1, max=1001, tooltip=tooltip)


def latent_shape(model: AnyModel, width: int, height: int, num_frames: int) -> tuple[int, int, int, int, int]:
    """Return (1, C, T, H, W) of the latent. Raises RequestError for a size the model does not support."""
    family = model.family
    for name, size in (("width", width), ("height", height)):
        if size % family.size_multiple:
            raise RequestError.of(
                name,
                f"got {size}",
                f"give a multiple of {family.size_multiple}, as {family.name} needs",
            )
    frames, rows, columns = family.vae_stride
    depth = (generated_frames(num_frames, frames) - 1) // frames + 1
    return (1, family.latent_channels, depth, height // rows, width // columns)

"""Nodes for one video of several shots: the whole, and a shot that is added to it."""

from __future__ import annotations

from typing import Any

from ..pipelines.plan.timeline_picture import timeline_picture
from ..pipelines.request import RequestWithMedia
from ..pipelines.request.contracts import DESCRIPTIONS
from ..pipelines.request.lora_rows import loras_of, read_rows
from ..pipelines.request.shots import shots_of, with_shot
from ..pipelines.request.storyboard import JOIN_WORDS
from .comfy_interface import io
from .inputs import DYNAMIC
from .media import one_from_socket
from .request import request_node
from .sockets import WanRequestSocket
from .tasks import RequestNode
from .widgets import UNSET

__all__ = ["WanDuetShot", "WanDuetShots"]

_AS_THE_WHOLE = "Empty: as the whole request has it."
_IMAGES = {"image": "image_url", "end_image": "end_image_url"}

WanDuetShots = request_node(
    RequestNode(
        "WanDuetShots",
        "Wan Duet Shots",
        "shots",
        "Describes one video of several shots: a storyboard as text, or shots from Wan Duet Shot. What a "
        "shot leaves out is as it stands here; a field that is left out here has the default of its task.",
        ("storyboard", "long video", "multi shot", "scenes", "extend video", "continue video"),
        (
            *("storyboard", "negative_prompt", "num_frames", "frames_per_second", "seed", "resolution"),
            *("aspect_ratio", "num_inference_steps", "guidance_scale", "guidance_scale_2", "shift"),
            *(
                "acceleration",
                "interpolator_model",
                "num_interpolated_frames",
                "adjust_fps_for_interpolation",
            ),
            *("video_quality", "video_write_mode", "enable_safety_checker"),
            *("enable_output_safety_checker", "enable_prompt_expansion", "match_colours"),
            "overlap_latents",
        ),
    )
)


class WanDuetShot(io.ComfyNode):
    """Adds a shot to a request for several."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetShot",
            display_name="Wan Duet Shot",
            category="Wan Duet/request",
            description="Adds a shot to the request of Wan Duet Shots, after those that it has, and "
            "shows the video as a line of shots.",
            search_aliases=[
                "add shot",
                "scene",
                "storyboard",
                "continue video",
                "prompt per part",
                "timeline",
            ],
            inputs=[
                WanRequestSocket.Input("request", tooltip="Wan Duet Shots, or the shot before."),
                io.String.Input(
                    "prompt", multiline=True, dynamic_prompts=True, tooltip=f"What the shot shows. {DYNAMIC}"
                ),
                io.Combo.Input("join", options=list(JOIN_WORDS), default="cut", tooltip=DESCRIPTIONS["join"]),
                io.Int.Input(
                    "join_frames",
                    default=5,
                    min=1,
                    max=1000,
                    tooltip="How many frames overlap (5, 9, 13, ...) or are mixed; only for these two joins.",
                ),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=600.0,
                    step=0.5,
                    round=0.001,
                    tooltip=f"{DESCRIPTIONS['seconds']} 0: as many frames as the whole request has.",
                ),
                io.String.Input(
                    "negative_prompt",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip=f"{DESCRIPTIONS['negative_prompt']} {_AS_THE_WHOLE}",
                ),
                io.Int.Input(
                    "seed",
                    default=UNSET,
                    min=UNSET,
                    max=2**53,
                    optional=True,
                    tooltip=f"Seed of this shot. {UNSET}: that of the whole plus the number of the shot.",
                ),
                *(_number_input(name) for name in ("guidance_scale", "guidance_scale_2")),
                io.String.Input(
                    "rows",
                    default="[]",
                    optional=True,
                    tooltip="LoRAs of this shot as JSON, in place of those of the whole: "
                    '[{"file": "a.safetensors", "high": 1.0, "low": 1.0}]; see docs/lora-rows.md.',
                ),
                io.Image.Input(
                    "image", optional=True, tooltip="The first frame. A shot that continues has one."
                ),
                io.Image.Input("end_image", optional=True, tooltip="The last frame."),
            ],
            outputs=[WanRequestSocket.Output("request", tooltip="The request with this shot.")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        request: RequestWithMedia,
        prompt: str,
        join: str,
        join_frames: int,
        seconds: float,
        rows: str = "[]",
        image: Any | None = None,
        end_image: Any | None = None,
        **own: Any,
    ) -> io.NodeOutput:
        images = {"image": image, "end_image": end_image}
        media = {
            field: one_from_socket(field, "image", images[socket])
            for socket, field in _IMAGES.items()
            if images[socket] is not None
        }
        shot = {
            "prompt": prompt,
            "join": f"{join} {join_frames}" if join in ("overlap", "dissolve") else join,
            **({"seconds": seconds} if seconds else {}),
            **{name: value for name, value in own.items() if value not in ("", UNSET)},
            **({"loras": loras} if (loras := loras_of(read_rows(rows))) else {}),
            **{field: f"sha256:{medium.sha256}" for field, medium in media.items()},
        }
        film, number = with_shot(request.request, shot)
        connected = {f"shots[{number}].{field}": medium for field, medium in media.items()}
        made = RequestWithMedia(film, {**request.media, **connected})
        return io.NodeOutput(made, ui={"wan_duet_picture": [timeline_picture(shots_of(film))]})


def _number_input(name: str) -> io.Input:
    return io.Float.Input(
        name,
        default=float(UNSET),
        min=float(UNSET),
        max=100.0,
        step=0.1,
        round=0.001,
        optional=True,
        tooltip=f"{DESCRIPTIONS[name]} {UNSET}: as the whole request has it.",
    )

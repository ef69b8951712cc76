"""Lists the Wan model families: the numbers that make their plans differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..errors import RequestError
from ..request.implied import IMAGE_TASKS
from ..request.shots_request import SHOTS
from .negative_prompts import FIRST_AND_LAST, IMAGE_21, SPEECH, WAN

__all__ = ["DISTILLED_TASKS", "FAMILIES", "Family", "Sizes", "default_family"]

Sizes = Mapping[str, Mapping[str, tuple[int, int]]]  # {tier: {aspect ratio: (width, height)}} in pixels

# Their weights are distilled, so the settings of the official code are not theirs.
DISTILLED_TASKS = ("turbo-text-to-video", "turbo-image-to-video", "small-distill", "small-fast-video")


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a plan must know about a model.

    experts:        1 or 2.
    boundary:       noise level (0 to 1) above which the high-noise expert is used. None with one expert.
    tasks:          the tasks that the model can do, as in `WanRequest.task`.
    size_multiple:  width and height must be multiples of this, in pixels.
    vae_stride:     (frames, rows, columns) of the video per latent value.
    hidden_width:   values per token inside the network. A token is 1 x 2 x 2 latent values.
    native_frames:  the only clip length that the model generates well. None if it has no such limit.
    own_sizes:      the resolution tiers are only names for this model's own sizes.
    image_form:     how an input image enters the model: "none", as "channels" concatenated to the latents, or
                    as latent "frames" without noise.
    uses_clip:      the model also reads CLIP features of the input images.
    end_image:      whether a request "never", "may" or "must" have an end image.
    needs_audio:    the model needs an audio encoder.
    trained_frames: the longest clip that the model was trained on, frame_num of the official configurations.
    negative_prompt: that of the official code, for an empty one.
    steps:          of the official code; None where it does not know the model.
    guidance:       scales of the official code, that of the high-noise expert first.
    shift_480p:     the shift of the official code at 480p, if it is another.
    mag_cache:      magnitudes.json has the sizes of its residuals.
    source:         where the numbers come from.
    """

    name: str
    experts: int = 1
    boundary: float | None = None
    default_shift: float
    default_fps: int = 16
    tasks: frozenset[str]
    sizes: Sizes
    source: str
    hidden_width: int = 5120
    size_multiple: int = 16
    vae_stride: tuple[int, int, int] = (4, 8, 8)
    latent_channels: int = 16
    text_length: int = 512
    native_frames: int | None = None
    own_sizes: bool = False
    image_form: Literal["none", "channels", "frames"] = "none"
    uses_clip: bool = False
    end_image: Literal["never", "may", "must"] = "never"
    needs_audio: bool = False
    trained_frames: int = 81
    negative_prompt: str = WAN
    steps: int | None = None
    guidance: tuple[float, ...] = ()
    shift_480p: float | None = None
    mag_cache: bool = False

    def official_values(self, task: str, resolution: str | None = None) -> Mapping[str, Any]:
        """Return {plan name: value} of the official code for this model. Empty if it has none for `task`."""
        if self.steps is None or task in DISTILLED_TASKS:
            return {}
        small = resolution == "480p" and self.shift_480p is not None
        values: dict[str, Any] = {
            "num_inference_steps": self.steps,
            "shift": self.shift_480p if small else self.default_shift,
            "negative_prompt": self.negative_prompt,
            **dict(zip(("guidance_scale", "guidance_scale_2")[: self.experts], self.guidance, strict=False)),
        }
        if task not in IMAGE_TASKS:
            # infer_frames of wan/speech2video.py: a clip of speech has no first frame beside it.
            values["num_frames"] = 80 if self.needs_audio else self.trained_frames
            values["frames_per_second"] = self.default_fps
        return values

    def able_to(self, task: str) -> tuple[str, ...]:
        """Return the names of all families that can do `task`, for an error message."""
        return tuple(family.name for family in FAMILIES.values() if task in family.tasks)


# 480p and 720p: SIZE_CONFIGS of the official code. The rest is our choice: 576 lines for 580p, and squares of
# (nearly) the area of the tier.
_SIZES: Sizes = {
    "480p": {"16:9": (832, 480), "9:16": (480, 832), "1:1": (640, 640)},
    "580p": {"16:9": (1024, 576), "9:16": (576, 1024), "1:1": (768, 768)},
    "720p": {"16:9": (1280, 720), "9:16": (720, 1280), "1:1": (960, 960)},
}
# The 5B works in multiples of 32, so its 720p is 704 lines (SUPPORTED_SIZES of the official code).
_SIZES_5B: Sizes = {**_SIZES, "720p": {"16:9": (1280, 704), "9:16": (704, 1280), "1:1": (960, 960)}}
_TOY_SIZES: Mapping[str, tuple[int, int]] = {"16:9": (112, 64), "9:16": (64, 112), "1:1": (64, 64)}

_TEXT = frozenset({"text-to-video"})
_TEXT_A14B = _TEXT | {
    "text-to-image",
    "image-to-image",
    "video-to-video",
    "turbo-text-to-video",
    "legacy-text-to-video",
}
_TEXT_21 = _TEXT | {"wan21-text-to-video", "text-to-image", "image-to-image", "video-to-video"}
_SMALL = frozenset(
    {
        "small-text-to-video",
        "small-image-to-video",
        "small-text-to-image",
        "small-distill",
        "small-fast-video",
    }
)

_TEXT_21_14B = Family(
    name="wan2.1-t2v-14b",
    default_shift=5.0,
    tasks=_TEXT_21,
    sizes=_SIZES,
    source="Wan-Video/Wan2.1 wan/configs/wan_t2v_14B.py and generate.py",
    steps=50,
    guidance=(5.0,),
    mag_cache=True,
)
_TOY = Family(
    name="toy",
    experts=2,
    boundary=0.875,
    default_shift=5.0,
    tasks=_TEXT | {"text-to-image", "image-to-image", "video-to-video", "legacy-text-to-video"},
    sizes=dict.fromkeys(_SIZES, _TOY_SIZES),
    source="the embedded model of this package",
    hidden_width=256,
    native_frames=17,
    trained_frames=17,
    own_sizes=True,
    mag_cache=True,
)

# The first one that can do a task is the one that the task was made for.
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="wan2.2-t2v-a14b",
            experts=2,
            boundary=0.875,
            default_shift=12.0,
            tasks=_TEXT_A14B,
            sizes=_SIZES,
            source="Wan-Video/Wan2.2 wan/configs/wan_t2v_A14B.py",
            steps=40,
            guidance=(4.0, 3.0),  # the official tuple has the low-noise expert first
            mag_cache=True,
        ),
        Family(
            name="wan2.2-i2v-a14b",
            experts=2,
            boundary=0.9,
            default_shift=5.0,
            tasks=frozenset({"image-to-video", "turbo-image-to-video"}),
            sizes=_SIZES,
            image_form="channels",
            end_image="may",  # the official code has none; diffusers and ComfyUI mask it as Wan 2.1 does
            source="Wan-Video/Wan2.2 wan/configs/wan_i2v_A14B.py",
            steps=40,
            guidance=(3.5, 3.5),
            mag_cache=True,
        ),
        Family(
            name="wan2.2-s2v-14b",
            default_shift=3.0,
            tasks=frozenset({"speech-to-video"}),
            sizes=_SIZES,
            source="Wan-Video/Wan2.2 wan/configs/wan_s2v_14B.py",
            needs_audio=True,
            negative_prompt=SPEECH,
            steps=40,
            guidance=(4.5,),
        ),
        Family(
            name="wan2.2-ti2v-5b",
            default_shift=5.0,
            default_fps=24,
            tasks=_SMALL | _TEXT | {"image-to-video"},
            sizes=_SIZES_5B,
            source="Wan-Video/Wan2.2 wan/configs/wan_ti2v_5B.py",
            hidden_width=3072,
            size_multiple=32,
            vae_stride=(4, 16, 16),
            latent_channels=48,
            image_form="frames",
            trained_frames=121,
            steps=50,
            guidance=(5.0,),
            mag_cache=True,
        ),
        _TEXT_21_14B,
        replace(
            _TEXT_21_14B,
            name="wan2.1-t2v-1.3b",
            hidden_width=1536,
            source="Wan-Video/Wan2.1 wan/configs/wan_t2v_1_3B.py and generate.py",
        ),
        Family(
            name="wan2.1-i2v-14b",
            default_shift=5.0,
            tasks=frozenset({"image-to-video"}),
            sizes=_SIZES,
            image_form="channels",
            uses_clip=True,
            source="Wan-Video/Wan2.1 wan/configs/wan_i2v_14B.py and generate.py",
            negative_prompt=IMAGE_21,
            steps=40,
            guidance=(5.0,),
            shift_480p=3.0,
            mag_cache=True,
        ),
        Family(
            name="wan2.1-flf2v-14b",  # the same network, but its image embedding counts two pictures
            default_shift=16.0,
            tasks=frozenset({"image-to-video"}),
            sizes=_SIZES,
            image_form="channels",
            uses_clip=True,
            end_image="must",
            source="Wan-Video/Wan2.1 wan/configs/__init__.py and generate.py",
            negative_prompt=FIRST_AND_LAST,
            steps=50,
            guidance=(5.0,),
        ),
        _TOY,
        replace(
            _TOY,
            name="toy-image",
            boundary=0.9,
            tasks=frozenset({"image-to-video"}),
            image_form="channels",
            end_image="may",
            mag_cache=False,
        ),
        replace(
            _TOY,
            name="toy-speech",
            experts=1,
            boundary=None,
            default_shift=3.0,
            tasks=frozenset({"speech-to-video"}),
            hidden_width=128,
            native_frames=20,
            trained_frames=20,
            needs_audio=True,
            negative_prompt=SPEECH,
            mag_cache=False,
        ),
    )
}


def default_family(task: str) -> Family:
    """Return the first family that can do `task`, or the shots from text of a request for several shots.

    Raises RequestError on `task` if there is none.
    """
    wanted = "text-to-video" if task == SHOTS else task
    found = next((family for family in FAMILIES.values() if wanted in family.tasks), None)
    if found is None:
        raise RequestError.of("task", f"no model here can do {task}", "run it at its provider, with --on")
    return found

"""The effect of every field of a fal request on Novita's Wan 2.1, which has one expert and most settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .field_case import FieldCase
from .limits import why_refused
from .lora_weight import place_of, why_not_sent
from .report import Finding
from .web_address import is_https

__all__ = [
    "IMAGE_RULES",
    "LOCAL_LORA",
    "RANDOM_SEED",
    "RULES",
    "has_no",
    "image",
    "is_file",
    "sent_as",
    "shape_of_image",
]

_CONTRACT = "NovitaWan21T2VRequest"
RANDOM_SEED = -1  # Novita chooses a random seed
LOCAL_LORA = "Novita accepts no LoRA files; give a Hugging Face repository or a Civitai address"


def is_file(path: str) -> bool:
    """Return whether `path` is a file on this machine, not an address or a repository."""
    return place_of(path) in ("file", "embedded")


def sent_as(name: str, contract: str = _CONTRACT) -> Callable[[FieldCase], Finding]:
    """Return the rule of a field that is sent as `name`, within the limits of `contract`."""

    def judge(case: FieldCase) -> Finding:
        refused = why_refused(contract, name, case.value)
        return case.supported(f"sent as {name}") if refused is None else case.impossible(refused)

    return judge


def has_no(what: str, used: object = None) -> Callable[[FieldCase], Finding]:
    """Return the rule of a field that Novita does not support. used: the value that is used instead."""

    def judge(case: FieldCase) -> Finding:
        if not case.value:
            return case.supported("off")
        reason = f"Novita has no {what}"
        return case.cannot(used, reason if case.preference else f"{reason}; keep the default")

    return judge


def _resolution(case: FieldCase) -> Finding:
    if case.value == "580p":
        return case.impossible("Novita supports 480p and 720p; use one of these")
    return case.supported("with aspect_ratio: sent as width and height")


def _aspect_ratio(case: FieldCase) -> Finding:
    if case.value not in ("16:9", "9:16"):
        return case.impossible("Novita supports 16:9 and 9:16; use one of these")
    return case.supported("with resolution: sent as width and height")


def _second_guidance(case: FieldCase) -> Finding:
    if case.value == case.values["guidance_scale"]:
        return case.supported("the same as guidance_scale, which is used for every step")
    return has_no("second guidance scale: guidance_scale is used for every step")(case)


def shape_of_image(case: FieldCase) -> Finding:
    if case.value == "auto":
        return case.supported("Novita keeps the aspect ratio of the image")
    return case.impossible("Novita always keeps the aspect ratio of the image; use auto")


def image(case: FieldCase) -> Finding:
    if not is_https(case.value):
        return case.impossible("Novita accepts no image files; give an https address")
    return case.supported("sent unchanged")


def _safety_checker(case: FieldCase) -> Finding:
    if case.value is None:
        return case.supported("not sent: Novita checks by default")
    return case.supported("sent unchanged")


def _seed(case: FieldCase) -> Finding:
    if case.value is None:
        return case.supported(f"sent as {RANDOM_SEED}: Novita chooses a random seed")
    return sent_as("seed")(case)


def _acceleration(case: FieldCase) -> Finding:
    if case.value == "none":
        return case.supported("not sent: Novita has no such setting")
    return case.cannot("none", "Novita has no setting for acceleration")


def _frames_added(case: FieldCase) -> bool:
    values = case.values
    return values["interpolator_model"] != "none" and bool(values["num_interpolated_frames"])


def _interpolator(case: FieldCase) -> Finding:
    if not _frames_added(case):
        return case.supported("no frames are added")
    return case.cannot("none", "Novita does not interpolate")


def _between(case: FieldCase) -> Finding:
    if not _frames_added(case):
        return case.supported("no frames are added")
    return case.cannot(0, "Novita does not interpolate")


def _adjust(case: FieldCase) -> Finding:
    if case.value or not _frames_added(case):
        return case.supported("no frames are added")
    return case.impossible("Novita does not interpolate, so slow motion is impossible; leave it on")


def _loras(case: FieldCase) -> Finding:
    loras = case.value or ()
    if too_many := why_refused(_CONTRACT, "loras", loras):
        return case.impossible(too_many)
    for index, lora in enumerate(loras):
        where = f"loras[{index}]"
        if is_file(lora["path"]):
            return case.impossible(f"{where}.path: {LOCAL_LORA}")
        if fault := why_not_sent(lora["path"]):
            return case.impossible(f"{where}.path: {'; '.join(fault)}")
        if lora["weight_name"] is not None:
            return case.impossible(f"{where}.weight_name: Novita has no such field; leave it out")
        if refused := why_refused("NovitaLoRA", "scale", lora["scale"]):
            return case.impossible(f"{where}.scale: {refused}")
        if lora.get("transformer") == "low":
            return case.impossible(
                f"{where}.transformer is low, but at Novita no expert can be chosen; use high or both"
            )
    if not loras:
        return case.supported("none")
    return case.supported("sent without transformer; each LoRA must be made for the model that Novita runs")


RULES: Mapping[str, Callable[[FieldCase], Finding]] = {
    "prompt": sent_as("prompt"),
    "negative_prompt": sent_as("negative_prompt"),
    "num_frames": has_no("setting for the number of frames: a video is five seconds long", "5 s"),
    "frames_per_second": has_no("setting for the frame rate"),
    "seed": _seed,
    "resolution": _resolution,
    "aspect_ratio": _aspect_ratio,
    "num_inference_steps": sent_as("steps"),
    "enable_safety_checker": has_no("such switch on this endpoint", False),
    "enable_output_safety_checker": has_no("such switch on this endpoint", False),
    "enable_prompt_expansion": has_no("prompt expansion on this endpoint", False),
    "acceleration": _acceleration,
    "guidance_scale": sent_as("guidance_scale"),
    "guidance_scale_2": _second_guidance,
    "shift": sent_as("flow_shift"),
    "interpolator_model": _interpolator,
    "num_interpolated_frames": _between,
    "adjust_fps_for_interpolation": _adjust,
    "video_quality": has_no("setting for the encoding"),
    "video_write_mode": has_no("setting for the encoding"),
    "loras": _loras,
    "reverse_video": has_no("setting to reverse a video", False),
}

IMAGE_RULES: Mapping[str, Callable[[FieldCase], Finding]] = {
    **RULES,
    "image_url": image,
    "end_image_url": has_no("end image"),
    "aspect_ratio": shape_of_image,
    "enable_safety_checker": _safety_checker,
}

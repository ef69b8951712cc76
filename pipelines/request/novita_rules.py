"""What every field means at Novita, and how a request of fal becomes one of Novita's.

Unless the user wants its Wan 2.2, Novita is asked for Wan 2.1 14B: five seconds, one expert, four sizes, and a
word about every number (novita.ai, "Wan 2.1 Text to Video", before 2026-08, and "Wan 2.1 Image to Video", 2026-11).
To Wan 2.2 much less can be said (novita.ai, "Wan 2.2 T2V" and "Wan 2.2 I2V", 2026-11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from .base import WanRequest
from .case import Case
from .limits import newest_limit
from .lora import place_of
from .novita import NovitaWan21I2VRequest, NovitaWan21T2VRequest
from .novita22 import NovitaWan22I2VRequest, NovitaWan22T2VRequest
from .report import Finding

__all__ = ["DRAW_SEED", "NOVITA_MODELS", "NovitaModel", "for_novita", "novita_findings"]

NovitaModel = Literal["Wan 2.1", "Wan 2.2"]
NOVITA_MODELS: tuple[NovitaModel, ...] = ("Wan 2.1", "Wan 2.2")  # the first is the one that is asked for unless told
DRAW_SEED = -1  # Novita draws one
_SIZES: Mapping[tuple[str, str], tuple[int, int]] = {
    ("480p", "16:9"): (832, 480),
    ("480p", "9:16"): (480, 832),
    ("720p", "16:9"): (1280, 720),
    ("720p", "9:16"): (720, 1280),
    ("480p", "auto"): (832, 480),  # of image to video, which keeps the shape of the image
    ("720p", "auto"): (1280, 720),
}
_SIZES_22: Mapping[tuple[str, str], str] = {
    ("480p", "16:9"): "832*480",
    ("480p", "9:16"): "480*832",
    ("480p", "1:1"): "624*624",
    ("720p", "16:9"): "1280*720",
    ("720p", "9:16"): "720*1280",
}
_LOCAL_LORA = "Novita takes no files; give a Hugging Face repository or a Civitai address"


def novita_findings(request: WanRequest, model: NovitaModel = "Wan 2.1") -> list[Finding]:
    """One finding per field; of a request of fal, what becomes of it in Novita's words."""
    values = request.model_dump(mode="json")
    if isinstance(request, NovitaWan21T2VRequest):
        if model == "Wan 2.1":
            return [_own(field, value) for field, value in values.items()]
        reason = "belongs to Wan 2.1; choose that model, or use the kind text-to-video"
        return [Finding("kind", "impossible", request.kind, None, reason)]
    rules_of_task = _RULES_OF_TASK[model]
    if request.task not in rules_of_task:
        can = ", ".join(sorted(rules_of_task))
        reason = f"Novita is only asked for {can}, not for {request.task}; use another runner"
        return [Finding("kind", "impossible", request.kind, None, reason)]
    drawn_with = Finding("model", "supported", "Wan 2.2 A14B", "Wan 2.2", "Novita's Wan 2.2")
    if model == "Wan 2.1":
        reason = "what this endpoint of Novita draws with; Wan 2.2 is its other model"
        drawn_with = Finding("model", "adjusted", "Wan 2.2 A14B", "Wan 2.1 14B", reason)
    rules = rules_of_task[request.task]
    return [
        drawn_with,
        *(rules[field](Case(request.task, field, request.is_preference(field), values)) for field in values),
    ]


def for_novita(request: WanRequest, model: NovitaModel = "Wan 2.1") -> WanRequest | None:
    """The request in Novita's words, and in those of `model`; None when something in it is impossible there.

    An unset seed becomes DRAW_SEED, or stays unset where Novita has no word for it.
    """
    if any(finding.status == "impossible" for finding in novita_findings(request, model)):
        return None
    if isinstance(request, NovitaWan21T2VRequest):
        return request
    values = request.model_dump(mode="json")
    return _in_words_of_21(request, values) if model == "Wan 2.1" else _in_words_of_22(request, values)


def _in_words_of_22(request: WanRequest, values: Mapping[str, Any]) -> WanRequest:
    loras = [{"path": lora["path"], "scale": lora["scale"]} for lora in values.get("loras") or ()]
    said = {
        "prompt": values["prompt"],
        "negative_prompt": values["negative_prompt"] or None,
        "prompt_extend": bool(values["enable_prompt_expansion"]),
        "seed": values["seed"],
        "loras": loras or None,
    }
    resolution = values["resolution"]
    if request.task != "image-to-video":
        size = _SIZES_22[resolution, values["aspect_ratio"]]
        return NovitaWan22T2VRequest.model_validate({**said, "size": size})
    return NovitaWan22I2VRequest.model_validate(
        {**said, "img_url": values["image_url"], "resolution": resolution.upper()}
    )


def _in_words_of_21(request: WanRequest, values: Mapping[str, Any]) -> WanRequest:
    width, height = _SIZES[values["resolution"], values["aspect_ratio"]]
    loras = [{"path": lora["path"], "scale": lora["scale"]} for lora in values.get("loras") or ()]
    said = {
        "width": width,
        "height": height,
        "loras": loras or None,
        "seed": DRAW_SEED if values["seed"] is None else values["seed"],
        "prompt": values["prompt"],
        "negative_prompt": values["negative_prompt"] or None,
        "steps": values["num_inference_steps"],
        "guidance_scale": values["guidance_scale"],
        "flow_shift": values["shift"],
    }
    if request.task != "image-to-video":
        return NovitaWan21T2VRequest.model_validate(said)
    if values["enable_safety_checker"] is not None:
        said["enable_safety_checker"] = values["enable_safety_checker"]
    return NovitaWan21I2VRequest.model_validate({**said, "image_url": values["image_url"]})


def _own(field: str, value: Any) -> Finding:
    if field == "loras":
        for index, lora in enumerate(value or ()):
            if _is_file(lora["path"]):
                return Finding(field, "impossible", value, None, f"loras[{index}].path: {_LOCAL_LORA}")
    reason = "not sent, the provider decides" if value is None else "sent as it is"
    return Finding(field, "supported", value, value, reason)


def _is_file(path: str) -> bool:
    """Whether `path` means a file of this machine, and not an address or a repository."""
    return place_of(path) in ("file", "embedded")


def _sent_as(name: str, contract: str = NovitaWan21T2VRequest.contract) -> Callable[[Case], Finding]:
    def judge(case: Case) -> Finding:
        limit = newest_limit(contract, name)
        if case.value is not None and limit is not None and not limit.allows(case.value):
            size = "characters" if isinstance(case.value, str) else "allowed"
            return case.impossible(f"Novita takes {limit} {size}")
        return case.supported(f"sent as {name}")

    return judge


def _has_no(what: str, used: object = None) -> Callable[[Case], Finding]:
    """A field that Novita has nothing for; `used` is what happens instead."""

    def judge(case: Case) -> Finding:
        if not case.value:
            return case.supported("off")
        reason = f"Novita has no {what}"
        return case.cannot(used, reason if case.preference else f"{reason}; keep the default")

    return judge


def _resolution(case: Case) -> Finding:
    if case.value == "580p":
        return case.impossible("Novita draws 480p and 720p; use one of these")
    return case.supported("with aspect_ratio: sent as width and height")


def _aspect_ratio(case: Case) -> Finding:
    if case.value == "1:1":
        return case.impossible("Novita draws 16:9 and 9:16; use one of these")
    return case.supported("with resolution: sent as width and height")


def _aspect_ratio_22(case: Case) -> Finding:
    if (case.values["resolution"], case.value) not in _SIZES_22:
        return case.impossible("Novita draws 16:9 and 9:16, and 1:1 at 480p only; use one of these")
    return case.supported("with resolution: sent as size")


def _resolution_22(case: Case) -> Finding:
    if case.value == "580p":
        return case.impossible("Novita draws 480p and 720p; use one of these")
    return case.supported("sent to Novita's Wan 2.2")


def _seed_22(case: Case) -> Finding:
    if case.value is None:
        return case.supported("not sent: Novita draws one")
    return _sent_as("seed", NovitaWan22T2VRequest.contract)(case)


def _expansion_22(case: Case) -> Finding:
    return case.supported(f"sent as prompt_extend {'on' if case.value else 'off'}")


def _second_guidance(case: Case) -> Finding:
    if case.value == case.values["guidance_scale"]:
        return case.supported("the same as guidance_scale, which is used for every step")
    return _has_no("second guidance scale: guidance_scale is used for every step")(case)


def _shape_of_image(case: Case) -> Finding:
    if case.value == "auto":
        return case.supported("Novita keeps the shape of the image")
    return case.impossible("Novita keeps the shape of the image; use auto")


def _image(case: Case) -> Finding:
    if not case.value.lower().startswith("https://"):
        return case.impossible("Novita takes no files; give an https address")
    return case.supported("sent as it is")


def _safety_checker(case: Case) -> Finding:
    if case.value is None:
        return case.supported("not asked for: Novita checks by default")
    return case.supported("sent as it is")


def _seed(case: Case) -> Finding:
    if case.value is None:
        return case.supported(f"sent as {DRAW_SEED}: Novita draws one")
    return _sent_as("seed")(case)


def _acceleration(case: Case) -> Finding:
    if case.value == "none":
        return case.supported("Novita is asked for no shortcut")
    return case.cannot("none", "Novita has no step cache to ask for")


def _frames_added(case: Case) -> bool:
    values = case.values
    return values["interpolator_model"] != "none" and bool(values["num_interpolated_frames"])


def _interpolator(case: Case) -> Finding:
    if not _frames_added(case):
        return case.supported("no frames are added")
    return case.cannot("none", "Novita does not interpolate")


def _between(case: Case) -> Finding:
    if not _frames_added(case):
        return case.supported("no frames are added")
    return case.cannot(0, "Novita does not interpolate")


def _adjust(case: Case) -> Finding:
    if case.value or not _frames_added(case):
        return case.supported("no frames are added")
    return case.impossible("Novita does not interpolate, so there is no slow motion; leave it on")


def _loras(case: Case) -> Finding:
    loras = case.value or ()
    most = newest_limit(NovitaWan21T2VRequest.contract, "loras")
    if most is not None and not most.allows(loras):
        return case.impossible(f"Novita takes {most} LoRAs; remove some")
    scales = newest_limit("NovitaLoRA", "scale")
    for index, lora in enumerate(loras):
        where = f"loras[{index}]"
        if _is_file(lora["path"]):
            return case.impossible(f"{where}.path: {_LOCAL_LORA}")
        if lora["weight_name"] is not None:
            return case.impossible(f"{where}.weight_name: Novita takes no file name; leave it out")
        if scales is not None and not scales.allows(lora["scale"]):
            return case.impossible(f"{where}.scale: Novita takes {scales}")
        if lora.get("transformer") == "low":
            return case.impossible(
                f"{where}.transformer is low, and Novita has no choice of the expert; use high or both"
            )
    if not loras:
        return case.supported("none")
    return case.supported("sent without transformer; each has to be made for the model that Novita draws with")


_RULES: Mapping[str, Callable[[Case], Finding]] = {
    "prompt": _sent_as("prompt"),
    "negative_prompt": _sent_as("negative_prompt"),
    "num_frames": _has_no("number of frames: a video is five seconds long", "5 s"),
    "frames_per_second": _has_no("choice of the frame rate"),
    "seed": _seed,
    "resolution": _resolution,
    "aspect_ratio": _aspect_ratio,
    "num_inference_steps": _sent_as("steps"),
    "enable_safety_checker": _has_no("such switch on this endpoint", False),
    "enable_output_safety_checker": _has_no("such switch on this endpoint", False),
    "enable_prompt_expansion": _has_no("prompt expansion on this endpoint", False),
    "acceleration": _acceleration,
    "guidance_scale": _sent_as("guidance_scale"),
    "guidance_scale_2": _second_guidance,
    "shift": _sent_as("flow_shift"),
    "interpolator_model": _interpolator,
    "num_interpolated_frames": _between,
    "adjust_fps_for_interpolation": _adjust,
    "video_quality": _has_no("choice of the encoding"),
    "video_write_mode": _has_no("choice of the encoding"),
    "loras": _loras,
    "reverse_video": _has_no("reversing", False),
}

_IMAGE_RULES: Mapping[str, Callable[[Case], Finding]] = {
    **_RULES,
    "image_url": _image,
    "end_image_url": _has_no("end image"),
    "aspect_ratio": _shape_of_image,
    "enable_safety_checker": _safety_checker,
}
_RULES_22: Mapping[str, Callable[[Case], Finding]] = {
    **_RULES,
    "prompt": _sent_as("prompt", NovitaWan22T2VRequest.contract),
    "negative_prompt": _sent_as("negative_prompt", NovitaWan22T2VRequest.contract),
    "seed": _seed_22,
    "resolution": _resolution_22,
    "aspect_ratio": _aspect_ratio_22,
    "num_inference_steps": _has_no("choice of the steps of Wan 2.2"),
    "enable_prompt_expansion": _expansion_22,
    "guidance_scale": _has_no("guidance scale for Wan 2.2"),
    "guidance_scale_2": _has_no("guidance scale for Wan 2.2"),
    "shift": _has_no("shift for Wan 2.2"),
}
_IMAGE_RULES_22: Mapping[str, Callable[[Case], Finding]] = {
    **_RULES_22,
    "image_url": _image,
    "end_image_url": _has_no("end image"),
    "aspect_ratio": _shape_of_image,
}
_RULES_OF_TASK: Mapping[NovitaModel, Mapping[str, Mapping[str, Callable[[Case], Finding]]]] = {
    "Wan 2.1": {"text-to-video": _RULES, "legacy-text-to-video": _RULES, "image-to-video": _IMAGE_RULES},
    "Wan 2.2": {
        "text-to-video": _RULES_22,
        "legacy-text-to-video": _RULES_22,
        "image-to-video": _IMAGE_RULES_22,
    },
}

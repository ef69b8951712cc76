"""Converts a fal request into a Novita request.

Unless the user chooses Wan 2.2, Novita's Wan 2.1 14B is used: five seconds, one expert, four sizes
(novita.ai, "Wan 2.1 Text to Video", before 2026-08, and "Wan 2.1 Image to Video", 2026-11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from .base import WanRequest
from .field_case import FieldCase
from .kinds import SENDABLE
from .limits import why_refused
from .novita22_rules import IMAGE_RULES_22, RULES_22, SIZES_22
from .novita_rules import IMAGE_RULES, LOCAL_LORA, RANDOM_SEED, RULES, is_file
from .report import Finding

__all__ = ["NOVITA_MODELS", "SIZE_PAIRS", "NovitaModel", "for_novita", "novita_findings"]

NovitaModel = Literal["Wan 2.1", "Wan 2.2"]
NOVITA_MODELS: tuple[NovitaModel, ...] = ("Wan 2.1", "Wan 2.2")  # the first is the default
_OWN = "NovitaWan21T2VRequest"
SIZE_PAIRS = ((480, 832), (832, 480), (1280, 720), (720, 1280))  # (width, height) of Novita's Wan 2.1
_SIZES: Mapping[tuple[str, str], tuple[int, int]] = {
    ("480p", "16:9"): (832, 480),
    ("480p", "9:16"): (480, 832),
    ("720p", "16:9"): (1280, 720),
    ("720p", "9:16"): (720, 1280),
    ("480p", "auto"): (832, 480),  # image to video keeps the aspect ratio of the image
    ("720p", "auto"): (1280, 720),
}
_RULES_OF_TASK: Mapping[NovitaModel, Mapping[str, Mapping[str, Callable[[FieldCase], Finding]]]] = {
    "Wan 2.1": {"text-to-video": RULES, "legacy-text-to-video": RULES, "image-to-video": IMAGE_RULES},
    "Wan 2.2": {
        "text-to-video": RULES_22,
        "legacy-text-to-video": RULES_22,
        "image-to-video": IMAGE_RULES_22,
    },
}


def novita_findings(request: WanRequest, model: NovitaModel = "Wan 2.1") -> list[Finding]:
    """Return one finding per field: the effect of a fal request, or of a Novita request, at Novita."""
    values = request.model_dump(mode="json")
    if isinstance(request, SENDABLE[_OWN]):
        if model == "Wan 2.1":
            return [_own(field, values) for field in values]
        reason = "belongs to Wan 2.1; choose that model, or use the kind text-to-video"
        return [Finding("kind", "impossible", request.kind, None, reason)]
    if request.remote_only:
        reason = f"runs only at {request.provider}: use Run {request.provider}, or --on {request.provider}"
        return [Finding("kind", "impossible", request.kind, None, reason)]
    rules_of_task = _RULES_OF_TASK[model]
    if request.task not in rules_of_task:
        can = ", ".join(sorted(rules_of_task))
        reason = f"the Novita runner supports {can}, not {request.task}; use another runner"
        return [Finding("kind", "impossible", request.kind, None, reason)]
    model_finding = Finding("model", "supported", "Wan 2.2 A14B", "Wan 2.2", "Novita's Wan 2.2")
    if model == "Wan 2.1":
        reason = "the model of this Novita endpoint; Wan 2.2 is the other choice"
        model_finding = Finding("model", "adjusted", "Wan 2.2 A14B", "Wan 2.1 14B", reason)
    rules = rules_of_task[request.task]
    return [
        model_finding,
        *(
            rules[field](FieldCase(request.task, field, request.is_preference(field), values))
            for field in values
        ),
    ]


def for_novita(request: WanRequest, model: NovitaModel = "Wan 2.1") -> WanRequest | None:
    """Return the request as Novita's `model` accepts it. None if a value is impossible there.

    An unset seed becomes RANDOM_SEED for Wan 2.1, and stays unset for Wan 2.2.
    """
    if any(finding.status == "impossible" for finding in novita_findings(request, model)):
        return None
    if isinstance(request, SENDABLE[_OWN]):
        return request
    values = request.model_dump(mode="json")
    return _as_wan_21(request, values) if model == "Wan 2.1" else _as_wan_22(request, values)


def _as_wan_22(request: WanRequest, values: Mapping[str, Any]) -> WanRequest:
    loras = [{"path": lora["path"], "scale": lora["scale"]} for lora in values.get("loras") or ()]
    sent = {
        "prompt": values["prompt"],
        "negative_prompt": values["negative_prompt"] or None,
        "prompt_extend": bool(values["enable_prompt_expansion"]),
        "seed": values["seed"],
        "loras": loras or None,
    }
    resolution = values["resolution"]
    if request.task != "image-to-video":
        size = SIZES_22[resolution, values["aspect_ratio"]]
        return SENDABLE["NovitaWan22T2VRequest"].model_validate({**sent, "size": size})
    return SENDABLE["NovitaWan22I2VRequest"].model_validate(
        {**sent, "img_url": values["image_url"], "resolution": resolution.upper()}
    )


def _as_wan_21(request: WanRequest, values: Mapping[str, Any]) -> WanRequest:
    width, height = _SIZES[values["resolution"], values["aspect_ratio"]]
    loras = [{"path": lora["path"], "scale": lora["scale"]} for lora in values.get("loras") or ()]
    sent = {
        "width": width,
        "height": height,
        "loras": loras or None,
        "seed": RANDOM_SEED if values["seed"] is None else values["seed"],
        "prompt": values["prompt"],
        "negative_prompt": values["negative_prompt"] or None,
        "steps": values["num_inference_steps"],
        "guidance_scale": values["guidance_scale"],
        "flow_shift": values["shift"],
    }
    if request.task != "image-to-video":
        return SENDABLE[_OWN].model_validate(sent)
    if values["enable_safety_checker"] is not None:
        sent["enable_safety_checker"] = values["enable_safety_checker"]
    return SENDABLE["NovitaWan21I2VRequest_current"].model_validate(
        {**sent, "image_url": values["image_url"]}
    )


def _own(field: str, values: Mapping[str, Any]) -> Finding:
    """Return what happens to a field of Novita's own kind."""
    value = values[field]
    if refused := why_refused(_OWN, field, value) or _why_not_own(field, values):
        return Finding(field, "impossible", value, None, refused)
    reason = "not sent: the provider decides" if value is None else "sent unchanged"
    return Finding(field, "supported", value, value, reason)


def _why_not_own(field: str, values: Mapping[str, Any]) -> str | None:
    """Return why Novita refuses a value beside others. None if it takes it."""
    if field == "height" and (values["width"], values["height"]) not in SIZE_PAIRS:
        pairs = ", ".join(f"{width}x{height}" for width, height in SIZE_PAIRS)
        return f"does not go with the width at Novita; give one of {pairs}"
    for index, lora in enumerate((values["loras"] or ()) if field == "loras" else ()):
        if is_file(lora["path"]):
            return f"loras[{index}].path: {LOCAL_LORA}"
        if refused := why_refused("NovitaLoRA", "scale", lora["scale"]):
            return f"loras[{index}].scale: {refused}"
    return None

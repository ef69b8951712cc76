"""The effect of every field at fal. Requests of fal's own kinds are sent unchanged."""

from __future__ import annotations

from typing import Any

from .base import WanRequest
from .field_rows import MEDIA, MEDIA_LISTS, field_rows, media_named
from .joint_rules import joint_findings
from .limits import why_refused
from .lora_weight import why_not_sent
from .report import Finding
from .web_address import why_medium_not_sent

__all__ = ["fal_findings", "for_fal"]

# The Novita kind of a task -> the fal kind that generates the same sort of video.
_INSTEAD = {"wan21-text-to-video": "text-to-video"}
# Contracts whose address is not confirmed by a page of the provider.
_DOUBTS = {
    "Wan22T2VRequest": "the listing of 2026-08 no longer names this endpoint; text-to-video is newer",
    "Wan22LoRAT2VRequest": "no source names this endpoint, its address is a guess; text-to-video-lora is "
    "newer",
}


def fal_findings(request: WanRequest) -> list[Finding]:
    """Return one finding per field. A value outside fal's limits is impossible."""
    if request.provider != "fal":
        reason = f"{request.kind} belongs to {request.provider}; use the kind {_INSTEAD[request.kind]}"
        return [Finding("kind", "impossible", request.kind, None, reason)]
    findings = []
    if request.contract in _DOUBTS:
        doubt = _DOUBTS[request.contract]
        findings.append(Finding("kind", "warning", request.kind, request.kind, doubt))
    values = request.model_dump(mode="json")
    for row in field_rows(type(request)):
        value = values[row.name]
        fault = why_refused(request.contract, row.name, value) or _fault(row.name, value)
        if fault is not None:
            findings.append(Finding(row.name, "impossible", value, None, fault))
        else:
            findings.append(Finding(row.name, "supported", value, value, _meaning(row.name, value)))
    findings.extend(joint_findings(request))
    if request.kind == "image-to-image":
        reason = "the listing of 2026-08 no longer names this field; fal may ignore it"
        findings.append(Finding("resolution", "warning", values["resolution"], values["resolution"], reason))
    return findings


def for_fal(request: WanRequest) -> WanRequest | None:
    """Return the request unchanged, or None if it belongs to another provider."""
    return request if request.provider == "fal" else None


def _fault(field: str, value: Any) -> str | None:
    """Return why the value is not sent as it is; the run would end before anything is bought."""
    for name, text in media_named({field: value}).items():
        if fault := why_medium_not_sent(text):
            return ("" if name == field else f"{name}: ") + "; ".join(fault)
    if field == "return_frames_zip" and value:
        return "the archive would not be fetched; leave it off, and take the frames from the video"
    for index, lora in enumerate(value or () if field == "loras" else ()):
        if fault := why_not_sent(lora["path"]):
            return f"loras[{index}].path: {'; '.join(fault)}"
    return None


def _meaning(field: str, value: object) -> str:
    if value is None:
        return "not sent: the provider decides"
    if field in MEDIA and not str(value).startswith(("https://", "data:")):
        return "uploaded first, then sent as an address"
    if field in MEDIA_LISTS:
        return "sent in this order; files on this machine are uploaded first"
    if field == "loras":
        return "sent unchanged; files on this machine are uploaded first"
    return "sent unchanged"

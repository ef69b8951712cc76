"""Makes requests from what clients send: our JSON, or the form of OpenAI's video API.

A client never names a file of this machine: inputs come as data URIs, LoRAs by a name in the folders that the
operator has given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ..download.public_hosts import require_fetchable
from ..download.public_web import url_of
from ..errors import DownloadError, Problem, RequestError
from ..plan.families import Family
from ..request.base import WanRequest
from ..request.field_rows import LOCAL, is_media
from ..request.lora_weight import place_of
from ..request.parse import parse, shown_value
from .job_queue import PostedJob

__all__ = ["openai_job", "posted_job", "require_webhook"]

_SIZE = re.compile(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})")
_OPENAI_FIELDS = ("model", "prompt", "seconds", "size", "input_reference", "seed")
_LONGEST_S = 600
_CLIP = 4  # frames that the VAE encodes at a time, after the first


def posted_job(fields: Mapping[str, Any], kind: str, webhook_url: str | None = None) -> PostedJob:
    """Make the job of our JSON: the fields of a request, and `kind` beside them.

    kind: of fields that do not say theirs. Raises RequestError with all problems of the fields.
    """
    values = dict(fields)
    kind = values.pop("kind", kind)
    if not isinstance(kind, str):
        raise RequestError.of("kind", f"got {shown_value(kind)}", "give the name of a kind")
    request = parse(kind, values)
    _require_servable(request)
    return PostedJob(request, {}, webhook_url)


def openai_job(form: Mapping[str, Any], model: str, family: Family) -> PostedJob:
    """Make the job of OpenAI's form: model, prompt, seconds, size, input_reference; also a seed.

    model, family: those that this service runs. What is left out is the model's own.

    Raises RequestError with all problems of the form.
    """
    problems = list(_wrong_in_form(form, model))
    if problems:
        raise RequestError(problems)
    values: dict[str, Any] = {"prompt": form.get("prompt")}
    if form.get("seed") is not None:
        values["seed"] = int(form["seed"])
    if form.get("seconds") is not None:
        values["num_frames"] = _frames(Fraction(str(form["seconds"])), family.default_fps)
    if form.get("size") is not None:
        width, height = _SIZE.fullmatch(form["size"]).groups()  # type: ignore[union-attr]
        values[LOCAL] = {"width": int(width), "height": int(height)}
    reference = form.get("input_reference")
    if reference is not None:
        values["image_url"] = reference["image_url"] if isinstance(reference, Mapping) else reference
    request = parse("text-to-video" if reference is None else "image-to-video", values)
    _require_servable(request)
    about = {name: str(form[name]) for name in ("seconds", "size") if form.get(name) is not None}
    return PostedJob(request, {**about, "form": "openai"})


def require_webhook(url: str, *, allow_loopback: bool) -> str:
    """Return the address of a webhook. Raises RequestError unless it is https and may be public."""
    try:
        require_fetchable(url_of(url), allow_loopback=allow_loopback, any_port=True)
    except DownloadError as error:
        raise RequestError.of("webhook_url", str(error), "give an https address at a public host") from None
    return url


def _wrong_in_form(form: Mapping[str, Any], model: str) -> Iterator[Problem]:
    for name in sorted(form.keys() - set(_OPENAI_FIELDS)):
        yield Problem(name[:80], "there is no such field", f"known fields: {', '.join(_OPENAI_FIELDS)}")
    if form.get("model") not in (None, model):
        yield Problem("model", f"got {shown_value(form['model'])}", f"give {model}, or leave it out")
    seconds, size, seed = form.get("seconds"), form.get("size"), form.get("seed")
    if seconds is not None and not _is_seconds(seconds):
        yield Problem(
            "seconds", f"got {shown_value(seconds)}", f"give a number above 0, at most {_LONGEST_S}"
        )
    if size is not None and not (isinstance(size, str) and _SIZE.fullmatch(size)):
        yield Problem("size", f"got {shown_value(size)}", "give WIDTHxHEIGHT, such as 1280x720")
    if seed is not None and not _is_whole(seed):
        yield Problem("seed", f"got {shown_value(seed)}", "give a whole number, or leave it out")
    reference = form.get("input_reference")
    if isinstance(reference, Mapping):
        reference = reference.get("image_url", 0) if reference.keys() == {"image_url"} else 0
    if reference is not None and not isinstance(reference, str):
        fix = "send a file, a data URI, or an object with image_url alone"
        yield Problem("input_reference", f"got {shown_value(form['input_reference'])}", fix)


def _is_seconds(value: Any) -> bool:
    """Text as OpenAI has it, or a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    return re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", str(value)) is not None and (
        0 < Fraction(str(value)) <= _LONGEST_S
    )


def _is_whole(value: Any) -> bool:
    """A number of JSON, or the text of one in a form."""
    if isinstance(value, str):
        return re.fullmatch(r"[0-9]{1,20}", value) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _frames(seconds: Fraction, fps: int) -> int:
    """Return the nearest number of frames that the VAE can make: 4n + 1."""
    return max(round((seconds * fps - 1) / _CLIP), 0) * _CLIP + 1


def _require_servable(request: WanRequest) -> None:
    """Raise RequestError if a request names files of this machine, or asks for several results."""
    problems = list(_unservable(request.document(), ""))
    if request.local is not None and request.local.count > 1:
        problems.append(Problem("local.count", f"got {request.local.count}", "send one request per result"))
    if problems:
        raise RequestError(problems)


def _unservable(value: Any, field: str) -> Iterator[Problem]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _unservable(item, f"{field}.{name}" if field else str(name))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _unservable(item, f"{field}[{index}]")
    elif isinstance(value, str):
        yield from _unservable_text(field, value)


def _unservable_text(field: str, text: str) -> Iterator[Problem]:
    name = re.sub(r"\[[0-9]+\]$", "", field).rpartition(".")[2]
    if is_media(name):
        if text[:5].lower() != "data:":
            found = f"got {shown_value(text)}, and a client cannot name files"
            yield Problem(field, found, "send the content as a data URI")
    elif name == "path" and _leaves_folders(text):
        fix = "give the name of a file in the folders of LoRAs of this service, or toy/NAME"
        yield Problem(field, f"got {shown_value(text)}", fix)


def _leaves_folders(path: str) -> bool:
    """Whether the `path` of a LoRA is anything but a name below a folder."""
    if place_of(path) == "address":
        return True
    return any(
        flavour(path).is_absolute() or ".." in flavour(path).parts or path.startswith("~")
        for flavour in (PurePosixPath, PureWindowsPath)
    )

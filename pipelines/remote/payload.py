"""What is sent for a request: as it is written down, with a hash in place of every file, and as it goes out.

Media lie on sockets, in files and in data URIs. A provider wants addresses. So a payload first names each
file by its hash, which is what the journal keeps and compares; only when a job is really submitted are the
files uploaded, and their addresses put in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import RequestError
from ..request import WanRequest
from ..request.field_rows import MEDIA_LISTS, media_named, with_texts
from ..request.lora_weight import place_of, why_not_sent
from ..request.web_address import is_https, why_medium_not_sent
from ..video.local_file import FindFile, LocalFile, any_file, data_uri, file_at, file_in_data_uri, of_type
from .provider import Payload

__all__ = ["Prepared", "prepare", "sendable"]

# fal keeps the result of a payload below 10 KB for an hour, of any other for six minutes (fal.ai/docs, queue
# result, 2026-11): only what surely stays below goes into the payload itself.
_INLINE_BYTES = 3000
_NO_STORAGE = "Novita accepts no files, only addresses; give an https address, or use fal or the local runner"


@dataclass(frozen=True)
class Prepared:
    """A payload with "sha256:..." in place of every local file. files: {that text: the file}."""

    endpoint: str
    payload: Payload
    files: Mapping[str, LocalFile] = field(default_factory=lambda: MappingProxyType({}))


def prepare(
    request: WanRequest,
    media: Mapping[str, Path] = MappingProxyType({}),
    find: FindFile = any_file,
    check: Callable[[], None] = lambda: None,
) -> Prepared:
    """Find and hash every file that `request` names.

    media: {field or entry: the file written for the medium connected to it}.
    find:  returns the file that a name in a field means, and refuses files that must not leave this machine.
           The request may be somebody else's, and an upload can be read by everyone who has its address.
    check: called while hashing, which takes seconds for a large file; raises to stop it.

    Raises RequestError for a file that cannot be read, for an address that is not https, and for any file if
    the provider stores no files.
    """
    payload: dict[str, Any] = request.payload()
    files: dict[str, LocalFile] = {}

    def named(file: LocalFile, where: str, text: str = "") -> str:
        if request.provider == "novita":
            raise RequestError.of(where, f"{file.name} is a file on this machine", _NO_STORAGE)
        text = text or f"sha256:{file.sha256}"
        files[text] = file
        return text

    sent: dict[str, str] = {}
    for name, text in media_named(payload).items():
        if name in media:  # the hash of the medium stays: the same picture may be written in other bytes
            sent[name] = named(of_type(file_at(media[name], name, check), name), name, text)
        else:
            file = _file_of(text, name, find, check)
            sent[name] = text if file is None else named(of_type(file, name), name)
    payload |= {name: text for name, text in sent.items() if name in payload}
    for name in MEDIA_LISTS.keys() & payload.keys():
        payload[name] = [sent[f"{name}[{index}]"] for index in range(len(payload[name]))]
    loras = [dict(lora) for lora in payload.get("loras", ())]
    for index, lora in enumerate(loras):
        where = f"loras[{index}].path"
        if (file := _lora_file(lora["path"], where, find, check)) is not None:
            if lora.pop("weight_name", None) is not None:
                raise RequestError.of(f"loras[{index}].weight_name", "given for a file", "leave it out")
            lora["path"] = named(file, where)
    if loras:
        payload["loras"] = loras
    return Prepared(request.endpoint, MappingProxyType(payload), MappingProxyType(files))


async def sendable(prepared: Prepared, upload: Callable[[LocalFile], Awaitable[str]]) -> dict[str, Any]:
    """Return the payload to send: files are uploaded, or put into the payload if they are very small."""
    addresses: dict[str, str] = {}
    for text, file in prepared.files.items():
        addresses[text] = _content_of(file) if _is_inline(file) else await upload(file)
    return with_texts(prepared.payload, lambda _, text: addresses.get(text, text))


def _file_of(value: str, where: str, find: FindFile, check: Callable[[], None]) -> LocalFile | None:
    """Return the file that a value names. None for an address, which is sent unchanged."""
    if value[:5].lower() == "data:":
        return file_in_data_uri(value, where)
    if is_https(value):
        return None
    if value.startswith("sha256:"):
        raise RequestError.of(
            where, "the connected media is missing", "connect it again, or give a file or an address"
        )
    if fault := why_medium_not_sent(value):
        raise RequestError.of(where, *fault)
    return file_at(find(value, where), where, check, "a file that can be read, or an https address")


def _lora_file(path: str, where: str, find: FindFile, check: Callable[[], None]) -> LocalFile | None:
    """Return the file that a path names. None for an address or repository, which the provider downloads."""
    if fault := why_not_sent(path):
        raise RequestError.of(where, *fault)
    if place_of(path) != "file":
        return None
    file = find(path, where)
    if file.suffix.lower() != ".safetensors":  # what a link leads to
        raise RequestError.of(where, f"{file.name[:80]!r} is not a .safetensors file", "give one that is")
    return file_at(file, where, check)


def _is_inline(file: LocalFile) -> bool:
    return file.size_bytes <= _INLINE_BYTES and file.content_type.startswith("image/")


def _content_of(file: LocalFile) -> str:
    return data_uri(file.read(0, file.size_bytes), file.content_type)

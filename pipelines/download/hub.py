"""Finds a file in a Hugging Face repository, and its commit.

Uses the HTTP API of the Hub through the same `Web` as every download. huggingface_hub would keep a second
cache, follow redirects to any host, and could not be stopped between two chunks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import httpx

from ..errors import DownloadError
from .address import HubFile
from .web import Web

__all__ = ["ADAPTER_CONFIG", "ChosenFile", "choose_file", "read_adapter_config"]

ADAPTER_CONFIG = "adapter_config.json"  # peft/utils/constants.py, CONFIG_NAME

_HUB = "https://huggingface.co"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LARGEST_LISTING = 16 * 2**20  # bytes of JSON
_LARGEST_CONFIG = 2**20


@dataclass(frozen=True)
class ChosenFile:
    """One file at one commit.

    sha256:     as listed by the Hub; "" for a file outside of Git LFS.
    config_url: of the `adapter_config.json` that belongs to it; "" if the repository has none.
    """

    file: str
    commit: str
    url: str
    sha256: str
    config_url: str = ""


def choose_file(wanted: HubFile, web: Web) -> ChosenFile:
    """Return the named .safetensors file of a repository, or the only one if no name is given.

    Raises DownloadError if the repository cannot be read, and if the name is wrong or missing; then the
    message lists the files.
    """
    if not _NAME.fullmatch(wanted.repository) or ".." in wanted.repository:
        raise DownloadError(f"{wanted.repository[:100]!r} is not a repository name; give owner/name")
    if wanted.file is not None:
        _require_inside(wanted.file)
    listing = _listing(wanted, web)
    files = _safetensors(listing)
    name = wanted.file
    if name is None and len(files) == 1:
        (name,) = files
    if name not in files:
        found = f"has no file {name}" if name else f"has {len(files)} .safetensors files"
        raise DownloadError(f"{wanted.repository}: {found}; {_offer(list(files))}")
    commit = listing.get("sha")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise DownloadError(f"{wanted.repository}: the Hub's answer has no commit; try again later")
    at_commit = f"{_HUB}/{wanted.repository}/resolve/{commit}/"
    config = _config_of(name, files, listing)
    config_url = f"{at_commit}{quote(config)}" if config else ""
    return ChosenFile(name, commit, f"{at_commit}{quote(name)}", files[name], config_url)


def read_adapter_config(chosen: ChosenFile, shown: str, web: Web) -> str:
    """Return the `adapter_config.json` of an adapter of PEFT; "" if it has none.

    Raises DownloadError if it cannot be read, because without it the strength of the LoRA is unknown.
    """
    if not chosen.config_url:
        return ""
    where = f"{shown}: its {ADAPTER_CONFIG}"
    with web.get(chosen.config_url) as answer:
        if answer.status_code != 200:
            raise DownloadError(f"{where} cannot be read, the Hub answered {answer.status_code}; try again")
        text = _body(answer, _LARGEST_CONFIG, f"{where} is too long; download both files yourself")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise DownloadError(f"{where} is no text: {error}") from error


def _config_of(name: str, files: Mapping[str, str], listing: Mapping[str, Any]) -> str:
    """Return the configuration in the folder of a file, "" if there is none, or if it may be of another file.

    As on a disk: the file has PEFT's own name, or is the only one in its folder.
    """
    folder, slash, bare = name.rpartition("/")
    config = f"{folder}{slash}{ADAPTER_CONFIG}"
    beside = [other for other in files if other.rpartition("/")[0] == folder]
    if bare.lower() != "adapter_model.safetensors" and len(beside) > 1:
        return ""
    entries = (entry for entry in listing["siblings"] if isinstance(entry, dict))
    return config if any(entry.get("rfilename") == config for entry in entries) else ""


def _body(answer: httpx.Response, most: int, too_long: str) -> bytes:
    """Return the body of an answer. Raises DownloadError with the text `too_long` if it is longer."""
    body = bytearray()
    for chunk in answer.iter_raw():
        body += chunk
        if len(body) > most:
            raise DownloadError(too_long)
    return bytes(body)


def _require_inside(file: str) -> None:
    parts = file.replace("\\", "/").split("/")
    if ".." in parts or "" in parts or "\\" in file or ":" in parts[0]:
        raise DownloadError(
            f"weight_name: {file[:100]!r} is outside the repository; give the name of one of its files"
        )


def _listing(wanted: HubFile, web: Web) -> Mapping[str, Any]:
    revision = quote(unquote(wanted.revision), safe="")
    url = f"{_HUB}/api/models/{wanted.repository}/revision/{revision}?blobs=true"
    with web.get(url, {"Accept": "application/json"}) as answer:
        if answer.status_code in (401, 403, 404):
            raise DownloadError(
                f"{wanted.repository}: Hugging Face has no such public repository; check the name, and for a "
                "private or gated one set HF_TOKEN to a token that may read it"
            )
        if answer.status_code != 200:
            raise DownloadError(
                f"{wanted.repository}: Hugging Face answered {answer.status_code}; try again later"
            )
        too_long = f"{wanted.repository}: the list of files is too long; give the address of the file"
        body = _body(answer, _LARGEST_LISTING, too_long)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DownloadError(f"{wanted.repository}: the Hub's list of files is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DownloadError(f"{wanted.repository}: the Hub's list of files is not a JSON object")
    return content


def _safetensors(listing: Mapping[str, Any]) -> dict[str, str]:
    """Return {name: sha256} of the .safetensors files; "" if no sha256 is listed."""
    files: dict[str, str] = {}
    entries = listing.get("siblings")
    for entry in entries if isinstance(entries, list) else ():
        name = entry.get("rfilename") if isinstance(entry, dict) else None
        if isinstance(name, str) and name.endswith(".safetensors"):
            large = entry.get("lfs")
            sha256 = large.get("sha256") if isinstance(large, dict) else None
            files[name] = sha256 if isinstance(sha256, str) else ""
    return files


def _offer(names: list[str]) -> str:
    if not names:
        return "it has no .safetensors file, and only these are supported"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"give one of these as weight_name: {', '.join(sorted(names)[:20])}{more}"

"""Parses a web address or a repository name, and removes secrets from an address before it is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from ..errors import DownloadError

__all__ = ["HubFile", "WebFile", "read_address", "shown"]

_HUB_HOSTS = {"huggingface.co", "www.huggingface.co", "hf.co"}
_HUB_FILE = re.compile(r"/([^/]+/[^/]+)/(?:blob|resolve)/([^/]+)/(.+)")
_HUB_REPOSITORY = re.compile(r"/((?!datasets/|spaces/|models/|api/)[^/]+/[^/]+?)/?")
_CIVITAI_PAGE = re.compile(r"/models/\d+(?:/[^/]*)?")
# Query parameters that choose a file of a Civitai version. All others are hidden: they may be a signature.
_HARMLESS = {"type", "format", "size", "fp"}
_CREDENTIALS = {"token", "access_token", "api_key", "apikey", "key", "auth", "authorization"}


@dataclass(frozen=True)
class WebFile:
    """A file at an address. `url` may contain a signature, so only `shown` is written anywhere."""

    url: str = field(repr=False)
    shown: str

    @property
    def key(self) -> str:
        return self.url


@dataclass(frozen=True)
class HubFile:
    """A file in a Hugging Face repository. file: None means its only .safetensors file."""

    repository: str
    file: str | None = None
    revision: str = "main"

    @property
    def shown(self) -> str:
        return self.repository if self.file is None else f"{self.repository}/{self.file}"

    @property
    def key(self) -> str:
        return f"hub:{self.repository}@{self.revision}:{self.file or ''}"


def read_address(text: str) -> WebFile | HubFile:
    """Parse an https address. A page of Hugging Face or Civitai stands for the file it shows.

    Raises DownloadError for a text that is no address, for another scheme, and for a credential in the
    address: addresses are written into workflows, receipts and logs.
    """
    try:
        parts = urlsplit(text.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise DownloadError("not a valid address; give one that begins with https://") from None
    if parts.scheme.lower() != "https" or not host:
        raise DownloadError(f"{shown(text)}: only https is supported; give an address with https://")
    given = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if parts.username is not None or given & _CREDENTIALS:
        raise DownloadError(
            f"{shown(text)}: the address contains a credential, which would be written into workflows and "
            "videos; remove it and set CIVITAI_API_TOKEN or HF_TOKEN in the environment"
        )
    if host in _HUB_HOSTS:
        if found := _HUB_FILE.fullmatch(parts.path):
            return HubFile(found[1], unquote(found[3]), found[2])
        if found := _HUB_REPOSITORY.fullmatch(parts.path):
            return HubFile(found[1])
    url = parts._replace(scheme="https", fragment="").geturl()
    if host in ("civitai.com", "www.civitai.com") and _CIVITAI_PAGE.fullmatch(parts.path):
        version = dict(parse_qsl(parts.query)).get("modelVersionId", "")
        if not version.isdecimal():
            raise DownloadError(
                f"{shown(text)}: the page has several versions; choose one there and copy the link of its "
                "download button"
            )
        url = f"https://civitai.com/api/download/models/{version}"
    return WebFile(url, shown(url))


def shown(url: str) -> str:
    """Return an address without user, fragment and every query parameter that could be secret."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "an unreadable address"
    query = urlencode([pair for pair in parse_qsl(parts.query) if pair[0].lower() in _HARMLESS])
    place = quote(f"[{host}]" if ":" in host else host, safe="[]:") + ("" if port is None else f":{port}")
    path = quote(unquote(parts.path), safe="/@:+,=~()!")[:200]  # quoted: no line breaks in a log
    return f"{parts.scheme}://{place}{path}" + (f"?{query}" if query else "")

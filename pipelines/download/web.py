"""One GET through any redirects, with a token for the provider it belongs to and for nobody else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import httpx

from ..errors import DownloadError
from .address import shown
from .public_web import PublicTransport

__all__ = ["TOKEN_NAMES", "Web", "tokens_from"]

# Each host and the variable with its token. No other host gets one, not even a subdomain.
TOKEN_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "civitai.com": "CIVITAI_API_TOKEN",
        "www.civitai.com": "CIVITAI_API_TOKEN",
        "huggingface.co": "HF_TOKEN",
    }
)
_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_TIMEOUT = httpx.Timeout(20.0, connect=10.0)


def tokens_from(environ: Mapping[str, str]) -> dict[str, str]:
    """{host: token} of the variables that are set."""
    tokens = {host: environ.get(name, "").strip() for host, name in TOKEN_NAMES.items()}
    return {host: token for host, token in tokens.items() if token}


@dataclass(frozen=True)
class Web:
    """How the web is reached. tokens: {host: bearer token}."""

    transport: httpx.BaseTransport = field(default_factory=PublicTransport)
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """The answer behind all redirects, its body unread; whatever its status is.

        Uses the transport itself and no httpx.Client: a client writes whole addresses into the log, with
        their signatures. Raises DownloadError for a redirect that is endless or leaves https, and
        httpx.TransportError.
        """
        at = _readable(url, httpx.URL)
        for _ in range(_MOST_REDIRECTS + 1):
            response = self.transport.handle_request(self._request(at, headers or {}))
            try:
                if response.status_code not in _REDIRECTS:
                    yield response
                    return
                at = _target(at, response)
            finally:
                response.close()
        raise DownloadError(
            f"{shown(url)}: redirected more than {_MOST_REDIRECTS} times; give its last address"
        )

    def _request(self, url: httpx.URL, headers: Mapping[str, str]) -> httpx.Request:
        # identity: what is counted and hashed are the bytes of the file, and nothing can inflate.
        every = {"User-Agent": "wan-duet", "Accept": "*/*", "Accept-Encoding": "identity", **headers}
        token = self.tokens.get(url.host) if url.port is None else None
        if token is not None:
            if not re.fullmatch(r"[!-~]+", token):  # a header with a line break in it would be two
                raise DownloadError(f"{TOKEN_NAMES[url.host]}: holds characters no token has; copy it again")
            every["Authorization"] = f"Bearer {token}"
        return httpx.Request("GET", url, headers=every, extensions={"timeout": _TIMEOUT.as_dict()})


def _target(at: httpx.URL, response: httpx.Response) -> httpx.URL:
    location = response.headers.get("location", "")
    target = _readable(location, at.join)
    if not location or target.scheme != "https" or target.userinfo:
        raise DownloadError(
            f"{shown(str(at))}: redirects to {shown(str(target))}, and only plain https is followed"
        )
    return target


def _readable(text: str, read: Callable[[str], httpx.URL]) -> httpx.URL:
    try:
        url = read(text)
        _ = url.host  # httpx decodes it in many places, and not every name can be
        return url
    except (httpx.InvalidURL, UnicodeError):
        raise DownloadError(f"{shown(text)}: not an address that can be asked for") from None

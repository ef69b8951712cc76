"""Sends a GET request and follows redirects. A token is sent only to the host it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import httpx

from ..errors import DownloadError
from .address import shown
from .public_web import PublicTransport, redirected, url_of

__all__ = ["TOKEN_NAMES", "Web", "tokens_from"]

# Each host and the variable with its token. No other host is sent a token, not even a subdomain.
TOKEN_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "civitai.com": "CIVITAI_API_TOKEN",
        "www.civitai.com": "CIVITAI_API_TOKEN",
        "huggingface.co": "HF_TOKEN",
    }
)
_MOST_REDIRECTS = 5
_TIMEOUT = httpx.Timeout(20.0, connect=10.0)


def tokens_from(environ: Mapping[str, str]) -> dict[str, str]:
    """Return {host: token} from the variables that are set."""
    tokens = {host: environ.get(name, "").strip() for host, name in TOKEN_NAMES.items()}
    return {host: token for host, token in tokens.items() if token}


@dataclass(frozen=True)
class Web:
    """The transport and the tokens of downloads. tokens: {host: bearer token}."""

    transport: httpx.BaseTransport = field(default_factory=lambda: PublicTransport(any_port=True))
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """Yield the response after all redirects, of any status, with its body unread.

        Uses the transport directly. An httpx.Client would write whole addresses into the log, with their
        signatures. Raises DownloadError for too many redirects and for hosts that are not public, and
        httpx.TransportError.
        """
        at = url_of(url)
        for _ in range(_MOST_REDIRECTS + 1):
            response = self.transport.handle_request(self._request(at, headers or {}))
            try:
                target = redirected(at, response)
                if target is None:
                    yield response
                    return
                at = target
            finally:
                response.close()
        raise DownloadError(
            f"{shown(url)}: redirected more than {_MOST_REDIRECTS} times; give the final address"
        )

    def _request(self, url: httpx.URL, headers: Mapping[str, str]) -> httpx.Request:
        # identity: the bytes of the file are counted and hashed, and a compressed answer cannot inflate.
        every = {"User-Agent": "wan-duet", "Accept": "*/*", "Accept-Encoding": "identity", **headers}
        token = self.tokens.get(url.host) if url.port is None else None
        if token is not None:
            if not re.fullmatch(r"[!-~]+", token):  # a header with a line break in it would be two
                raise DownloadError(
                    f"{TOKEN_NAMES[url.host]}: contains characters that a token cannot have; copy it again"
                )
            every["Authorization"] = f"Bearer {token}"
        return httpx.Request("GET", url, headers=every, extensions={"timeout": _TIMEOUT.as_dict()})

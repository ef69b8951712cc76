"""Whom a download may talk to, and who gets to see a token."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from wan_duet.pipelines.download.address import HubFile, WebFile, read_address
from wan_duet.pipelines.download.downloads import Downloads
from wan_duet.pipelines.download.public_hosts import is_public
from wan_duet.pipelines.download.public_web import PublicTransport, proxy_of
from wan_duet.pipelines.download.web import Web, tokens_from
from wan_duet.pipelines.errors import DownloadError
from wan_duet.pipelines.progress import Silent

from .conftest import MakeDownloads
from .small_web import PUBLIC, Loopback, Site

CIVITAI = "https://civitai.com/api/download/models/7"
TOKENS = {"civitai.com": "s3cret-token", "huggingface.co": "other-s3cret"}


def web_file(text: str) -> WebFile:
    found = read_address(text)
    assert isinstance(found, WebFile)
    return found


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f000001", "169.254.169.254", "10.1.2.3"]
)
def test_a_local_address_is_refused_however_it_is_spelled(tmp_path: Path, host: str) -> None:
    """With the name service and sockets of this machine."""
    with pytest.raises(DownloadError, match="not on the public internet"):
        Downloads(tmp_path).get(web_file(f"https://{host}/a.safetensors"), Silent())


@pytest.mark.parametrize(
    "found", [["10.0.0.1"], [PUBLIC, "127.0.0.1"], ["::ffff:10.0.0.1"], ["fe80::1%eth0"], []]
)
def test_a_name_with_any_local_address_is_refused_and_never_called(
    loopback: Loopback, downloads: MakeDownloads, found: list[str]
) -> None:
    made = downloads(names={"rebind.example": found})
    with pytest.raises(DownloadError, match=r"rebind\.example: not on the public internet"):
        made.get(web_file("https://rebind.example/a"), Silent())
    assert loopback.called == []


def test_a_redirect_to_a_local_machine_is_refused(
    site: Site, loopback: Loopback, downloads: MakeDownloads
) -> None:
    site.redirect("a.example", "/a", "https://metadata.internal/latest")
    made = downloads(names={"metadata.internal": ["169.254.169.254"]})
    with pytest.raises(DownloadError, match=r"metadata\.internal: not on the public internet"):
        made.get(web_file("https://a.example/a"), Silent())
    assert len(loopback.called) == 1


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ("http://b.example/b", "only https"),
        ("ftp://b.example/b", "only https"),
        ("https://me:s3cret@b.example/b", "has no host, or a user name"),
        ("https://127.1/b", "not on the public internet"),
        ("", "redirects without an address"),
    ],
)
def test_a_redirect_that_leaves_plain_https_is_refused(
    site: Site, loopback: Loopback, downloads: MakeDownloads, to: str, text: str
) -> None:
    site.redirect("a.example", "/a", to)
    with pytest.raises(DownloadError, match=text) as refusal:
        downloads().get(web_file("https://a.example/a"), Silent())
    assert "s3cret" not in str(refusal.value)
    assert len(loopback.called) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/\0",
        "https://xn--.example/a",
        f"https://{'a' * 300}.b/c",
        f"https://a.b/{'c' * 70000}",
    ],
)
def test_an_address_that_nobody_could_ask_for_is_refused(
    site: Site, downloads: MakeDownloads, url: str
) -> None:
    site.redirect("a.example", "/a", url)
    for asked in (url, "https://a.example/a"):
        with pytest.raises(DownloadError):
            downloads().get(web_file(asked), Silent())


def test_endless_redirects_are_given_up(site: Site, downloads: MakeDownloads) -> None:
    site.redirect("a.example", "/a", "/a")
    with pytest.raises(DownloadError, match="redirected more than 5 times"):
        downloads().get(web_file("https://a.example/a"), Silent())
    assert len(site.asked) == 6


def test_what_was_looked_at_is_what_is_called_under_its_own_name(
    site: Site, loopback: Loopback, downloads: MakeDownloads, weights: bytes
) -> None:
    """The numeric address is called, so no second look-up can name another one; TLS checks the name."""
    site.file("a.example", "/a", weights)
    downloads().get(web_file("https://a.example/a"), Silent())
    (called,) = loopback.called
    assert (called.url.scheme, called.url.host) == ("https", PUBLIC)
    assert (called.headers["Host"], called.extensions["sni_hostname"]) == ("a.example", "a.example")


def test_a_token_goes_to_its_own_host_and_nowhere_else(
    site: Site, downloads: MakeDownloads, weights: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    site.redirect("civitai.com", "/api/download/models/7", "https://cdn.example/f?X-Signature=sign3d")
    site.file("cdn.example", "/f", weights)
    with caplog.at_level(logging.INFO):
        made = downloads(tokens=TOKENS)
        file = made.get(web_file(CIVITAI), Silent())
    sent = [(asked.host, asked.headers.get("Authorization")) for asked in site.asked]
    assert sent == [("civitai.com", "Bearer s3cret-token"), ("cdn.example", None)]
    written = (file.parent / "index.json").read_text() + caplog.text + repr(made)
    assert not re.search("s3cret|sign3d", written)


@pytest.mark.parametrize(
    "host",
    ["evil-civitai.com", "civitai.com.evil.example", "sub.civitai.com", "civitai.com:8443", "a.example"],
)
def test_a_host_that_only_looks_like_the_provider_gets_no_token(
    site: Site, downloads: MakeDownloads, weights: bytes, host: str
) -> None:
    site.file(host, "/a", weights)
    downloads(tokens=TOKENS).get(web_file(f"https://{host}/a"), Silent())
    assert "Authorization" not in site.asked[0].headers


def test_the_hub_gets_its_own_token(site: Site, downloads: MakeDownloads) -> None:
    with pytest.raises(DownloadError, match="no such public repository") as refusal:
        downloads(tokens=TOKENS).get(HubFile("owner/name"), Silent())
    assert site.asked[0].headers["Authorization"] == "Bearer other-s3cret"
    assert "s3cret" not in str(refusal.value)


def test_tokens_come_from_the_environment() -> None:
    found = tokens_from({"CIVITAI_API_TOKEN": " abc\n", "HF_TOKEN": ""})
    assert found == {"civitai.com": "abc", "www.civitai.com": "abc"}


def test_a_token_that_would_be_two_headers_is_refused_by_the_name_of_its_variable(
    site: Site, downloads: MakeDownloads
) -> None:
    broken = downloads(tokens=tokens_from({"HF_TOKEN": "s3cret\r\nX-Evil: 1"}))
    with pytest.raises(DownloadError, match=r"^HF_TOKEN: contains characters") as refusal:
        broken.get(HubFile("owner/name"), Silent())
    assert "s3cret" not in str(refusal.value)
    assert site.asked == []


def test_behind_a_proxy_names_are_left_to_it(site: Site, loopback: Loopback, weights: bytes) -> None:
    site.file("a.example", "/a", weights)

    def no_names_here(host: str, port: int) -> list[str]:
        raise OSError("no name server")

    web = Web(PublicTransport(loopback, no_names_here, proxy="http://proxy.example:3128"))
    with web.get("https://a.example/a") as answer:
        assert answer.read() == weights
    assert loopback.called[0].url.host == "a.example"


def test_the_proxy_is_the_one_for_https() -> None:
    assert (
        proxy_of({"http_proxy": "http://a", "ALL_PROXY": "http://b", "https_proxy": "http://c"}) == "http://c"
    )
    assert proxy_of({"HTTPS_PROXY": " "}) is None


def test_a_proxy_of_another_kind_is_refused_without_its_password(loopback: Loopback) -> None:
    web = Web(PublicTransport(loopback, proxy="socks5://me:s3cret@proxy.example"))
    with pytest.raises(DownloadError, match="HTTPS_PROXY: only") as refusal, web.get("https://a.example/a"):
        pass
    assert "s3cret" not in str(refusal.value)

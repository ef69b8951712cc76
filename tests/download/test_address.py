"""What an address means, and that nothing secret in it is ever shown."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.download.address import HubFile, WebFile, read_address, shown
from wan_duet.pipelines.errors import DownloadError

HUB = "https://huggingface.co/owner/name"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (HUB, HubFile("owner/name")),
        (f"{HUB}/", HubFile("owner/name")),
        (f"{HUB}/blob/main/a.safetensors", HubFile("owner/name", "a.safetensors")),
        (
            f"{HUB}/resolve/v2/sub/a%20b.safetensors?download=true",
            HubFile("owner/name", "sub/a b.safetensors", "v2"),
        ),
        ("https://hf.co/owner/name", HubFile("owner/name")),
    ],
)
def test_pages_of_hugging_face_mean_the_file_they_show(text: str, meaning: HubFile) -> None:
    assert read_address(text) == meaning


def test_a_civitai_page_with_its_version_means_the_download() -> None:
    found = read_address("https://civitai.com/models/12/a-name?modelVersionId=345")
    assert found == WebFile(
        "https://civitai.com/api/download/models/345", "https://civitai.com/api/download/models/345"
    )
    with pytest.raises(DownloadError, match="choose one there"):
        read_address("https://civitai.com/models/12/a-name")


@pytest.mark.parametrize(
    "text",
    [
        "http://a.b/c",
        "ftp://a.b/c",
        "file:///etc/passwd",
        "https://",
        "https:///c",
        "data://x",
        "https://[::1/c",
        "https://a.b:port/c",
    ],
)
def test_only_https_addresses_are_read(text: str) -> None:
    with pytest.raises(DownloadError, match="https"):
        read_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://me:s3cret@a.b/c",
        "https://s3cret@a.b/c",
        "https://civitai.com/api/download/models/1?token=s3cret",
        "https://a.b/c?API_KEY=s3cret",
        "https://a.b/c?token",
    ],
)
def test_an_address_with_a_credential_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(DownloadError, match=r"contains a credential.*CIVITAI_API_TOKEN") as refusal:
        read_address(text)
    assert "s3cret" not in str(refusal.value)


def test_of_a_query_only_the_choice_of_the_file_is_shown() -> None:
    text = "https://civitai.com/api/download/models/1?type=Model&X-Amz-Signature=s3cret&fp=fp16#s3cret"
    assert shown(text) == "https://civitai.com/api/download/models/1?type=Model&fp=fp16"
    assert "s3cret" not in repr(read_address(text))


@given(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(["https://a.b/", "https://", ""]),
)
def test_any_text_is_read_or_refused_and_never_breaks_a_log_line(text: str, begin: str) -> None:
    assert shown(begin + text).isprintable()
    with suppress(DownloadError):
        assert read_address(begin + text).shown.isprintable()


@given(st.text(alphabet="0123456789abcdef", min_size=32, max_size=32))
def test_a_signature_is_never_shown(secret: str) -> None:
    for text in (
        f"https://a.b/c?s={secret}",
        f"https://u:{secret}@a.b/c",
        f"https://a.b/c#{secret}",
        f"http://a.b/?token={secret}",
    ):
        assert secret not in shown(text)

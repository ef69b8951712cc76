"""What may go wrong between the first byte and the last, and what is left of it."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from wan_duet.pipelines.download.address import WebFile, read_address
from wan_duet.pipelines.errors import DownloadError
from wan_duet.pipelines.progress import Silent

from .conftest import MakeDownloads
from .small_web import Reply, Site

HOST, PATH = "files.example", "/a/style.safetensors"
ADDRESS = f"https://{HOST}{PATH}"
TAG = {"ETag": '"one"'}


def wanted(text: str = ADDRESS) -> WebFile:
    found = read_address(text)
    assert isinstance(found, WebFile)
    return found


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.part*")) if folder.is_dir() else []


class StopsAfter(Silent):
    """The user stops at the given look."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


class Counts(Silent):
    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def begin(self, stage: str, total: int, unit: str) -> None:
        self.seen.append((stage, total, unit))

    def advance(self, done: int, preview: object = None) -> None:
        self.seen.append((done,))


def test_a_connection_that_breaks_is_continued_from_where_it_was(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.file(HOST, PATH, weights, **TAG)
    rest = site.pages[HOST, PATH]
    broken = [Reply(weights, 200, TAG, breaks_after=20_000)]
    site.pages[HOST, PATH] = lambda asked: broken.pop() if broken else rest(asked)
    assert downloads().get(wanted(), Silent()).read_bytes() == weights
    assert [asked.headers.get("Range") for asked in site.asked] == [None, "bytes=20000-"]
    assert site.asked[1].headers["If-Range"] == TAG["ETag"]


def test_a_stopped_download_is_continued_by_the_next_run(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    big = padded(weights, 2**20)
    site.file(HOST, PATH, big, **TAG)
    made = downloads()
    with pytest.raises(KeyboardInterrupt):
        made.get(wanted(), StopsAfter(4))
    (part,) = made.folder.glob("*.part")
    assert 0 < part.stat().st_size < len(big)
    assert made.get(wanted(), Silent()).read_bytes() == big
    assert int(site.asked[-1].headers["Range"].removeprefix("bytes=").removesuffix("-")) > 0
    assert parts(made.folder) == []


@pytest.mark.parametrize("tag", ['"two"', 'W/"one"', ""])
def test_another_version_of_the_file_is_begun_anew(
    site: Site, downloads: MakeDownloads, weights: bytes, tag: str
) -> None:
    made, old = downloads(), bytes(len(weights))
    first = {"ETag": '"one"' if tag == '"two"' else tag}
    head = weights[:9] + old[9:]
    site.reply(HOST, PATH, Reply(head, 200, first, breaks_after=5000), Reply(b"", 503))
    with pytest.raises(DownloadError, match="503" if tag == '"two"' else r"connection broke|peer closed"):
        made.get(wanted(), Silent())
    site.file(HOST, PATH, weights, **({"ETag": tag} if tag else {}))
    assert made.get(wanted(), Silent()).read_bytes() == weights


def test_a_whole_part_is_no_obstacle(site: Site, downloads: MakeDownloads, weights: bytes) -> None:
    """A stop between the last byte and the keeping of the file: nothing is left to ask for."""
    site.file(HOST, PATH, weights, **TAG)
    made = downloads()
    made.folder.mkdir()
    from wan_duet.pipelines.download.store import Store

    part = Store(made.folder).part(wanted().key)
    part.write_bytes(weights)
    part.with_name(f"{part.name}.json").write_text('{"etag": "\\"one\\""}')
    assert made.get(wanted(), Silent()).read_bytes() == weights


def test_a_server_that_always_breaks_off_is_given_up_with_what_is_kept(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.reply(HOST, PATH, Reply(padded(weights, 2**20), 200, TAG, breaks_after=2**19))
    with pytest.raises(DownloadError, match=r"0 MiB are kept, run again to resume"):
        downloads().get(wanted(), Silent())
    assert len(site.asked) <= 4


def test_without_a_version_nothing_is_said_to_be_kept(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.reply(HOST, PATH, Reply(weights, breaks_after=5000))
    with pytest.raises(DownloadError, match=r"; try again$"):
        downloads().get(wanted(), Silent())
    assert len(site.asked) == 1


def test_another_range_than_asked_for_is_refused(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    wrong = {**TAG, "Content-Range": f"bytes 7-{len(weights) - 1}/{len(weights)}"}
    site.reply(HOST, PATH, Reply(weights, 200, TAG, breaks_after=5000), Reply(weights[7:], 206, wrong))
    with pytest.raises(DownloadError, match="another part of the file than requested"):
        downloads().get(wanted(), Silent())


def test_progress_counts_mebibytes(site: Site, downloads: MakeDownloads, weights: bytes) -> None:
    site.file(HOST, PATH, padded(weights, 3 * 2**20))
    progress = Counts()
    downloads().get(wanted(), progress)
    assert progress.seen[0] == ("downloading", 4, "MiB")
    assert progress.seen[-1] == (4,)


def test_too_large_a_file_is_refused_by_its_length(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.file(HOST, PATH, weights)
    made = downloads(size_bytes=len(weights) - 1)
    with pytest.raises(DownloadError, match=r"the limit is .*; if this is the right file"):
        made.get(wanted(), Silent())
    assert parts(made.folder) == []


def test_too_large_a_file_of_unknown_length_is_refused_while_it_comes(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    endless = padded(weights, 2**20)
    site.reply(HOST, PATH, Reply(endless, chunked=True))
    made = downloads(size_bytes=2**18)
    with pytest.raises(DownloadError, match="is larger than"):
        made.get(wanted(), Silent())
    assert parts(made.folder) == []
    assert downloads(size_bytes=2**22).get(wanted(), Silent()).read_bytes() == endless


def test_a_full_disk_is_noticed_before_the_first_byte(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.file(HOST, PATH, weights)
    made = downloads(free_bytes=len(weights) - 1)
    with pytest.raises(DownloadError, match=r"MiB are free, but .* needs .* free disk space there"):
        made.get(wanted(), Silent())
    assert parts(made.folder) == []


def test_a_compressed_answer_is_refused(site: Site, downloads: MakeDownloads) -> None:
    bomb = gzip.compress(bytes(2**22))
    site.reply(HOST, PATH, Reply(bomb, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(DownloadError, match="sends it compressed"):
        downloads().get(wanted(), Silent())
    assert site.asked[0].headers["Accept-Encoding"] == "identity"


HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
NOT_SAFETENSORS = {
    "a page": b"<!DOCTYPE html><html>sign in</html>",
    "a zip": b"PK\x03\x04" + bytes(64),
    "a pickle": b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01" + bytes(64),
    "a header longer than the file": struct.pack("<Q", 10**6) + HEADER,
    "a huge header": struct.pack("<Q", 2**63) + b"{" + bytes(64),
    "nothing": b"",
    "seven bytes": bytes(7),
    "a header that is no JSON": struct.pack("<Q", 10) + b"{" * 10,
    "offsets past the end": struct.pack("<Q", len(HEADER)) + HEADER + bytes(2),
    "more than the tensors": struct.pack("<Q", len(HEADER)) + HEADER + bytes(400),
    "no tensor": struct.pack("<Q", 2) + b"{}",
}


@pytest.mark.parametrize("body", NOT_SAFETENSORS.values(), ids=NOT_SAFETENSORS)
def test_what_is_no_safetensors_file_is_refused_and_not_kept(
    site: Site, downloads: MakeDownloads, body: bytes
) -> None:
    site.reply(HOST, PATH, Reply(body))
    made = downloads()
    with pytest.raises(DownloadError, match=r"files\.example/a/style.*safetensors"):
        made.get(wanted(), Silent())
    assert [file.name for file in made.folder.iterdir() if file.suffix != ".lock"] == []


def test_a_page_instead_of_a_file_is_called_one(site: Site, downloads: MakeDownloads) -> None:
    page = Reply(b"<!DOCTYPE html><html>", headers={"Content-Type": "text/html; charset=utf-8"})
    site.reply("civitai.com", "/api/download/models/7", page)
    with pytest.raises(DownloadError, match=r"is a web page; give the link.*set CIVITAI_API_TOKEN"):
        downloads().get(wanted("https://civitai.com/api/download/models/7"), Silent())


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "refused access"),
        (403, "refused access"),
        (404, "no such file"),
        (429, "try again"),
        (500, "again"),
    ],
)
def test_a_refusal_says_what_to_do(site: Site, downloads: MakeDownloads, status: int, message: str) -> None:
    site.reply(HOST, PATH, Reply(b"", status))
    with pytest.raises(DownloadError, match=message):
        downloads().get(wanted(), Silent())


def padded(weights: bytes, extra: int) -> bytes:
    """The same file with a larger tensor behind."""
    import torch
    from safetensors.torch import load, save

    return save({**load(weights), "padding": torch.zeros(extra, dtype=torch.uint8)})

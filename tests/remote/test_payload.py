"""What is sent for a request: the contract's fields, hashes where files are, addresses where files were."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.remote.payload import Prepared, prepare, sendable
from wan_duet.pipelines.remote.stored_form import fingerprint
from wan_duet.pipelines.request import KINDS, check, field_table, parse
from wan_duet.pipelines.video.local_file import LocalFile

from ..servers.contract import entries_of, faults_in

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
LARGE = b"\x89PNG\r\n\x1a\n" + bytes(40_000)


def sent(prepared: Prepared) -> dict[str, Any]:
    """The payload as it goes out, every upload having "https://cdn/" and its hash for an address."""

    async def upload(file: LocalFile) -> str:
        assert len(file.read(0, file.size_bytes)) == file.size_bytes
        return f"https://cdn/{file.sha256[:8]}"

    return asyncio.run(sendable(prepared, upload))


def required(kind: str) -> dict[str, Any]:
    address = "https://example.com/a.png"
    values: dict[str, Any] = {"string": address, "integer": 0, "array<string>": [address]}
    needed = {
        row.name: row.enum[-1] if row.enum else values[row.type] for row in field_table(kind) if row.required
    }
    return {**needed, "height": 480, "width": 832} if "width" in needed else needed


@pytest.mark.parametrize("kind", KINDS)
def test_the_payload_of_a_kind_is_taken_by_its_contract(kind: str) -> None:
    prepared = prepare(parse(kind, required(kind)))
    provider = KINDS[kind].provider
    assert faults_in(provider, prepared.endpoint, sent(prepared)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_unset_and_has_no_stated_default_is_absent(kind: str) -> None:
    values = required(kind)
    stated: dict[str, Any] = {}
    for entry in entries_of(KINDS[kind].provider, KINDS[kind].endpoint):
        stated |= {name: item for name, item in entry["params"].items() if item["default_stated"]}
    payload = sent(prepare(parse(kind, values)))
    assert set(payload) <= set(values) | set(stated)
    assert None not in payload.values()


@pytest.mark.parametrize("kind", [kind for kind, cls in KINDS.items() if "image_url" in cls.model_fields])
def test_a_file_is_named_by_its_hash_and_then_uploaded(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a cat.png"
    file.write_bytes(LARGE)
    prepared = prepare(parse(kind, {**required(kind), "image_url": str(file)}))
    (text,) = prepared.files
    assert prepared.payload["image_url"] == text
    assert str(tmp_path) not in json.dumps(dict(prepared.payload))
    assert sent(prepared)["image_url"] == f"https://cdn/{text[7:15]}"


def test_a_very_small_image_goes_along_and_a_larger_one_does_not(tmp_path: Path) -> None:
    for data, inline in ((PNG, True), (LARGE, False)):
        (tmp_path / "a.png").write_bytes(data)
        prepared = prepare(parse("image-to-video", {"prompt": "a", "image_url": str(tmp_path / "a.png")}))
        address = sent(prepared)["image_url"]
        assert address.startswith("data:image/png;base64,") == inline
        assert not inline or base64.b64decode(address.partition(",")[2]) == data


def test_a_data_uri_is_written_down_by_its_hash() -> None:
    uri = f"data:image/png;base64,{base64.b64encode(LARGE).decode()}"
    prepared = prepare(parse("image-to-video", {"prompt": "a", "image_url": uri}))
    (text,) = prepared.files
    assert prepared.payload["image_url"] == text
    assert sent(prepared)["image_url"].startswith("https://cdn/")
    assert fingerprint({"image_url": uri}) == fingerprint({"image_url": text})


def test_a_connected_medium_keeps_its_own_hash(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(LARGE)
    medium = "sha256:" + "ab" * 32
    request = parse("image-to-video", {"prompt": "a", "image_url": medium})
    prepared = prepare(request, {"image_url": tmp_path / "a.png"})
    assert prepared.payload["image_url"] == medium
    assert sent(prepared)["image_url"].startswith("https://cdn/")


def test_files_of_a_list_are_uploaded_and_keep_their_order(tmp_path: Path) -> None:
    for name, data in (("a.mp4", b"first" * 999), ("b.mp4", b"second" * 999)):
        (tmp_path / name).write_bytes(data)
    videos = [str(tmp_path / "b.mp4"), "https://a/c.mp4", str(tmp_path / "a.mp4")]
    prepared = prepare(parse("wan26-reference-to-video", {"prompt": "a", "video_urls": videos}))
    second, address, first = sent(prepared)["video_urls"]
    assert address == "https://a/c.mp4"
    assert first != second
    assert {first, second} == {f"https://cdn/{text[7:15]}" for text in prepared.files}
    assert prepared.payload["video_urls"][0][7:15] == second[-8:]


def test_a_file_of_the_wrong_type_in_a_list_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(LARGE)
    videos = ["https://a/c.mp4", str(tmp_path / "a.png")]
    with pytest.raises(RequestError, match=r"^video_urls\[1\]: a.png is image/png"):
        prepare(parse("wan26-reference-to-video", {"prompt": "a", "video_urls": videos}))


def test_connected_media_of_a_list_keep_their_own_hashes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(LARGE)
    medium = "sha256:" + "ab" * 32
    request = parse("vace-pose", {"prompt": "a", "video_url": "https://a/b", "ref_image_urls": [medium]})
    prepared = prepare(request, {"ref_image_urls[0]": tmp_path / "a.png"})
    assert prepared.payload["ref_image_urls"] == [medium]
    assert sent(prepared)["ref_image_urls"][0].startswith("https://cdn/")


def test_a_lora_file_is_uploaded_and_a_repository_is_named(tmp_path: Path) -> None:
    (tmp_path / "style.safetensors").write_bytes(bytes(5000))
    loras = [
        {"path": str(tmp_path / "style.safetensors"), "scale": 0.5, "transformer": "low"},
        {"path": "owner/name", "weight_name": "a.safetensors"},
        {"path": "https://example.com/b.safetensors"},
    ]
    prepared = prepare(parse("text-to-video-lora", {"prompt": "a", "loras": loras}))
    out = sent(prepared)["loras"]
    assert out[0] == {"path": out[0]["path"], "scale": 0.5, "transformer": "low"}
    assert out[0]["path"].startswith("https://cdn/")
    assert [lora["path"] for lora in out[1:]] == ["owner/name", "https://example.com/b.safetensors"]
    assert str(tmp_path) not in json.dumps(prepared.payload["loras"])


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        ("image-to-video", {"prompt": "a", "image_url": "no such file.png"}, "image_url"),
        ("image-to-video", {"prompt": "a", "image_url": "http://example.com/a.png"}, "image_url"),
        ("image-to-video", {"prompt": "a", "image_url": "data:image/png;base64,%%%"}, "image_url"),
        ("image-to-video", {"prompt": "a", "image_url": "data:image/png;base64,"}, "image_url"),
        ("image-to-video", {"prompt": "a", "image_url": "sha256:00"}, "image_url"),
        (
            "text-to-video-lora",
            {"prompt": "a", "loras": [{"path": "./missing.safetensors"}]},
            "loras[0].path",
        ),
        ("text-to-video-lora", {"prompt": "a", "loras": [{"path": "/etc/passwd"}]}, "loras[0].path"),
        ("image-to-video", {"prompt": "a", "image_url": "/etc/passwd"}, "image_url"),
        ("image-to-video", {"prompt": "a", "image_url": "data:text/plain,secret"}, "image_url"),
        ("text-to-video-lora", {"prompt": "a", "loras": [{"path": "toy/red"}]}, "loras[0].path"),
        (
            "text-to-video-lora",
            {"prompt": "a", "loras": [{"path": "http://a/b.safetensors"}]},
            "loras[0].path",
        ),
    ],
)
def test_what_cannot_be_sent_is_refused_by_its_field(kind: str, values: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        prepare(parse(kind, values))
    assert [problem.field for problem in caught.value.problems] == [field]


@pytest.mark.parametrize(
    "value", ["http://a/b", "ftp://a/b", "HTTPS://a/b", "file:///etc/passwd", "s3://a/b"]
)
@pytest.mark.parametrize(
    ("kind", "field"), [("image-to-video", "image_url"), ("text-to-video-lora", "loras[0].path")]
)
def test_check_and_the_run_agree_about_an_address(kind: str, field: str, value: str) -> None:
    values = {"image_url": value} if field == "image_url" else {"loras": [{"path": value}]}
    asked = parse(kind, {"prompt": "a", **values})
    report = check(asked, "fal")
    if report.ok:
        assert value in json.dumps(sent(prepare(asked)))
    else:
        with pytest.raises(RequestError, match="https"):
            prepare(asked)
        assert "https" in next(item.reason for item in report.findings if item.status == "impossible")
    assert report.ok == (value == "HTTPS://a/b")


def test_reading_a_large_file_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(bytes(3 * 2**20))
    looks: list[int] = []

    def check() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise KeyboardInterrupt

    request = parse(
        "text-to-video-lora", {"prompt": "a", "loras": [{"path": str(tmp_path / "a.safetensors")}]}
    )
    with pytest.raises(KeyboardInterrupt):
        prepare(request, check=check)


def test_whoever_asks_says_which_files_may_leave(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(LARGE)
    asked: list[tuple[str, str]] = []

    def find(name: str, field: str) -> Path:
        asked.append((name, field))
        if "/" in name:
            raise RequestError.of(field, "outside of the input folder", "copy it there")
        return tmp_path / name

    assert prepare(parse("image-to-video", {"prompt": "a", "image_url": "a.png"}), find=find).files
    with pytest.raises(RequestError, match="outside"):
        prepare(parse("image-to-video", {"prompt": "a", "image_url": "/home/me/a.png"}), find=find)
    assert asked == [("a.png", "image_url"), ("/home/me/a.png", "image_url")]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(RequestError, match="empty"):
        prepare(parse("image-to-video", {"prompt": "a", "image_url": str(tmp_path / "a.png")}))


def test_novita_takes_no_files(tmp_path: Path) -> None:
    (tmp_path / "style.safetensors").write_bytes(bytes(10))
    lora = {"path": str(tmp_path / "style.safetensors"), "scale": 1.0}
    request = parse(
        "wan21-text-to-video", {"prompt": "a", "width": 832, "height": 480, "seed": 1, "loras": [lora]}
    )
    with pytest.raises(RequestError, match="accepts no files"):
        prepare(request)

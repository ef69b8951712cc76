"""Media come as text or from a socket, never both, and a task's node chooses the kind from what is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request import (
    KINDS,
    MEDIA,
    bind,
    bind_task,
    field_table,
    parse,
    request_for,
    with_lora,
)
from wan_duet.pipelines.request.field_rows import MEDIA_LISTS


@dataclass(frozen=True)
class Picture:
    sha256: str = "5e"


def fields_named(error: pytest.ExceptionInfo[RequestError]) -> list[str]:
    return [problem.field for problem in error.value.problems]


def test_a_connected_image_is_named_by_its_hash() -> None:
    picture = Picture()
    request, media = bind("image-to-video", {"prompt": "a", "image_url": ""}, {"image_url": picture})
    assert request.payload()["image_url"] == "sha256:5e"
    assert media["image_url"] is picture


def test_an_address_needs_no_socket() -> None:
    request, media = bind("image-to-video", {"prompt": "a", "image_url": "a.png"}, {"image_url": None})
    assert request.payload()["image_url"] == "a.png"
    assert dict(media) == {}


def test_both_ways_is_refused_by_name() -> None:
    with pytest.raises(RequestError) as error:
        bind("image-to-video", {"prompt": "a", "image_url": "a.png"}, {"image_url": Picture()})
    assert fields_named(error) == ["image_url"]


def test_neither_way_is_refused_by_name_where_it_is_required() -> None:
    with pytest.raises(RequestError) as error:
        bind("speech-to-video", {"prompt": "a", "audio_url": ""}, {"image_url": Picture()})
    assert fields_named(error) == ["audio_url"]
    request, _ = bind("image-to-video", {"prompt": "a", "end_image_url": ""}, {"image_url": Picture()})
    assert "end_image_url" not in request.payload()


@pytest.mark.parametrize("field", ["video_url", "prompt"])
def test_a_medium_that_the_kind_has_no_field_for_is_refused_by_name(field: str) -> None:
    with pytest.raises(RequestError) as error:
        bind("image-to-video", {"image_url": "a.png"}, {field: Picture()})
    assert fields_named(error) == [field]


def test_the_media_of_a_request_cannot_be_changed() -> None:
    media: Any = bind("image-to-video", {"prompt": "a"}, {"image_url": Picture()}).media
    with pytest.raises(TypeError):
        media["image_url"] = Picture()


@pytest.mark.parametrize("kind", KINDS)
def test_every_medium_is_marked_in_the_table(kind: str) -> None:
    marked = {row.name: row.media for row in field_table(kind) if row.media}
    known = {**MEDIA, **MEDIA_LISTS}
    assert marked == {name: known[name] for name in KINDS[kind].model_fields if name in known}


def test_media_of_a_list_are_numbered_and_an_open_socket_is_passed_over() -> None:
    first, second = Picture("aa"), Picture("bb")
    entries = {"reference_image_urls[0]": first, "reference_image_urls[2]": second}
    request, media = bind("wan27-reference-to-video", {"prompt": "a"}, entries)
    assert request.payload()["reference_image_urls"] == ["sha256:aa", "sha256:bb"]
    assert media == {"reference_image_urls[0]": first, "reference_image_urls[1]": second}


def test_a_list_comes_as_text_or_from_sockets() -> None:
    values = {"prompt": "a", "reference_image_urls": ["a.png"]}
    with pytest.raises(RequestError, match="reference_image_urls: set as text and from a socket"):
        bind("wan27-reference-to-video", values, {"reference_image_urls[0]": Picture()})


@pytest.mark.parametrize(
    ("task", "values", "kind"),
    [
        ("image-to-video", {}, "image-to-video"),
        ("image-to-video", {"end_image_url": "b.png", "loras": [], "reverse_video": False}, "image-to-video"),
        ("image-to-video", {"loras": [{"path": "a"}], "end_image_url": "b.png"}, "image-to-video-lora"),
        ("text-to-image", {"image_format": "jpeg"}, "text-to-image"),
        ("text-to-image", {"image_format": "png"}, "text-to-image-lora"),
        ("legacy-text-to-video", {"reverse_video": True}, "legacy-text-to-video-lora"),
    ],
)
def test_what_is_set_selects_the_kind_of_a_task(task: str, values: dict[str, Any], kind: str) -> None:
    request, _ = bind_task(
        task, {"prompt": "a", **values}, {"image_url": Picture()} if "image-to" in task else {}
    )
    assert request.kind == kind


def test_a_lora_changes_no_other_value() -> None:
    values = {"prompt": "a", "image_url": "a.png"}
    plain = request_for("image-to-video", values).payload()
    with_lora = request_for("image-to-video", {**values, "loras": [{"path": "a"}]}).payload()
    assert plain["guidance_scale_2"] == 3.5  # the default of the LoRA contract is 4
    assert {name: with_lora[name] for name in plain} == plain


def test_unknown_field_of_a_task_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="num_framse: there is no such field"):
        request_for("text-to-video", {"prompt": "a", "num_framse": 1})
    with pytest.raises(RequestError, match="known tasks"):
        request_for("text-to-music", {"prompt": "a"})


def test_loras_are_added_one_by_one() -> None:
    plain = request_for("text-to-video", {"prompt": "a", "shift": 3.0})
    twice = with_lora(with_lora(plain, {"path": "a"}), {"path": "b", "transformer": "low"})
    assert twice.kind == "text-to-video-lora"
    assert [lora["path"] for lora in twice.payload()["loras"]] == ["a", "b"]
    assert twice.payload()["shift"] == 3.0


def test_a_task_without_loras_refuses_one_by_name() -> None:
    with pytest.raises(RequestError, match="loras: there is no such field"):
        with_lora(parse("text-to-video-turbo", {"prompt": "a"}), {"path": "a"})

"""Request fields become widgets, and their settings become fields again."""

from __future__ import annotations

from typing import Any

import pytest

from wan_duet.nodes.tasks import LORAS, REQUEST_NODES, RequestNode
from wan_duet.nodes.widgets import CUSTOM, PROVIDER_DEFAULT, Widget, chosen, fields_of, sockets_of, widgets
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request import KINDS, RequestWithMedia, bind_task, kinds_of
from wan_duet.pipelines.request.image_size import ImageSize

NODES = {node.task: node for node in REQUEST_NODES}
MEDIA = {
    "image_url": "a.png",
    "video_url": "a.mp4",
    "audio_url": "a.wav",
    "start_image_url": "a.png",
    "video_urls": "a.mp4\n b.mp4 \n",
}
every_task = pytest.mark.parametrize("node", REQUEST_NODES, ids=lambda node: node.task)


def table(task: str) -> dict[str, Widget]:
    return {widget.name: widget for widget in widgets(task, NODES[task].fields)}


def asked(task: str, **changed: object) -> RequestWithMedia:
    """What the node of a task makes when the user changed only these widgets."""
    settings: dict[str, Any] = {name: widget.default for name, widget in table(task).items()}
    settings |= {name: value for name, value in MEDIA.items() if name in settings}
    return bind_task(task, chosen(task, {**settings, "prompt": "a ball", **changed}), {})


def test_every_task_has_one_node() -> None:
    tasks = [node.task for node in REQUEST_NODES]
    assert sorted(tasks) == sorted({cls.task for cls in KINDS.values()})


@every_task
def test_every_field_of_every_kind_is_in_its_node_but_the_lora_list(node: RequestNode) -> None:
    fields = set(fields_of(node.task))
    assert sorted(node.fields) == sorted(fields - {LORAS})


@every_task
def test_only_media_are_optional_and_they_stand_last(node: RequestNode) -> None:
    optional = [widget.optional for widget in widgets(node.task, node.fields)]
    assert optional == sorted(optional)
    assert sum(optional) == sum(fields_of(node.task)[name].media is not None for name in node.fields)


@every_task
def test_untouched_widgets_are_the_default_request(node: RequestNode) -> None:
    cls = kinds_of(node.task)[0]
    made = asked(node.task).request
    given = {"prompt": "a ball", "seed": 0, **MEDIA, "video_urls": ["a.mp4", "b.mp4"], "width": 480}
    given["height"] = 832
    assert made == cls(**{name: value for name, value in given.items() if name in cls.model_fields})


def test_images_of_a_list_have_one_socket_and_its_videos_and_sounds_have_several() -> None:
    rows = fields_of("wan30-reference-to-video")
    assert sockets_of(rows["reference_image_urls"]) == {"reference_images": "reference_image_urls"}
    assert list(sockets_of(rows["reference_video_urls"])) == [
        f"reference_video_{number}" for number in range(1, 6)
    ]
    assert sockets_of(fields_of("wan26-reference-to-video")["video_urls"]) == {
        f"video_{number}": f"video_urls[{number - 1}]" for number in (1, 2, 3)
    }
    assert len(sockets_of(fields_of("wan27-reference-to-video")["reference_video_urls"])) == 3


@every_task
def test_every_widget_says_what_it_is_for(node: RequestNode) -> None:
    assert all(widget.tooltip for widget in widgets(node.task, node.fields))


@pytest.mark.parametrize(
    "node",
    [node for node in REQUEST_NODES if "prompt" in node.fields and fields_of(node.task)["prompt"].required],
)
def test_empty_prompt_is_refused_by_name(node: RequestNode) -> None:
    with pytest.raises(RequestError, match=r"^prompt: "):
        asked(node.task, prompt="")


@pytest.mark.parametrize(
    ("task", "name", "low", "high"),
    [
        ("text-to-video", "num_frames", 1, 100000),
        ("speech-to-video", "num_frames", 1, 100000),
        ("text-to-video", "guidance_scale", 0, None),
        ("text-to-video", "shift", 0.001, None),
        ("wan21-text-to-video", "steps", 1, None),
    ],
)
def test_a_widget_has_the_range_of_any_machine(task: str, name: str, low: float, high: float | None) -> None:
    assert (table(task)[name].min, table(task)[name].max) == (low, high)


def test_choices_that_only_a_provider_limits_are_offered_first_and_others_after_them() -> None:
    assert table("text-to-video")["aspect_ratio"].options == (
        "16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9",
    )  # fmt: skip
    assert table("wan21-text-to-video")["width"].options == (480, 720, 832, 1280)


@pytest.mark.parametrize(
    ("task", "low", "high"), [("text-to-video", 0, 2**64 - 1), ("wan21-text-to-video", -1, 2**64 - 1)]
)
def test_seed_fits_whoever_draws_the_noise(task: str, low: int, high: int) -> None:
    assert table(task)["seed"][2:6] == (0, table(task)["seed"].tooltip, low, high)


@every_task
def test_switch_can_be_left_to_the_provider(node: RequestNode) -> None:
    rows = [fields_of(node.task)[name] for name in node.fields]
    switches = [row.name for row in rows if row.type == "boolean" and row.default is None]
    for field in switches:
        assert table(node.task)[field].options == (PROVIDER_DEFAULT, "on", "off")
    # Off is what the plain kind does, which has no field reverse_video.
    expected = {
        (field, setting): None if field == "reverse_video" and not value else value
        for field in switches
        for setting, value in ((PROVIDER_DEFAULT, None), ("on", True), ("off", False))
    }
    assert {
        (field, setting): asked(node.task, **{field: setting}).request.payload().get(field)
        for field, setting in expected
    } == expected


def test_whole_number_can_be_left_to_the_provider() -> None:
    between = table("small-distill")["num_interpolated_frames"]
    assert (between.default, between.min, between.max) == (-1, -1, 100)
    assert "num_interpolated_frames" not in asked("small-distill").request.payload()
    asked_for = asked("small-distill", num_interpolated_frames=0).request.payload()
    assert asked_for["num_interpolated_frames"] == 0


def test_text_can_be_left_to_the_provider() -> None:
    sent = asked("wan21-text-to-video").request.payload()
    assert not {"negative_prompt", "extra"} & set(sent)
    assert asked("legacy-text-to-video", negative_prompt="").request.payload()["negative_prompt"] == ""


def test_image_size_is_a_name_or_two_sides() -> None:
    shown = table("text-to-image")
    assert shown["image_size"].options[-1] == CUSTOM
    assert (shown["width"].default, shown["height"].default) == (512, 512)
    assert asked("text-to-image", width=640).request.payload()["image_size"] == "square_hd"
    custom = asked("text-to-image", image_size=CUSTOM, width=640).request.payload()["image_size"]
    assert custom == ImageSize(width=640, height=512).model_dump()


def test_image_size_can_be_left_to_resolution_and_shape() -> None:
    assert table("image-to-image")["image_size"].options[0] == PROVIDER_DEFAULT
    assert "image_size" not in asked("image-to-image").request.payload()


def test_an_object_is_written_as_json() -> None:
    extra = '{"webhook": {"url": "https://example.org"}}'
    sent = asked("wan21-text-to-video", extra=extra).request.payload()
    assert sent["extra"] == {"webhook": {"url": "https://example.org"}}
    with pytest.raises(RequestError, match=r"^extra: not JSON"):
        asked("wan21-text-to-video", extra="{")


def test_a_prompt_that_reads_like_a_setting_stays_a_prompt() -> None:
    for text in (PROVIDER_DEFAULT, "on", CUSTOM):
        assert asked("text-to-image", prompt=text).request.payload()["prompt"] == text


def test_reverse_selects_the_lora_contract_and_changes_nothing_else() -> None:
    plain, reversed_ = (asked("text-to-video", reverse_video=value).request for value in ("off", "on"))
    assert plain.kind == "text-to-video"
    assert reversed_.kind == "text-to-video-lora"
    assert reversed_.payload() == {**plain.payload(), "reverse_video": True}


def test_phases_and_guidance_are_text_or_a_json_list() -> None:
    from wan_duet.nodes.widgets import local_chosen

    assert local_chosen({"phases": "3.5, 1", "guidance": ""}) == {"phases": "3.5, 1"}
    listed = {"phases": ' [{"guidance": 3.5}]', "guidance": "[3.5, 1]"}
    assert local_chosen(listed) == {"phases": [{"guidance": 3.5}], "guidance": [3.5, 1]}
    with pytest.raises(RequestError, match=r"local\.phases: not JSON"):
        local_chosen({"phases": "[3.5"})

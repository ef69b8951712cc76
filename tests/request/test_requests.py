"""What a good request promises."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wan_duet.pipelines.request import RequestWithMedia, field_table, parse, t2v_request


def test_only_the_prompt_is_needed_and_every_stated_default_is_sent() -> None:
    payload = parse("text-to-video", {"prompt": "a red ball"}).payload()
    stated = {row.name: row.default for row in field_table("text-to-video") if row.default is not None}
    assert payload == {"prompt": "a red ball", **stated}


def test_unset_is_left_out_and_false_is_sent() -> None:
    request = parse("text-to-video", {"prompt": "a", "enable_safety_checker": False, "seed": None})
    assert request.payload()["enable_safety_checker"] is False
    assert not {"seed", "enable_prompt_expansion"} & set(request.payload())


def test_whole_number_is_a_number() -> None:
    assert parse("text-to-video", '{"prompt": "a", "shift": 8}').payload()["shift"] == 8


def test_bytes_are_read_as_utf_8() -> None:
    assert parse("text-to-video", '{"prompt": "赤いボール"}'.encode()).payload()["prompt"] == "赤いボール"


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        t2v_request(prompt="a").prompt = "b"


def test_loras_or_reverse_select_the_lora_kind_and_change_nothing_else() -> None:
    values = {"prompt": "a", "num_frames": 33, "shift": 3.0, "seed": 4}
    plain = t2v_request(**values, loras=[], reverse_video=False)
    assert plain.kind == "text-to-video"
    for extra in ({"loras": [{"path": "style.safetensors"}]}, {"reverse_video": True}):
        request = t2v_request(**values, **extra)
        assert request.kind == "text-to-video-lora"
        payload = request.payload()
        assert payload.keys() - plain.payload().keys() == extra.keys()
        assert {name: payload[name] for name in plain.payload()} == plain.payload()


def test_lora_defaults_are_the_contract_s() -> None:
    (lora,) = t2v_request(prompt="a", loras=[{"path": "style.safetensors"}]).payload()["loras"]
    assert lora == {"path": "style.safetensors", "scale": 1.0, "transformer": "high"}


def test_a_request_travels_without_media_by_default() -> None:
    assert dict(RequestWithMedia(t2v_request(prompt="a")).media) == {}

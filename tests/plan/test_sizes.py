"""How large the picture is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from plans import plan_of

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES, Plan, default_family, describe
from wan_duet.pipelines.request import KINDS, parse

EVERYTHING = frozenset(cls.task for cls in KINDS.values())
TOY = replace(FAMILIES["toy"], tasks=EVERYTHING)  # as if it were trained for more than text-to-video


def plan(kind: str, media_size: tuple[int, int] | None = None, **values: Any) -> Plan:
    request = parse(kind, {"prompt": "a", **values})
    return plan_of(request, default_family(KINDS[kind].task), 0, media_size)


def i2v(media_size: tuple[int, int] | None, **values: Any) -> tuple[int, int]:
    made = plan("image-to-video", media_size, image_url="a.png", **values)
    return made.width, made.height


@pytest.mark.parametrize(
    ("media_size", "size"),
    [
        ((1920, 1080), (1280, 720)),
        ((1080, 1920), (720, 1280)),
        ((500, 500), (960, 960)),
        ((1000, 500), (1360, 672)),
        ((4, 3), (1104, 832)),
    ],
)
def test_auto_keeps_the_shape_at_the_area_of_the_tier(
    media_size: tuple[int, int], size: tuple[int, int]
) -> None:
    assert i2v(media_size) == size
    assert abs(size[0] * size[1] / (1280 * 720) - 1) < 0.03


def test_a_named_shape_wins_over_the_input() -> None:
    assert i2v((1000, 500), aspect_ratio="9:16", resolution="480p") == (480, 832)


def test_the_5b_model_keeps_the_shape_in_multiples_of_32() -> None:
    made = plan("small-image-to-video", (1000, 500), image_url="a.png")
    assert (made.width, made.height) == (1344, 672)
    assert (made.width % 32, made.height % 32) == (0, 0)


@pytest.mark.parametrize("media_size", [(1, 5000), (5000, 1)])
def test_an_extreme_shape_still_has_two_sides(media_size: tuple[int, int]) -> None:
    assert min(i2v(media_size)) == 16


def test_a_plan_without_the_input_says_so() -> None:
    made = plan("image-to-video", image_url="a.png", resolution="480p")
    assert made.size_assumed
    assert (made.width, made.height) == (832, 480)
    assert "the size depends on the input; 832x480 at 16:9" in describe(made)
    assert not plan("image-to-video", image_url="a.png", aspect_ratio="1:1").size_assumed


def test_speech_has_the_shape_of_its_image() -> None:
    made = plan("speech-to-video", (480, 832), image_url="a.png", audio_url="a.wav")
    assert (made.width, made.height, made.size_assumed) == (480, 832, False)


@pytest.mark.parametrize(
    ("image_size", "size"),
    [
        ("square_hd", (1024, 1024)),
        ("square", (512, 512)),
        ("portrait_4_3", (768, 1024)),
        ("portrait_16_9", (576, 1024)),
        ("landscape_4_3", (1024, 768)),
        ("landscape_16_9", (1024, 576)),
        ({"width": 1040, "height": 496}, (1040, 496)),
        ({}, (512, 512)),
    ],
    ids=str,
)
def test_image_size_is_a_name_or_pixels(image_size: Any, size: tuple[int, int]) -> None:
    made = plan("text-to-image", image_size=image_size)
    assert (made.width, made.height) == size


def test_image_size_wins_over_the_shape_of_the_input() -> None:
    made = plan("image-to-image", (1000, 500), image_url="a.png", image_size="square")
    assert (made.width, made.height, made.size_assumed) == (512, 512, False)


def toy_plan(kind: str, media_size: tuple[int, int] | None = None, **values: Any) -> Plan:
    return plan_of(parse(kind, {"prompt": "a", **values}), TOY, 0, media_size)


@pytest.mark.parametrize(
    ("media_size", "size"), [((1000, 500), (112, 64)), ((500, 1000), (64, 112)), ((500, 480), (64, 64))]
)
def test_the_toy_takes_its_own_size_nearest_in_shape(
    media_size: tuple[int, int], size: tuple[int, int]
) -> None:
    made = toy_plan("image-to-video", media_size, image_url="a.png")
    assert (made.width, made.height) == size


def test_the_toy_draws_a_default_image_in_its_own_size_and_refuses_any_other() -> None:
    made = toy_plan("text-to-image")
    assert (made.width, made.height) == (64, 64)
    with pytest.raises(RequestError, match="image_size"):
        toy_plan("text-to-image", image_size="square")


def test_the_toy_draws_its_own_length_where_the_kind_names_none() -> None:
    assert toy_plan("text-to-video-turbo").frames_delivered == 17

"""What a run would cost, and what the number stands on."""

from __future__ import annotations

from typing import Any

import pytest

from wan_duet.pipelines.request import KINDS, Price, check, estimate
from wan_duet.pipelines.request.kinds import TRAININGS
from wan_duet.pipelines.request.media_facts import ClipLength
from wan_duet.pipelines.request.prices import PRICES

from .any_kind import request


def price(kind: str, **values: Any) -> Price:
    return estimate(request(kind, **values), "fal")


def test_a_video_second_is_sixteen_frames_and_interpolated_ones_may_count() -> None:
    found = price("text-to-video")
    assert (found.usd, found.low) == (pytest.approx(0.08 * 81 / 16), found.usd)
    assert found.high == pytest.approx(0.08 * 161 / 16)
    assert "16 fps" in found.assumption
    assert "interpolated" in found.assumption


@pytest.mark.parametrize("values", [{"interpolator_model": "none"}, {"num_interpolated_frames": 0}])
def test_without_interpolation_there_is_one_amount(values: dict[str, Any]) -> None:
    found = price("image-to-video", resolution="480p", **values)
    assert found.low == found.usd == found.high == pytest.approx(0.04 * 81 / 16)


def test_a_second_that_is_not_explained_has_a_range() -> None:
    found = price("text-to-video-lora", num_interpolated_frames=0, frames_per_second=8)
    assert found.usd == pytest.approx(0.1 * 81 / 16)
    assert found.high == pytest.approx(0.1 * 81 / 8)


@pytest.mark.parametrize(
    ("kind", "values", "usd"),
    [
        ("text-to-video-turbo", {"resolution": "580p"}, 0.075),
        ("small-fast-video", {"resolution": "480p"}, 0.0125),
        ("small-distill", {}, 0.08),
        ("speech-to-video", {}, 0.1 * 80 / 16),
        ("text-to-image", {"image_size": {"width": 1000, "height": 1000}}, 0.025),
    ],
)
def test_price_of_a_result(kind: str, values: dict[str, Any], usd: float) -> None:
    assert price(kind, **values).usd == pytest.approx(usd)


def test_an_image_may_be_counted_in_megapixels() -> None:
    found = price("small-text-to-image", image_size={"width": 1600, "height": 1600})
    assert (found.usd, found.high) == (0.016, pytest.approx(0.016 * 2.56))


@pytest.mark.parametrize(
    "kind", ["image-to-video-lora", "image-to-image", "text-to-image-lora", "small-text-to-video"]
)
def test_a_price_that_nobody_published_is_unknown_and_never_free(kind: str) -> None:
    found = price(kind)
    assert (found.usd, found.low, found.high) == (None, None, None)
    assert found.text().startswith("unknown")
    assert "price: unknown" in check(request(kind), "fal").text()


def test_your_own_machine_is_free() -> None:
    assert estimate(request("text-to-video"), "local").text() == "$0.00 (your own machine)"


def test_text_says_where_the_number_comes_from() -> None:
    assert price("text-to-video-turbo").text() == (
        "about $0.10 (one price for a video of any length; fal OpenAPI registry, 2026-08)"
    )


def test_another_table_of_prices_can_be_used() -> None:
    endpoint = "fal-ai/wan/v2.2-5b/text-to-video"
    table = {endpoint: {"unit": "video", "usd": 0.2, "as_of": "2026-11", "source": "your bill"}}
    assert estimate(request("small-text-to-video"), "fal", table).usd == 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_any_table_gives_any_kind_a_price_or_says_why_not(kind: str) -> None:
    asked = request(kind)
    units = ("second", "video") if "duration" in type(asked).model_fields else ("video_second", "video")
    for unit in ("image",) if "to-image" in kind else units:
        table = {asked.endpoint: {"unit": unit, "usd": 0.2, "as_of": "2026-11", "source": "your bill"}}
        found = estimate(asked, asked.provider, table)
        unknown = "provider decides the length", "which is not known here"
        assert found.usd is not None or any(text in found.text() for text in unknown)


def test_a_tier_that_is_not_in_the_table_is_unknown() -> None:
    endpoint = "fal-ai/wan/v2.2-a14b/text-to-video"
    table = {endpoint: {**PRICES[endpoint], "usd": {"480p": 0.04}}}
    assert (
        estimate(request("text-to-video"), "fal", table).text() == "unknown (no price is published for 720p)"
    )


@pytest.mark.parametrize("endpoint", PRICES)
def test_every_price_belongs_to_a_kind_and_says_source_and_day(endpoint: str) -> None:
    entry = PRICES[endpoint]
    kinds = [cls for cls in (*KINDS.values(), *TRAININGS.values()) if cls.endpoint == endpoint]
    assert kinds
    assert entry["unit"] in ("video_second", "second", "step", "video", "image")
    assert entry["source"]
    assert entry["as_of"]
    if "by" in entry:
        choices = {
            choice for cls in kinds for choice in cls.model_json_schema()["properties"][entry["by"]]["enum"]
        }
        unpriced = {"auto", "240p", "360p"} if "vace" in endpoint else set()
        assert choices == set(entry["usd"]) | unpriced


CLIP = ClipLength(frames=300, seconds=10.0)


@pytest.mark.parametrize(
    ("kind", "values", "field", "usd", "low", "high"),
    [
        ("animate-move", {"resolution": "480p"}, "video_url", 0.75, 0.4, 0.75),
        (
            "vace-depth",
            {"resolution": "720p", "match_input_num_frames": True},
            "video_url",
            1.875,
            1.0,
            1.875,
        ),
        (
            "wan30-reference-to-video",
            {"reference_video_urls": ["a"], "resolution": "480p"},
            "reference_video_urls[0]",
            0.75,
            0.75,
            0.75,
        ),
    ],
)
def test_a_price_that_depends_on_an_input_needs_its_length(
    kind: str, values: dict[str, Any], field: str, usd: float, low: float, high: float
) -> None:
    asked = request(kind, **values)
    assert estimate(asked, "fal").text() == (
        f"unknown (it depends on the length of {field}, which is not known here)"
    )
    found = estimate(asked, "fal", PRICES, {field: CLIP})
    assert (found.usd, found.low, found.high) == pytest.approx((usd, low, high))


def test_the_length_of_an_input_is_no_matter_where_the_request_states_one() -> None:
    asked = request("vace-depth", resolution="720p", num_frames=160, num_interpolated_frames=0)
    assert estimate(asked, "fal", PRICES, {"video_url": CLIP}).usd == pytest.approx(1.0)


def test_a_second_of_the_result_has_the_price_of_its_tier() -> None:
    assert price("wan25-text-to-video", duration="10", resolution="720p").usd == pytest.approx(1.0)
    assert price("wan27-text-to-video", duration=3).usd == pytest.approx(0.45)


def test_where_two_sources_disagree_the_price_is_a_range() -> None:
    found = price("vace-pose", resolution="720p", num_frames=160)
    assert (found.low, found.high) == pytest.approx((1.0, 1.5))
    assert "another source says $0.15 a second" in found.text()


def test_a_tier_without_a_published_price_says_so() -> None:
    assert price("vace-depth").text() == "unknown (no price is published for auto)"

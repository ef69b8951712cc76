"""What the user's file about money promises: read as written, or refused with the entry that is wrong."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.remote.spending import Spending, read_spending
from wan_duet.pipelines.remote.spending_limits import SpendingLimits
from wan_duet.pipelines.request import check, parse
from wan_duet.pipelines.request.machine_price import MachinePrices
from wan_duet.pipelines.request.prices import PRICES, estimate

ENDPOINT = "fal-ai/wan/v2.2-a14b/image-to-video/lora"
ENTRY = {"unit": "video", "usd": 0.3, "as_of": "2026-11", "source": "my invoice"}


def read(folder: Path, content: Any) -> Spending:
    (folder / "spending.json").write_text(json.dumps(content), encoding="utf-8")
    return read_spending(folder)


def test_without_a_file_there_are_our_prices_and_no_limits(tmp_path: Path) -> None:
    assert read_spending(tmp_path) == read_spending(None) == Spending(SpendingLimits(), PRICES)


def test_a_price_of_the_user_takes_the_place_of_ours_and_is_named_in_the_estimate(tmp_path: Path) -> None:
    spending = read(tmp_path, {"per_run_usd": 0.5, "per_day_usd": 5, "prices": {ENDPOINT: ENTRY}})
    assert spending.limits == SpendingLimits(0.5, 5.0)
    request = parse("image-to-video-lora", {"prompt": "a dog", "image_url": "https://a.test/dog.png"})
    assert estimate(request, "fal").usd is None
    text = estimate(request, "fal", spending.prices).text()
    assert text == "about $0.30 (one price for a video of any length; my invoice, 2026-11)"


def test_an_endpoint_that_other_kinds_are_put_into_may_have_a_price(tmp_path: Path) -> None:
    endpoint = "POST https://api.novita.ai/v3/async/wan-2.2-t2v"
    table = {"832*480": 0.2, "1280*720": 0.4}
    spending = read(tmp_path, {"prices": {endpoint: {**ENTRY, "by": "size", "usd": table}}})
    request = parse("text-to-video", {"prompt": "a dog"})
    report = check(request, "novita", prices=spending.prices, novita_model="Wan 2.2")
    assert report.price.usd == 0.4


def test_a_price_of_nothing_and_a_very_small_one_are_readable(tmp_path: Path) -> None:
    request = parse("image-to-video-lora", {"prompt": "a dog", "image_url": "https://a.test/dog.png"})
    for usd, text in (
        (0, "about $0.00 "),
        (-0.0, "about $0.00 "),
        (0.0125, "about $0.0125 "),
        (1e-6, "$0.00 "),
    ):
        spending = read(tmp_path, {"prices": {ENDPOINT: {**ENTRY, "usd": usd}}})
        assert text in estimate(request, "fal", spending.prices).text()


def test_our_own_prices_would_pass_as_the_users(tmp_path: Path) -> None:
    assert read(tmp_path, {"prices": dict(PRICES)}).prices == PRICES


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([], "no table"),
        ({"per_week_usd": 1}, "per_week_usd"),
        ({"per_day_usd": "5"}, "per_day_usd: got '5'"),
        ({"per_day_usd": True}, "per_day_usd: got True"),
        ({"per_run_usd": -1}, "per_run_usd: got -1"),
        ({"per_run_usd": float("nan")}, "per_run_usd: got nan"),
        ({"prices": {"fal-ai/wan/v2.2-a14b/text-to-vide": ENTRY}}, "did you mean fal-ai/wan/v2.2-a14b/text"),
        ({"prices": {ENDPOINT: {"usd": 1}}}, "not a price"),
        ({"prices": {ENDPOINT: {**ENTRY, "unit": "hour"}}}, "unit: got 'hour'"),
        ({"prices": {ENDPOINT: {**ENTRY, "usd": None}}}, "usd: got None"),
        ({"prices": {ENDPOINT: {**ENTRY, "by": "colour"}}}, "by: got 'colour'"),
        ({"prices": {ENDPOINT: {**ENTRY, "by": "resolution"}}}, "a price for each resolution"),
        ({"prices": {ENDPOINT: {**ENTRY, "by": "loras", "usd": {"a": 1}}}}, "by: got 'loras'"),
        ({"prices": {ENDPOINT: {**ENTRY, "by": "num_frames", "usd": {"81": 1}}}}, "by: got 'num_frames'"),
        ({"prices": {ENDPOINT: {**ENTRY, "by": "resolution", "usd": {"720": 1}}}}, "give 480p, 580p, 720p"),
        ({"prices": {ENDPOINT: {**ENTRY, "usd": 1e308}}}, "usd: got 1e+308"),
        ({"prices": {ENDPOINT: {**ENTRY, "counted_fps": 10**400}}}, "counted_fps: got 10"),
        ({"prices": {ENDPOINT: {**ENTRY, "counted_fps": 0}}}, "counted_fps: got 0"),
        ({"prices": {ENDPOINT: {**ENTRY, "as_of": ""}}}, "as_of: got ''"),
        ({"prices": []}, "prices: not a table"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, content: Any, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(tmp_path, content)
    assert told in str(caught.value)


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spending.json").write_text("{per_day: 5}")
    with pytest.raises(RequestError, match="cannot be read"):
        read_spending(tmp_path)


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["unit", "usd", "as_of", "source", "by", "counted_fps"]), anything))
def test_no_entry_is_misread(entry: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            spending = read(Path(folder), {"prices": {ENDPOINT: {**ENTRY, **entry}}})
        except RequestError:
            return
    request = parse("image-to-video-lora", {"prompt": "a dog", "image_url": "https://a.test/dog.png"})
    price = estimate(request, "fal", spending.prices)
    assert price.usd is None or price.usd >= 0


def test_the_user_says_what_this_machine_costs(tmp_path: Path) -> None:
    written = {"usd_per_hour": 2.5, "usd_per_kwh": 0.3, "watts": 350}
    assert read(tmp_path, {"machine": written}).machine == MachinePrices(2.5, 0.3, 350.0)
    assert read(tmp_path, {"machine": {"usd_per_hour": 2.5}}).machine == MachinePrices(2.5)


@pytest.mark.parametrize(
    ("machine", "field"),
    [
        ({"gpu_hour": 1}, "machine"),
        (2.5, "machine"),
        ({"watts": "350"}, "machine.watts"),
        ({"usd_per_kwh": -1}, "machine.usd_per_kwh"),
        ({"usd_per_hour": True}, "machine.usd_per_hour"),
    ],
)
def test_a_wrong_price_of_this_machine_is_named(tmp_path: Path, machine: Any, field: str) -> None:
    with pytest.raises(RequestError, match=rf"{field}\b"):
        read(tmp_path, {"machine": machine})

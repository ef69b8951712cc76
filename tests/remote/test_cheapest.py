from __future__ import annotations

from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.remote.cheapest import cheapest
from wan_duet.pipelines.remote.spending_limits import SpendingLimits
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.request.prices import PRICES

from .clients import FAL_KEY, NOVITA_KEY

NOVITA = "POST https://api.novita.ai/v3/async/wan-2.2-t2v"
BOTH = {"FAL_KEY": FAL_KEY, "NOVITA_API_KEY": NOVITA_KEY}
PLAIN = {"prompt": "a dog", "num_interpolated_frames": 0}


def priced(usd: float) -> dict[str, Any]:
    entry = {"unit": "video", "usd": usd, "as_of": "2026-11", "source": "my invoice"}
    return {**PRICES, NOVITA: entry}


def chosen(
    novita_usd: float,
    keys: dict[str, str] | None = None,
    limits: SpendingLimits | None = None,
    **values: Any,
) -> str:
    request = parse("text-to-video", {**PLAIN, **values})
    environ = BOTH if keys is None else keys
    limits = limits or SpendingLimits()
    return cheapest(request, None, priced(novita_usd), limits, "Wan 2.2", environ).runner


def test_the_lowest_price_wins() -> None:
    assert chosen(0.40) == "novita"
    assert chosen(0.41) == "fal"  # 81 frames are $0.405


def test_a_range_counts_as_its_highest_amount() -> None:
    assert chosen(0.79, num_interpolated_frames=1) == "novita"
    assert chosen(0.81, num_interpolated_frames=1) == "fal"


def test_a_provider_without_a_key_is_not_chosen() -> None:
    assert chosen(0.01, {"FAL_KEY": FAL_KEY}) == "fal"


def test_a_provider_that_would_drop_a_demand_is_not_chosen() -> None:
    assert chosen(0.01, num_frames=33) == "fal"


def test_every_reason_is_named_when_none_can_be_chosen() -> None:
    with pytest.raises(RequestError) as caught:
        chosen(0.01, {"NOVITA_API_KEY": NOVITA_KEY}, num_frames=33)
    text = str(caught.value)
    assert text.startswith("--on: cheapest finds no provider (fal: ")
    assert "FAL_KEY" in text
    assert "novita: it refuses num_frames" in text


def test_an_unknown_price_is_never_the_cheapest_and_a_limit_counts() -> None:
    request = parse("text-to-video", PLAIN)
    assert cheapest(request, None, PRICES, SpendingLimits(), "Wan 2.2", BOTH).runner == "fal"
    with pytest.raises(RequestError, match=r"fal: \$0\.41 is above your limit of \$0\.10 a run; novita: its"):
        cheapest(request, None, PRICES, SpendingLimits(per_run_usd=0.1), "Wan 2.2", BOTH)

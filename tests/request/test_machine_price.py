"""The price of a run on the user's own machine."""

from __future__ import annotations

import pytest

from wan_duet.pipelines.request.machine_price import MachinePrices, price_here


def test_an_hour_has_a_price() -> None:
    price = price_here(90.0, "2026-11-30", MachinePrices(usd_per_hour=2.0))
    assert price.usd == price.low == price.high == 0.05
    assert price.text() == "about $0.05 (90 s at $2 per hour; speed measured here, 2026-11-30)"


def test_energy_has_a_price() -> None:
    price = price_here(3600.0, "2026-11-30", MachinePrices(usd_per_kwh=0.25, watts=400.0))
    assert price.usd == pytest.approx(0.1)
    assert "0.4 kWh (3.6e+03 s at 400 W) at $0.25 per kWh" in price.text()


def test_both_are_added() -> None:
    prices = MachinePrices(usd_per_hour=1.0, usd_per_kwh=0.5, watts=1000.0)
    assert price_here(3600.0, None, prices).usd == pytest.approx(1.5)


def test_what_is_not_known_is_not_free() -> None:
    unmeasured = price_here(None, None, MachinePrices(usd_per_hour=1.0))
    powerless = price_here(60.0, "2026-11-30", MachinePrices(usd_per_hour=1.0, usd_per_kwh=0.3))
    assert unmeasured.usd is powerless.usd is None
    assert "wan-duet bench" in unmeasured.text()
    assert "--watts" in powerless.text()


@pytest.mark.parametrize(
    ("prices", "asked"),
    [(MachinePrices(), False), (MachinePrices(watts=9.0), False), (MachinePrices(usd_per_kwh=0.0), True)],
)
def test_watts_alone_are_no_price(prices: MachinePrices, asked: bool) -> None:
    assert bool(prices) is asked

"""What a run on the user's own machine costs, from its seconds and the user's prices."""

from __future__ import annotations

from dataclasses import dataclass

from .prices import Price

__all__ = ["MachinePrices", "price_here"]

_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class MachinePrices:
    """US dollars for an hour of the machine and for a kWh, and the watts of a run; None if not given."""

    usd_per_hour: float | None = None
    usd_per_kwh: float | None = None
    watts: float | None = None

    def __bool__(self) -> bool:
        return self.usd_per_hour is not None or self.usd_per_kwh is not None


def price_here(seconds: float | None, measured_on: str | None, prices: MachinePrices) -> Price:
    """Return the price of a run that takes `seconds`. Hours and energy are added where both have a price.

    measured_on: the day on which this machine was measured. Unknown without seconds, and without the watts
    that energy is counted from.
    """
    if seconds is None:
        return Price(None, None, None, "the seconds are unknown; `wan-duet bench` measures this machine")
    usd, counted = 0.0, []
    if prices.usd_per_hour is not None:
        usd += seconds / 3600 * prices.usd_per_hour
        counted.append(f"{seconds:.3g} s at ${prices.usd_per_hour:g} per hour")
    if prices.usd_per_kwh is not None:
        if prices.watts is None:
            return Price(None, None, None, "the power of this device is unknown; give --watts")
        kwh = seconds * prices.watts / _JOULES_PER_KWH
        usd += kwh * prices.usd_per_kwh
        energy = f"{kwh:.3g} kWh ({seconds:.3g} s at {prices.watts:g} W)"
        counted.append(f"{energy} at ${prices.usd_per_kwh:g} per kWh")
    return Price(usd, usd, usd, " and ".join(counted), "speed measured here", measured_on)

"""`--usd-per-hour`, `--usd-per-kwh` and `--watts`: what a run on this machine costs."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ..plan.expectation import Rates
from ..request.machine_price import MachinePrices
from .argument_types import amount_of_money, power

__all__ = ["add_machine_prices", "machine_prices"]


def add_machine_prices(parser: argparse.ArgumentParser) -> None:
    """Add the flags. Each overrides its entry in `machine` of spending.json."""
    for flag, what in (("--usd-per-hour", "an hour of this machine"), ("--usd-per-kwh", "its energy")):
        text = f"what {what} costs; adds the price of a run here"
        parser.add_argument(flag, type=amount_of_money, metavar="USD", help=text)
    text = "the power of a run; `wan-duet bench` measures it where NVML counts energy"
    parser.add_argument("--watts", type=power, metavar="W", help=text)


def machine_prices(options: argparse.Namespace, rates: Rates | None) -> MachinePrices:
    """Return the prices of this machine: of the flags, else of spending.json; watts else as measured."""
    from ..download.folders import remote_folder
    from ..remote.spending import read_spending

    kept = asdict(read_spending(remote_folder()).machine)
    measured = None if rates is None else rates.watts
    given = {name: getattr(options, name) for name in kept}
    chosen = {name: kept[name] if value is None else value for name, value in given.items()}
    return MachinePrices(**{**chosen, "watts": chosen["watts"] or measured})

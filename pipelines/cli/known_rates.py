"""What this machine was measured to do, for one model and request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..embedded.toy_model import embedded_loras
from ..plan.expectation import Rates, Work, rates_of_work, read_rates, unmeasured
from .models_command import rates_file

if TYPE_CHECKING:
    from ..loading.wan_model import WanModel
    from ..request.base import WanRequest

__all__ = ["KnownRates", "known_rates"]


@dataclass(frozen=True)
class KnownRates:
    """The rates for a model; None if they, or those of the ways in which its layers compute, are not known.

    stored:     ways of products on stored numbers that the rates count with.
    unmeasured: ways that were not measured here.
    """

    rates: Rates | None
    stored: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()

    def text(self) -> str:
        """Say what the estimate counts with, or why there is none; empty without stored numbers."""
        if self.unmeasured:
            ways = ", ".join(self.unmeasured)
            return (
                f"expected: unknown, as products by {ways} were not measured; `wan-duet bench` measures them"
            )
        return f"counted with products by {', '.join(self.stored)} as measured here" if self.stored else ""


def known_rates(request: WanRequest, model: WanModel | None) -> KnownRates:
    rates = read_rates(rates_file())
    if rates is None:
        return KnownRates(None)
    work = _work(request, model)
    if missing := unmeasured(rates, work):
        return KnownRates(None, unmeasured=missing)
    return KnownRates(rates_of_work(rates, work), tuple(way for way in work if way is not None))


def _work(request: WanRequest, model: WanModel | None) -> Work:
    """Return how a model that is to compute on stored numbers does; empty for any other."""
    if model is None or model.precision != "stored":
        return {}
    from ..device.memory import DeviceMemory
    from ..generate.stored_findings import expected_work
    from ..weights.lora.find import LoraSources

    return expected_work(model, request, LoraSources(embedded=embedded_loras()), DeviceMemory().device)

"""Orders the training of a LoRA at a provider. What comes back is a file like that of any other job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import RequestError
from ..request.fal_rules import fal_findings
from ..request.parse import parse_training
from ..request.prices import PRICES, PriceTable, estimate
from ..request.report import problems_of
from .job_record import Order
from .payload import Prepared
from .spending_limits import SpendingLimits
from .training_data import Dataset

__all__ = ["DATA_FIELD", "training_order", "without_deadline"]

DATA_FIELD = "training_data_url"


def training_order(
    kind: str, settings: Mapping[str, Any], dataset: Dataset, out: Path, prices: PriceTable = PRICES
) -> tuple[Order, Prepared]:
    """Return the order of a training, and the archive that it takes to send it. Spends and sends nothing.

    kind:     of `TRAININGS`. settings: its fields, without the data.
    out:      the wanted path of the LoRA, a .safetensors file.

    Raises RequestError with everything that is wrong or that the provider refuses.
    """
    text = f"sha256:{dataset.file.sha256}"
    asked = parse_training(kind, {**settings, DATA_FIELD: text})
    if problems := problems_of(fal_findings(asked)):
        raise RequestError(problems)
    if kind == "train-lora-i2v" and not dataset.videos:
        found = f"{dataset.images} images and no video"
        raise RequestError.of("dataset", found, "add a video: the provider rejects images alone for i2v")
    if out.suffix.lower() != ".safetensors":
        raise RequestError.of("--output", f"{out.name}", "give a name that ends with .safetensors")
    payload = MappingProxyType(asked.payload())
    about: dict[str, Any] = {
        "kind": kind,
        "request": dict(payload),
        "dataset": dataset.as_dict(),
        "adjustments": [],
        "findings": [],
    }
    price = estimate(asked, asked.provider, prices)
    order = Order(asked.provider, asked.endpoint, payload, out, price, about)
    return order, Prepared(asked.endpoint, payload, MappingProxyType({text: dataset.file}))


def without_deadline(limits: SpendingLimits) -> SpendingLimits:
    """Return the limits for a training, which may take hours: nothing is told or cancelled for its time."""
    return replace(limits, late_after_s=math.inf, cancel_late=False)

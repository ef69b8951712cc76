"""What `check`, `plan` and `bench` say about several devices: how they share a run, and what it is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import RequestError
from ..plan.flops import SIZES, size_of
from ..plan.gpu_expectation import GpuExpectation, expect_on_gpus
from ..plan.gpu_layout import choose_layout, is_guided

if TYPE_CHECKING:
    from ..loading.wan_model import WanModel
    from ..plan.expectation import Rates
    from ..plan.families import Family
    from ..plan.plan import Plan

__all__ = ["estimate_on_gpus"]

_HEAD_WIDTH = 128  # of every published Wan transformer


def estimate_on_gpus(
    devices: int, plan: Plan, family: Family, model: WanModel | None, rates: Rates | None
) -> GpuExpectation:
    """Return how so many devices share `plan`, and how long they take if this machine was measured.

    model: None takes the published size of the family. rates: of the model here; None if not measured.

    Raises RequestError for more devices than can share it.
    """
    if model is None and family.name not in SIZES:
        raise RequestError.of("--gpus", f"the size of {family.name} is not known", "give --model too")
    config = None if model is None else model.experts["high"].config
    size = SIZES[family.name] if config is None else size_of(config)
    heads = size.width // (_HEAD_WIDTH if config is None else config.get("attention_head_dim", _HEAD_WIDTH))
    guided = is_guided(plan.guidance, plan.experts[plan.start_step :])
    layout = choose_layout(devices, heads, guided=guided)
    return expect_on_gpus(plan, size, heads, rates, layout)

"""Measures what a change of LoRA strengths between two steps costs: weights of an expert are made anew."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch

from ..device.memory import Memory
from ..loading.host_model import AnyModel, HostModel
from ..plan.plan import Plan
from ..weights.recipe import Recipe, TensorRecipe
from ..weights.stored_tensors import Files

__all__ = ["PhaseCost", "measure_phase_cost"]


@dataclass(frozen=True)
class PhaseCost:
    """changes: how often weights are made anew. tensors: of the change with most. seconds: of that one."""

    changes: int
    tensors: int
    seconds: float

    def text(self) -> str:
        times = "once" if self.changes == 1 else f"{self.changes} times"
        return (
            f"LoRA strengths change {times} within an expert: up to {self.tensors} weights are made anew in "
            f"about {self.seconds:.2g} s, measured here on one block; part of it runs beside the steps before"
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.inference_mode()
def measure_phase_cost(model: AnyModel, plan: Plan, memory: Memory) -> PhaseCost | None:
    """Make the weights of one block as a change would, and count those of all blocks. None without a change,
    and for a model of the host, which attaches LoRAs itself.

    model: with the LoRAs of the phases of `plan`.

    One block is loaded and freed. The others are taken to need as long, in proportion to their elements.
    """
    if isinstance(model, HostModel):
        return None
    networks, experts = plan.networks[plan.start_step :], plan.experts[plan.start_step :]
    steps = pairwise(zip(networks, experts, strict=True))
    borders = [(old, new) for (old, before), (new, after) in steps if before == after and old != new]
    recipes = model.experts_on(memory.device)
    changed = [_changed(recipes[old], recipes[new]) for old, new in borders]
    if not changed:
        return None
    most = max(changed, key=_elements)
    block = {name: tensor for name, tensor in most.items() if name.startswith("blocks.0.")} or most
    with Files(memory.device) as files:
        began = perf_counter()
        for tensor in block.values():
            tensor.compute(files)
        if memory.device.type == "cuda":
            torch.cuda.synchronize(memory.device)
        seconds = perf_counter() - began
    return PhaseCost(len(borders), len(most), seconds * _elements(most) / max(_elements(block), 1))


def _changed(old: Recipe, new: Recipe) -> dict[str, TensorRecipe]:
    """Return the tensors of `new` that `old` would not make in the same way."""
    return {name: tensor for name, tensor in new.tensors.items() if old.tensors.get(name) != tensor}


def _elements(tensors: dict[str, TensorRecipe]) -> int:
    return sum(tensor.elements for tensor in tensors.values())

"""Decides how the devices of a run share its work."""

from __future__ import annotations

from ..errors import RequestError
from ..loading.host_model import AnyModel, HostModel
from ..plan.gpu_layout import GpuLayout, choose_layout, is_guided
from ..plan.plan import Plan

__all__ = ["layout_of_run", "require_one_device"]


def require_one_device(model: AnyModel) -> None:
    """Raise RequestError for a model whose `gpus` would have no effect."""
    if model.gpus is not None:
        fix = "use Run Local, or leave gpus of Load Model empty"
        raise RequestError.of("gpus", "given, and only Run Local computes on several devices", fix)


def layout_of_run(model: AnyModel, plan: Plan, ranks: int) -> GpuLayout:
    """Return how so many ranks share the forwards of a plan.

    Raises RequestError if a rank would have no attention head, with the counts that work.
    """
    if isinstance(model, HostModel):
        found = f"{model.name} is a model of ComfyUI, whose patches act in its own process"
        raise RequestError.of("gpus", found, "use Wan Duet Load Model, or one device")
    heads = int(next(iter(model.experts.values())).config.get("num_attention_heads", 40))
    running = slice(plan.start_step, None)
    return choose_layout(ranks, heads, guided=is_guided(plan.scales[running], plan.experts[running]))

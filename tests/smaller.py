"""Models that draw 32x32: a run on the CPU spends most of its time in the VAE, by the area."""

from __future__ import annotations

from dataclasses import replace

from wan_duet.pipelines.loading.wan_model import WanModel

__all__ = ["smaller"]


def smaller(model: WanModel) -> WanModel:
    """The model, which draws 32x32 in place of every size of its family."""
    family = model.family
    sizes = {tier: dict.fromkeys(shapes, (32, 32)) for tier, shapes in family.sizes.items()}
    return replace(model, family=replace(family, sizes=sizes))

"""The inputs of the samplers for NAG and CFG-Zero*, and what they say."""

from __future__ import annotations

from collections.abc import Sequence

from ..pipelines.plan.extra_guidance import ExtraGuidance
from ..pipelines.request.contracts import DESCRIPTIONS
from ..pipelines.request.local_settings import NAG_ALPHA, NAG_TAU, stages_named
from .comfy_interface import io
from .inputs import field_input
from .widgets import UNSET, local_widgets

__all__ = ["chosen_extra", "extra_guidance_inputs"]

_WIDGETS = local_widgets()
_SWITCH_TEXT = (
    "On: CFG-Zero* instead of plain guidance. Does nothing at guidance scale 1. Changes the result."
)


def extra_guidance_inputs(*, two_stages: bool) -> list[io.Input]:
    """Return the inputs, all optional, for a sampler of one or of two stages."""
    star = field_input(_WIDGETS["cfg_zero_star"])
    if not two_stages:
        star = io.Boolean.Input("cfg_zero_star", default=False, optional=True, tooltip=_SWITCH_TEXT)
    second = [field_input(_WIDGETS["nag_scale_2"])] if two_stages else []
    return [
        field_input(_WIDGETS["nag_scale"]),
        *second,
        field_input(_WIDGETS["nag_tau"]),
        field_input(_WIDGETS["nag_alpha"]),
        star,
        field_input(_WIDGETS["cfg_zero_steps"]),
        io.Conditioning.Input(
            "nag_negative",
            optional=True,
            tooltip=f"{DESCRIPTIONS['nag_negative_prompt'].split('.')[0]}. Not connected: negative.",
        ),
    ]


def chosen_extra(
    experts: Sequence[str],
    nag_scale: float = 1.0,
    nag_scale_2: float = UNSET,
    nag_tau: float = NAG_TAU,
    nag_alpha: float = NAG_ALPHA,
    cfg_zero_star: str = "off",
    cfg_zero_steps: int = 0,
) -> ExtraGuidance | None:
    """Return what the widgets say for these experts; None when NAG and CFG-Zero* are off. A saved workflow
    may lack them, so each has its default.

    nag_scale_2: of the low expert; -1 is nag_scale.
    """
    scales = {"high": nag_scale, "low": nag_scale if nag_scale_2 == UNSET else nag_scale_2}
    return ExtraGuidance.of(
        {name: scales[name] for name in experts},
        nag_tau,
        nag_alpha,
        stages_named(cfg_zero_star, experts),
        cfg_zero_steps,
    )

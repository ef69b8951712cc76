"""Finds LoRAs in a request that are distilled for few steps, by their names: no tensor tells it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .report import Finding

__all__ = ["DISTILLED_NAME", "distilled_findings"]

DISTILLED_NAME = re.compile(r"lightning|lightx2v|distill|turbo|[48][ _-]?steps?", re.IGNORECASE)
_MOST_STEPS = 8  # huggingface.co/lightx2v has LoRAs for 4 and for 8 steps


def distilled_findings(values: Mapping[str, Any], attached: Iterable[str] = ()) -> Iterator[Finding]:
    """Yield warnings about steps and guidance that do not suit a distilled LoRA.

    values:   the fields of a request, as used.
    attached: the names of LoRAs that the model has already.
    """
    asked = (lora for lora in values.get("loras") or () if lora.get("scale", 1.0))
    names = [*(lora.get("weight_name") or lora["path"].split("?")[0] for lora in asked), *attached]
    name = next((name for name in names if DISTILLED_NAME.search(name)), None)
    if name is None:
        return
    name = re.split(r"[/\\]", name)[-1]
    for field in ("num_inference_steps", "steps"):
        steps = values.get(field)
        if isinstance(steps, int) and steps > _MOST_STEPS:  # text where a provider chooses it
            reason = f"{name} is distilled for few steps; {steps} cost time and may oversaturate: give 4"
            yield Finding(field, "warning", steps, steps, reason)
    for field in ("guidance_scale", "guidance_scale_2"):
        scale = values.get(field)
        if isinstance(scale, float) and scale != 1:
            reason = f"{name} is distilled with guidance; more of it may oversaturate: give 1"
            yield Finding(field, "warning", scale, scale, reason)

"""Recognises weights and LoRAs that are distilled for few steps, and says which settings they need.

Their names and titles tell it, no tensor does. The table is distilled.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .report import Finding

__all__ = ["DISTILLED_NAME", "DISTILLED_WEIGHTS", "Distilled", "distilled_by_name", "distilled_findings"]

_SCENE = r"(?![ _-]*(?:bolt|strike|storm|effect|magic|fx|power|style))"  # lightning in a picture
DISTILLED_NAME = re.compile(
    rf"lightning{_SCENE}|lightx2v|distill(?!er)|turbo|[48][ _-]?steps?", re.IGNORECASE
)
_MOST_STEPS = 8  # huggingface.co/lightx2v has LoRAs for 4 and for 8 steps


@dataclass(frozen=True)
class Distilled:
    """One kind of distilled weights, and the settings that they were distilled for.

    names:     searched in file names and titles.
    preset:    the name of the preset with these settings.
    small:     it exists for the 5B too.
    shift:     None where `local` has the sigmas.
    guidance:  on both experts.
    strengths: of a LoRA, high expert first.
    local:     settings of `LocalSettings`.
    """

    title: str
    names: re.Pattern[str]
    steps: int
    guidance: float
    strengths: tuple[float, ...]
    source: str
    as_of: str
    preset: str
    small: bool = False
    shift: float | None = None
    local: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """Return {plan name: value} of the settings."""
        scales = dict.fromkeys(("guidance_scale", "guidance_scale_2"), self.guidance)
        shift = {} if self.shift is None else {"shift": self.shift}
        return {"num_inference_steps": self.steps, **shift, **scales, "local": dict(self.local)}


def _read() -> tuple[Distilled, ...]:
    file = Path(__file__).with_name("distilled.json")
    entries: Sequence[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["distilled"]
    return tuple(
        Distilled(
            names=re.compile(entry.pop("names"), re.IGNORECASE),
            strengths=tuple(entry.pop("strengths")),
            **entry,
        )
        for entry in entries
    )


DISTILLED_WEIGHTS = _read()


def distilled_by_name(name: str) -> Distilled | None:
    """Return the kind of distilled weights that a file name or title names, or None."""
    return next((known for known in DISTILLED_WEIGHTS if known.names.search(name)), None)


def distilled_findings(values: Mapping[str, Any], attached: Iterable[str] = ()) -> Iterator[Finding]:
    """Yield warnings about steps, guidance and shift that do not suit distilled weights.

    values:   the fields of a request, as used.
    attached: the names of the files of the model and of the LoRAs that it has already.
    """
    asked = (lora for lora in values.get("loras") or () if lora.get("scale", 1.0))
    names = [*(lora.get("weight_name") or lora["path"].split("?")[0] for lora in asked), *attached]
    bare = [re.split(r"[/\\]", name)[-1] for name in names]
    name = next((name for name in bare if distilled_by_name(name) or DISTILLED_NAME.search(name)), None)
    if name is None:
        return
    known = distilled_by_name(name)
    remedy = "" if known is None else f"; --preset {known.preset} has the settings of {known.title}"
    scales = {name: values.get(name) for name in ("guidance_scale", "guidance_scale_2")}
    guided = {name: scale for name, scale in scales.items() if isinstance(scale, float) and scale != 1}
    for place in ("num_inference_steps", "steps"):
        steps = values.get(place)
        if isinstance(steps, int) and steps > _MOST_STEPS:  # text where a provider chooses it
            few = 4 if known is None else known.steps
            waste = steps * (2 if guided else 1) - few
            reason = (
                f"{name} is distilled for few steps: {steps} of them waste up to {waste} forwards and may "
                f"oversaturate; give {few}{remedy}"
            )
            yield Finding(place, "warning", steps, steps, reason)
    for place, scale in guided.items():
        reason = f"{name} is distilled with guidance; more of it may oversaturate: give 1{remedy}"
        yield Finding(place, "warning", scale, scale, reason)

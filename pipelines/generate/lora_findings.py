"""Reads the headers of a request's LoRAs, and says which were not made for the expert they are used on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..errors import LoraError
from ..request.base import WanRequest
from ..request.lora_weight import LegacyLoRAWeight, LoRAWeight, NovitaLoRA, place_of
from ..request.report import Finding
from ..weights.lora.coverage import LoraReport
from ..weights.lora.find import LoraSources
from ..weights.lora.guess import Intended, guess_expert
from ..weights.lora.lora_file import read_lora

__all__ = ["attached_remarks", "lora_findings"]

AnyLoRA = LoRAWeight | LegacyLoRAWeight | NovitaLoRA
_OTHER = {"high": "low", "low": "high"}


def lora_findings(request: WanRequest, sources: LoraSources, experts: int = 2) -> list[Finding]:
    """Return a warning for each LoRA of the request whose file says another expert.

    sources: those without downloads leave out LoRAs that are an address or a repository.
    experts: of the model, 1 or 2.
    """
    if experts == 1:
        return []
    loras: Sequence[AnyLoRA] = getattr(request, "loras", None) or ()
    intended = {
        index: _intended(lora, sources)
        for index, lora in enumerate(loras)
        if isinstance(lora, LoRAWeight) and lora.scale
    }
    made_for = {index: found.expert for index, found in intended.items() if found.expert in _OTHER}
    return [
        _misplaced(index, loras, intended[index], made_for)
        for index, expert in made_for.items()
        if loras[index].transformer != expert
    ]


def attached_remarks(reports: Sequence[LoraReport]) -> Iterator[str]:
    """Yield what to say of LoRAs that are attached to a model already."""
    for report in reports:
        if report.of_other_expert and report.strength:
            yield (
                f"{report.file.name} is on the {report.expert}-noise expert, but seems to be made for the "
                f"{report.facts.intended.expert}-noise one ({report.facts.intended.evidence} says so)"
            )


def _intended(lora: LoRAWeight, sources: LoraSources) -> Intended:
    """Return the expert that a LoRA was made for; unknown for a file that is not here or not readable."""
    nowhere = sources.downloads is None and place_of(lora.path) in ("address", "repository")
    try:
        return (
            Intended("", "")
            if nowhere
            else guess_expert(read_lora(sources.find(lora.path, lora.weight_name)))
        )
    except LoraError:  # a run refuses it with this error
        return Intended("", "")


def _misplaced(
    index: int, loras: Sequence[AnyLoRA], intended: Intended, made_for: Mapping[int, str]
) -> Finding:
    """Return the warning. made_for: {index: "high" or "low"} of all LoRAs that say it."""
    used, expert = loras[index].transformer, intended.expert
    partner = next(
        (
            other
            for other, theirs in made_for.items()
            if loras[other].transformer == expert and theirs == used
        ),
        None,
    )
    remedy = f"give {expert}" if partner is None else f"exchange it with loras[{partner}]"
    reason = (
        f"the file seems to be made for the {expert}-noise expert ({intended.evidence} says so): {remedy}"
    )
    return Finding(f"loras[{index}].transformer", "warning", used, used, reason)

"""Attaches a list of LoRAs to a model, after all of them are found or downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from ..download.store import origin_of
from ..errors import LoraError
from ..loading.host_model import AnyModel
from ..progress import Progress
from ..request.lora_weight import LoRAWeight, place_of
from ..weights.lora.coverage import LoraReport
from ..weights.lora.find import LoraSources

__all__ = ["lora_report", "with_loras"]


def with_loras(
    model: AnyModel,
    loras: Sequence[LoRAWeight],
    sources: LoraSources,
    progress: Progress,
    *,
    allow_partial: bool = False,
) -> AnyModel:
    """Return `model` with every LoRA attached and reported in its `loras`.

    allow_partial: also attach a LoRA of which only a part fits.

    Raises LoraError for the first LoRA that is missing, cannot be downloaded or does not fit, and whatever
    `progress.check` raises.
    """
    for index, lora in enumerate(loras):
        if lora.transformer == "low" and model.family.experts == 1:
            raise LoraError(
                f"loras[{index}].transformer: is low, but the model has only one expert; use high or both"
            )
    # Local files first: a misspelt name must not cost a download.
    files = {
        lora: sources.find(lora.path, lora.weight_name, progress) for lora in sorted(loras, key=_is_remote)
    }
    for lora in loras:
        model = model.with_lora(files[lora], lora.scale, lora.transformer, allow_partial=allow_partial)
    return model


def _is_remote(lora: LoRAWeight) -> bool:
    return place_of(lora.path) in ("address", "repository")


def lora_report(reports: Sequence[LoraReport]) -> str:
    """Describe for the user what each LoRA file changed on each expert."""
    texts: dict[Path, list[str]] = {}
    for report in reports:
        parts = texts.setdefault(report.file, [])
        parts.append(indent(report.summary(), "  ") if parts else report.text())
    return "\n".join(line for file, parts in texts.items() for line in (*parts, *_source(file)))


def _source(file: Path) -> list[str]:
    origin = origin_of(file)
    if origin is None:
        return []
    commit = f" at commit {origin.revision[:12]}" if origin.revision else ""
    return [f"  downloaded from {origin.address}{commit}, kept as {file.name}"]

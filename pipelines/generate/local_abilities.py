"""What this machine can do, as far as the check of a request must know it."""

from __future__ import annotations

from ..interpolation.found_interpolators import Interpolators
from ..loading.host_model import AnyModel, HostModel
from ..request.field_case import LocalAbilities
from .lora_findings import attached_remarks
from .required_weights import expert_file_names, lora_names, missing_weights
from .token_counter import token_counter

__all__ = ["local_abilities"]


def local_abilities(available: Interpolators, model: AnyModel | None = None) -> LocalAbilities:
    """Return what `check` must know about the interpolators and, if given, the model."""
    host = model if isinstance(model, HostModel) else None
    return LocalAbilities(
        interpolators=available.names,
        unusable_interpolators=available.refused,
        prompt_expander=model is not None and model.prompt_expander is not None,
        safety_checker=model is not None and model.safety_checker is not None,
        missing_weights={} if model is None else missing_weights(model),
        remarks=_remarks(model),
        attached_loras=() if model is None else (*lora_names(model), *expert_file_names(model)),
        patched_shift=None if host is None else host.facts["high"].shift,
        count_tokens=None if model is None else token_counter(model),
        own_engine=host is None,
    )


def _remarks(model: AnyModel | None) -> tuple[str, ...]:
    if model is None:
        return ()
    return (*model.notes, *(attached_remarks(model.loras) if model.family.experts == 2 else ()))

"""The prompt that is drawn: looked at, expanded where that is wanted, and looked at again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from .given import Given
from .memory import Memory
from .models.companion import companion_record
from .models.prompt_expander import expand_prompt
from .models.safety_checker import SafetyChecker
from .models.wan_model import WanModel
from .plan.plan import Plan
from .progress import Progress
from .request import WanRequest
from .safety import show_inputs, show_prompt
from .sampling.engine import Condition, Prompts
from .stages import encode_prompts

__all__ = ["drawn_prompt", "helpers_record", "read_prompts"]

log = logging.getLogger(__name__)


def drawn_prompt(
    request: WanRequest,
    model: WanModel,
    given: Given,
    checker: SafetyChecker | None,
    known: str | None,
    memory: Memory,
    progress: Progress,
) -> str:
    """known: as a receipt has it; no language model is asked again.

    Raises SafetyError when the checker flags the prompt, what it was expanded to, or what comes in.
    """
    asked: str = dict(request)["prompt"]
    show_prompt(checker, request, asked)
    show_inputs(checker, request, given, progress)
    expander = _expander(request, model)
    if known is not None:
        prompt = known
    elif expander is None:
        prompt = asked
    else:
        prompt = expand_prompt(expander, asked, request.task, model.precision, memory, progress)
        log.info("the prompt is now: %s", prompt)
    if prompt != asked:
        show_prompt(checker, request, prompt)
    return prompt


def read_prompts(
    model: WanModel, request: WanRequest, plan: Plan, prompt: str, memory: Memory, progress: Progress
) -> tuple[Prompts, dict[str, str]]:
    """The prompts as conditions, and a note per prompt that was too long to be read whole."""
    fields = {**dict(request), "prompt": prompt}
    guided = any(plan.guidance[expert] != 1 for expert in plan.experts[plan.start_step :])
    names = ["prompt", "negative_prompt"] if guided else ["prompt"]
    encoded = encode_prompts(model, [fields.get(name) or "" for name in names], memory, progress)
    notes = {
        name: f"only its first {prompt.tokens} tokens are read; the last {prompt.dropped} do not fit"
        for name, prompt in zip(names, encoded, strict=True)
        if prompt.dropped
    }
    conditions = [Condition(prompt.embeddings) for prompt in encoded]
    return Prompts(conditions[0], conditions[1] if guided else None), notes


def helpers_record(request: WanRequest, model: WanModel, checker: SafetyChecker | None) -> dict[str, Any]:
    """For the receipt: which models had a say beside the one that draws."""
    record: dict[str, Any] = {}
    expander = _expander(request, model)
    if expander is not None:
        record["prompt_expander"] = companion_record(expander)
    if checker is not None:
        record["safety_checker"] = checker.as_dict()
    return record


def _expander(request: WanRequest, model: WanModel) -> Path | None:
    """The folder of the language model; None where none is wanted."""
    return model.prompt_expander if getattr(request, "enable_prompt_expansion", None) else None

"""The prompt that is drawn: looked at, expanded where that is wanted, and looked at again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..networks.helper_folder import companion_record
from ..networks.prompt_expander import expand_prompt
from ..sampling.engine import Condition, Prompts
from .decided import Run
from .safety import show_inputs, show_prompt
from .stages import encode_prompts

__all__ = ["drawn_prompt", "helpers_record", "read_prompts"]

log = logging.getLogger(__name__)


def drawn_prompt(run: Run) -> str:
    """The prompt of the receipt that is repeated, where there is one; no language model is asked again.

    Raises SafetyError when the checker flags the prompt, what it was expanded to, or what comes in.
    """
    request, checker = run.request, run.checker
    asked: str = dict(request)["prompt"]
    show_prompt(checker, request, asked)
    show_inputs(checker, request, run.given, run.progress)
    expander = _expander(run)
    if run.prompt is not None:
        prompt = run.prompt
    elif expander is None:
        prompt = asked
    else:
        prompt = expand_prompt(expander, asked, request.task, run.model.precision, run.memory, run.progress)
        log.info("the prompt is now: %s", prompt)
    if prompt != asked:
        show_prompt(checker, request, prompt)
    return prompt


def read_prompts(run: Run, prompt: str) -> tuple[Prompts, dict[str, str]]:
    """The prompts as conditions, and a note per prompt that was too long to be read whole."""
    plan, fields = run.plan, {**dict(run.request), "prompt": prompt}
    guided = any(plan.guidance[expert] != 1 for expert in plan.experts[plan.start_step :])
    names = ["prompt", "negative_prompt"] if guided else ["prompt"]
    encoded = encode_prompts(run.model, [fields.get(name) or "" for name in names], run.memory, run.progress)
    notes = {
        name: f"only its first {prompt.tokens} tokens are read; the last {prompt.dropped} do not fit"
        for name, prompt in zip(names, encoded, strict=True)
        if prompt.dropped
    }
    conditions = [Condition(prompt.embeddings) for prompt in encoded]
    return Prompts(conditions[0], conditions[1] if guided else None), notes


def helpers_record(run: Run) -> dict[str, Any]:
    """For the receipt: which models had a say beside the one that draws."""
    record: dict[str, Any] = {}
    expander = _expander(run)
    if expander is not None:
        record["prompt_expander"] = companion_record(expander)
    if run.checker is not None:
        record["safety_checker"] = run.checker.as_dict()
    return record


def _expander(run: Run) -> Path | None:
    """The folder of the language model; None where none is wanted."""
    return run.model.prompt_expander if getattr(run.request, "enable_prompt_expansion", None) else None

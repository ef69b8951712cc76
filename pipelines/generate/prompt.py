"""Checks the prompt, expands it if requested, checks it again, and encodes it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..loading.host_model import HostModel, HostPrompts
from ..networks.helper_folder import companion_record
from ..networks.prompt_expander import expand_prompt
from ..networks.text_encoder import EncodedPrompt
from ..plan.prompt_relay import PromptRelay
from ..request.prompt_length import too_long
from ..request.prompt_ranges import texts_of_ranges
from ..request.report import Finding
from ..sampling.engine import Condition, Prompts
from .prepared_run import Run
from .safety import check_inputs, check_prompt
from .stages import encode_prompts

__all__ = [
    "cut_prompts",
    "expanded_prompt",
    "helpers_record",
    "own_conditions",
    "prompt_conditions",
]

log = logging.getLogger(__name__)


def expanded_prompt(run: Run) -> str:
    """Return the prompt to use: expanded if requested. A repeated run uses the prompt of its receipt.

    Raises SafetyError when the checker flags the prompt, its expansion, or an input file.
    """
    request, checker = run.request, run.checker
    asked: str = dict(request)["prompt"]
    check_prompt(checker, request, asked)
    check_inputs(checker, request, run.inputs, run.progress)
    expander = _expander(run)
    if run.prompt is not None:
        prompt = run.prompt
    elif expander is None:
        prompt = asked
    else:
        prompt = expand_prompt(expander, asked, request.task, run.model.precision, run.memory, run.progress)
        log.info("the prompt is now: %s", prompt)
    if prompt != asked:
        check_prompt(checker, request, prompt)
    return prompt


def prompt_conditions(run: Run, prompt: str) -> tuple[Prompts | HostPrompts, tuple[Finding, ...]]:
    """Encode prompt and negative prompt. Returns them, and a finding for each one that was cut."""
    if isinstance(run.model, HostModel):
        negative = run.report.require().values.get("negative_prompt") or ""
        # Both, whatever the guidance: a patch on the model may use the negative one at scale 1 too.
        return HostPrompts(*run.model.networks.encode_prompts([prompt, negative])), ()
    return own_conditions(run, prompt)


def own_conditions(run: Run, prompt: str) -> tuple[Prompts, tuple[Finding, ...]]:
    """As `prompt_conditions`, for our own engine. A negative prompt is encoded if a step uses it."""
    plan, running = run.plan, run.plan.experts[run.plan.start_step :]
    guided = any(scale != 1 for scale in plan.scales[plan.start_step :])
    avoiding = plan.extra_guidance is not None and plan.extra_guidance.nag_on(running)
    # A run that repeats a receipt may have a report that refuses: its prompt expander need not be here again.
    resolved, local = run.report.resolved, run.request.local
    fields = dict(run.request) if resolved is None else resolved.values
    names = [*(["negative_prompt"] if guided else []), *(["nag_negative_prompt"] if avoiding else [])]
    positive = texts_of_ranges(prompt, () if local is None else local.prompt_ranges) or {"prompt": prompt}
    texts = {**positive, **{name: fields.get(name) or "" for name in names}}
    syntax = "plain" if local is None else local.prompt_syntax
    encoded = encode_prompts(run.own_model, list(texts.values()), run.memory, run.progress, syntax)
    cut = tuple(cut_prompts(texts, encoded))
    run.say(cut)
    found = dict(zip(texts, (prompt.embeddings for prompt in encoded), strict=True))
    negative = Condition(found["negative_prompt"]) if guided else None
    condition = _of_ranges([found[name] for name in positive], plan.prompt_relay)
    return Prompts(condition, negative, found.get("nag_negative_prompt")), cut


def _of_ranges(texts: list[Tensor], relay: PromptRelay | None) -> Condition:
    """Return the condition in which each latent frame sees the texts of its ranges."""
    seen = None if relay is None else relay.seen([text.shape[1] for text in texts])
    return Condition(torch.cat(texts, 1), seen=seen)


def cut_prompts(names: Iterable[str], encoded: Iterable[EncodedPrompt]) -> list[Finding]:
    """Return a finding for each prompt that the text encoder cut."""
    return [
        too_long(name, prompt.tokens + prompt.dropped, prompt.tokens)
        for name, prompt in zip(names, encoded, strict=True)
        if prompt.dropped
    ]


def helpers_record(run: Run) -> dict[str, Any]:
    """Return the prompt expander and safety checker that the run uses, for the receipt."""
    record: dict[str, Any] = {}
    expander = _expander(run)
    if expander is not None:
        record["prompt_expander"] = companion_record(expander)
    if run.checker is not None:
        record["safety_checker"] = run.checker.as_dict()
    return record


def _expander(run: Run) -> Path | None:
    """Return the folder of the language model, or None when the request asks for no expansion."""
    return run.model.prompt_expander if getattr(run.request, "enable_prompt_expansion", None) else None

"""Finds syntax of other tools in a prompt, which would be read as words, and says what to do about it.

ComfyUI weighs `(word:1.4)`, and its page resolves `{a|b}` and removes comments before a graph is queued.
A1111's `[a:b:0.5]` and `<lora:x:1>` mean nothing to either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from ..errors import RequestError
from .prompt_weights import PromptSyntax, has_number, weighted_segments
from .report import Finding, problems_of

__all__ = ["Reader", "require_possible", "syntax_findings"]

# Who reads the prompt: our text encoder, a provider's, or a CLIP of ComfyUI.
Reader = Literal["here", "provider", "ComfyUI"]

_SHOWN = 40  # characters of what was found
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"


class _Syntax(NamedTuple):
    """A form of text, and what to do about it."""

    form: re.Pattern[str]
    remedy: str


_PARENTHESIS = re.compile(r"\\[()]|[()]")
_EMBEDDING = re.compile(r"(?<![\w\\])embedding:[\w./\\-]+")
_NO_EMBEDDING = (
    "embeddings are not read here; leave it out, or use ComfyUI's CLIP in Wan Duet Model from ComfyUI"
)
_WORDS = "is read as words: "
_WEIGHT_REMEDY: Mapping[Reader, str] = {
    "here": f"{_WORDS}set local.prompt_syntax to comfy, or leave the weight out",
    "provider": f"{_WORDS}providers read no weights; leave it out",
    "ComfyUI": "is read as a weight by ComfyUI's CLIP; set local.prompt_syntax to comfy, or escape ( and )",
}
_OTHERS = (
    _Syntax(
        re.compile(rf"\[[^\[\]]*(?::\s*{_NUMBER}\s*|\|[^\[\]]*)\]"),
        "neither Wan Duet nor ComfyUI changes a prompt between steps; leave the brackets out",
    ),
    _Syntax(
        re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>", re.IGNORECASE),
        "put the LoRA into loras, or into Wan Duet Request LoRA, and leave the tag out",
    ),
    _Syntax(
        re.compile(r"(?<!\\)\{[^{}]*\|[^{}]*\}"),
        "only ComfyUI's page chooses, when it queues a graph; write one of them",
    ),
    _Syntax(
        re.compile(r"/\*.*?\*/|(?:^|(?<=\s))//[^\n]*", re.DOTALL | re.MULTILINE),
        "only ComfyUI's page removes comments, when it queues a graph; leave it out",
    ),
    _Syntax(re.compile(r"\A\s*#\s[^\n]*"), "lists of prompts have no comments; leave the line out"),
)


def syntax_findings(prompts: Mapping[str, Any], syntax: PromptSyntax, reader: Reader) -> list[Finding]:
    """Return a finding per prompt and kind of syntax that is not done as its author may expect.

    prompts: {field: text, or None}.
    """
    given = ((field, text) for field, text in prompts.items() if text)
    return [finding for field, text in given for finding in _in_prompt(field, text, syntax, reader)]


def require_possible(findings: list[Finding]) -> list[Finding]:
    """Return the findings. Raises RequestError if one is impossible."""
    if problems := problems_of(findings):
        raise RequestError(problems)
    return findings


def _in_prompt(field: str, text: str, syntax: PromptSyntax, reader: Reader) -> Iterator[Finding]:
    embedding = _EMBEDDING.search(text)
    if embedding and reader != "ComfyUI":
        if syntax == "comfy":
            yield Finding(field, "impossible", embedding[0], None, _NO_EMBEDDING)
        else:
            yield _warning(field, embedding[0], f"{_WORDS}{_NO_EMBEDDING}")
    if syntax == "comfy":
        yield from _endless_weights(field, text)
    elif weight := _weight(text):
        yield _warning(field, weight, _WEIGHT_REMEDY[reader])
    for kind in _OTHERS:
        if found := kind.form.search(text):
            yield _warning(field, found[0], f"{_WORDS}{kind.remedy}")


def _weight(text: str) -> str | None:
    """Return a part of the prompt that ComfyUI would weigh by a number, with its parentheses."""
    opened: list[int] = []
    last = 0  # the end of the parenthesis before
    for found in _PARENTHESIS.finditer(text):
        if found[0] == "(":
            opened.append(found.start())
        elif found[0] == ")" and opened:
            start = opened.pop()
            if ":" in text[last : found.start()] and has_number(pair := text[start : found.end()]):
                return pair
        last = found.end()
    return None


def _endless_weights(field: str, text: str) -> Iterator[Finding]:
    for segment in weighted_segments(text):
        if not math.isfinite(segment.weight):
            reason = f"{_short(segment.text)} has the weight {segment.weight}; give a finite number"
            yield Finding(field, "impossible", _short(segment.text), None, reason)


def _warning(field: str, found: str, reason: str) -> Finding:
    return Finding(field, "warning", _short(found), _short(found), f"{_short(found)} {reason}")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

"""Finds prompts that are longer than what a text encoder reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .field_case import LocalAbilities
from .local_settings import LocalSettings
from .model_facts import ModelFacts
from .prompt_ranges import texts_of_ranges
from .prompt_weights import is_plain, weighted_segments
from .report import Finding

__all__ = ["long_prompts", "surely_cut", "too_long"]

_READ = 512  # tokens, `text_len` of wan/configs/shared_config.py in the official code


def long_prompts(
    family: ModelFacts, abilities: LocalAbilities, values: Mapping[str, Any], local: LocalSettings | None
) -> Iterator[Finding]:
    """Yield a finding per prompt that is longer than the model was trained on.

    Our own text encoder cuts it, unless it has weights that are read. That of a host does not. The length of
    an expanded prompt is not known.
    """
    prompt, weights = values.get("prompt") or "", local is not None and local.prompt_syntax == "comfy"
    positive = texts_of_ranges(prompt, () if local is None else local.prompt_ranges) or {"prompt": prompt}
    expanded = positive.keys() if values.get("enable_prompt_expansion") else ()
    limit = family.text_length
    for field, text in {**positive, "negative_prompt": values.get("negative_prompt") or ""}.items():
        # A token is a byte or more, and reading the vocabulary takes time.
        short = len(text.encode("utf-8", "surrogatepass")) < limit
        if abilities.count_tokens is None or short or field in expanded:
            continue
        whole = not abilities.own_engine or (weights and not is_plain(text))
        tokens = _weighted_tokens(text, abilities.count_tokens) if weights else abilities.count_tokens(text)
        if tokens > limit and not whole:
            yield too_long(field, tokens, limit)
        elif tokens > limit:
            used = "all are used, as in ComfyUI" if abilities.own_engine else "ComfyUI uses all of them"
            reason = f"longer than the {limit} tokens that the model was trained on; {used}"
            yield Finding(field, "warning", f"{tokens} tokens", f"{tokens} tokens", reason)


def surely_cut(values: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a finding per prompt of which a provider's text encoder cannot read all.

    The tokenizer is not here, but a word is a token or more, and T5 adds one at the end. Newer models, which
    take a duration, state their limits.
    """
    expanded = {"prompt"} if values.get("enable_prompt_expansion") else set()
    for field in sorted({"prompt", "negative_prompt"} - expanded):
        tokens = len((values.get(field) or "").split()) + 1
        if tokens > _READ and "duration" not in values:
            reason = f"too long: Wan's text encoder reads {_READ} tokens, so the provider may cut the end"
            yield Finding(field, "warning", f"at least {tokens} tokens", f"{_READ} tokens", reason)


def too_long(field: str, tokens: int, limit: int) -> Finding:
    """Return the finding of a prompt that is cut, with T5's end of sequence among its tokens."""
    reason = f"too long: the model reads {limit} tokens, so the last {tokens - limit} are cut"
    return Finding(field, "warning", f"{tokens} tokens", f"{limit} tokens", reason)


def _weighted_tokens(prompt: str, count: Callable[[str], int]) -> int:
    """Return the number of tokens of a prompt whose weights are read. `count` adds an end to each segment."""
    return sum(count(segment.text) - 1 for segment in weighted_segments(prompt)) + 1

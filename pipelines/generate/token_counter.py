"""Counts the tokens of a prompt as the text encoder of a model will read it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..loading.host_model import AnyModel, HostModel
from ..loading.wan_model import WanModel
from ..networks.tokenizer import clean_prompt, read_tokenizer

__all__ = ["token_counter"]


def token_counter(model: AnyModel) -> Callable[[str], int] | None:
    """Return what counts the tokens of a prompt, those that are cut included. None without a text encoder."""
    return model.networks.count_tokens if isinstance(model, HostModel) else partial(_count_tokens, model)


def _count_tokens(model: WanModel, prompt: str) -> int:
    whole = prompt.encode("utf-8", "ignore").decode()  # encoding it will refuse half a surrogate pair
    tokenize = read_tokenizer(model.tokenizer, model.text_encoder.config["vocab_size"])
    return len(tokenize(clean_prompt(whole)))

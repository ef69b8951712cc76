"""Prompts as the experts receive them, and what a training batch says about each clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from .grammar import COLOURS, Scene, junk_prompt, partial_prompt, prompt_of

__all__ = ["TEXT_TOKENS", "describe", "encode_prompts"]

_WRONG_COLOUR = 0.12  # of captions lie about the colour, as captions do: this is what guidance is there for
TEXT_TOKENS = 32  # no phrasing of the grammar is longer


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """The caption of a training clip: mostly a full sentence, sometimes part of one, or nothing."""
    kind = rng.random()
    if rng.random() < _WRONG_COLOUR:
        scene = replace(scene, colour=COLOURS[int(rng.integers(len(COLOURS)))])
    if kind < 0.10:
        return "" if kind < 0.07 else junk_prompt(rng)
    return partial_prompt(scene, rng)[0] if kind < 0.18 else prompt_of(scene, rng)


def encode_prompts(
    encoder: UMT5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    tokens: int = TEXT_TOKENS,
) -> torch.Tensor:
    """(B, tokens, C): zero after each prompt's last token, as the Wan pipelines pad them."""
    batch = tokenizer(
        list(prompts), padding="max_length", max_length=tokens, truncation=True, return_tensors="pt"
    ).to(encoder.device)
    states = encoder(batch.input_ids, batch.attention_mask).last_hidden_state
    masked: torch.Tensor = states * batch.attention_mask.unsqueeze(-1)
    return masked

"""The UMT5 text encoder: encodes a prompt into the embeddings that the experts attend to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..device.memory import Memory
from ..errors import RequestError
from ..request.prompt_weights import weighted_segments
from ..weights.footprint import weight_bytes
from ..weights.recipe import DTypeRule, Recipe, keeping_fp32, materialise
from .empty_layers import empty_network
from .tokenizer import Tokenize, clean_prompt, read_tokenizer
from .umt5 import KEPT_IN_FP32, Umt5Encoder

__all__ = [
    "EncodedPrompt",
    "TextEncoder",
    "load_text_encoder",
    "text_dtypes",
    "text_encoder_bytes",
]


@dataclass(frozen=True)
class EncodedPrompt:
    """The embeddings of a prompt.

    embeddings: (1, L, D), float32, CPU; zero after the `tokens` of the prompt. L is 512, or more if a
                weighted prompt has more tokens.
    dropped:    number of tokens beyond L, which are not used.
    """

    embeddings: Tensor
    tokens: int
    dropped: int


class TextEncoder:
    """A materialised UMT5 with its tokenizer. Its prompts must be valid Unicode, else RequestError."""

    def __init__(self, network: Umt5Encoder, tokenize: Tokenize, length: int, device: torch.device) -> None:
        self._network, self._tokenize, self._length, self._device = network, tokenize, length, device

    def encode(self, prompt: str) -> EncodedPrompt:
        """Encode a prompt at its true length, and pad the embeddings with zeros.

        The result equals padding first and masking, as in the official code: masked positions are never
        attended to.
        """
        _require_unicode(prompt)
        ids = self._tokenize(clean_prompt(prompt))
        kept = ids if len(ids) <= self._length else [*ids[: self._length - 1], ids[-1]]
        return EncodedPrompt(self._padded(self._hidden(kept)), len(kept), len(ids) - len(kept))

    def encode_weighted(self, prompt: str) -> EncodedPrompt:
        """Encode a prompt with the weights of ComfyUI's syntax, as its text encoder of Wan does.

        A weight moves an embedding away from that of the empty prompt, which is zero after its only token.
        Segments are tokenised one by one, whitespace and HTML entities stay, and nothing is cut, as in
        comfy/sd1_clip.py.
        """
        _require_unicode(prompt)
        (end,) = self._tokenize("")
        ids, weights = [], []
        for text, weight in weighted_segments(prompt):
            pieces = self._tokenize(text)[:-1]
            ids += pieces
            weights += [weight] * len(pieces)
        hidden, scale = self._hidden([*ids, end]), torch.tensor([*weights, 1.0]).view(1, -1, 1)
        empty = torch.zeros_like(hidden)
        empty[:, :1] = self._hidden([end])
        weighted = torch.where(scale == 1, hidden, (hidden - empty) * scale + empty)
        return EncodedPrompt(self._padded(weighted), len(ids) + 1, 0)

    def _hidden(self, ids: list[int]) -> Tensor:
        """Return the embeddings of tokens, (1, len(ids), D), float32, CPU."""
        hidden: Tensor = self._network(torch.tensor([ids], device=self._device))
        return hidden.float().cpu()

    def _padded(self, hidden: Tensor) -> Tensor:
        """Return (1, L, D), with zeros where the prompt is shorter than the experts were trained on."""
        padded = torch.zeros(1, max(self._length, hidden.shape[1]), hidden.shape[-1])
        padded[:, : hidden.shape[1]] = hidden
        return padded


def load_text_encoder(
    recipe: Recipe,
    tokenizer: Path,
    length: int,
    dtype: torch.dtype,
    memory: Memory,
    check: Callable[[], None],
    working_bytes: int = 0,
) -> TextEncoder:
    """Materialise UMT5 and read its tokenizer, from local files only.

    tokenizer:     what `read_tokenizer` reads.
    length:        tokens the experts were trained on (512 for every Wan model).
    working_bytes: what reading a prompt takes beside the weights.
    Raises ModelError naming the file that does not fit.
    """
    dtype_of = text_dtypes(dtype)
    memory.reserve(weight_bytes(recipe, dtype_of), "text encoder", working_bytes)
    network = empty_network(recipe, "a UMT5 encoder", Umt5Encoder)
    materialise(recipe, network, memory.device, dtype_of, check)
    tokenize = read_tokenizer(tokenizer, network.shared.num_embeddings)
    return TextEncoder(network, tokenize, length, memory.device)


def text_dtypes(dtype: torch.dtype) -> DTypeRule:
    """Return `dtype`, but float32 for T5's second feed-forward layers in fp16, where they would overflow."""
    return keeping_fp32(KEPT_IN_FP32 if dtype == torch.float16 else (), dtype)


def text_encoder_bytes(config: Mapping[str, Any], length: int) -> int:
    """Return the bytes the encoder needs beside its weights, for a prompt of `length` tokens.

    They are the position bias, and where no fused kernel takes it, the attention scores and their softmax, in
    float32. All else is small.
    """
    return 3 * 4 * int(config.get("num_heads", 64)) * length * length


def _require_unicode(prompt: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise RequestError.of("prompt", "holds half of a surrogate pair", "give text that is valid Unicode")

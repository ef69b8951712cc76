"""Caches encoded prompts, so that the same prompt does not load the text encoder again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ..weights.recipe import Recipe
    from .text_encoder import EncodedPrompt

__all__ = ["PromptCache"]


class PromptCache:
    """The last `size` prompts, 8 MB each with UMT5-XXL. It belongs to a model and is freed with it.

    The key is a hash of the prompt and of everything that its embeddings depend on: path, time and size of
    the encoder's files, dtype and device.
    """

    def __init__(self, size: int = 8) -> None:
        self._size, self._lock = size, threading.Lock()
        self._entries: OrderedDict[str, EncodedPrompt] = OrderedDict()

    def key(
        self, recipe: Recipe, dtype: torch.dtype, device: torch.device, prompt: str, *, weighted: bool = False
    ) -> str:
        stats = [
            (str(file), stat.st_mtime_ns, stat.st_size) for file in recipe.files if (stat := file.stat())
        ]
        facts = stats, str(dtype), device.type, prompt, *(["weighted"] if weighted else [])
        whole = repr(facts).encode("utf-8", "surrogatepass")
        return hashlib.sha256(whole).hexdigest()

    def find(self, key: str) -> EncodedPrompt | None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def keep(self, key: str, prompt: EncodedPrompt) -> None:
        with self._lock:
            self._entries[key] = prompt
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

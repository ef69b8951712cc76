"""The same words are read once, for as long as nothing else changed."""

from __future__ import annotations

from dataclasses import replace

import torch

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.stages import encode_prompts
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.networks.prompt_cache import PromptCache
from wan_duet.pipelines.networks.text_encoder import EncodedPrompt
from wan_duet.pipelines.progress import Silent


class Loads(DeviceMemory):
    def __init__(self) -> None:
        super().__init__("cpu")
        self.loaded: list[str] = []

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        self.loaded.append(what)
        super().reserve(size_bytes, what, working_bytes)


def test_a_prompt_that_was_read_needs_no_encoder() -> None:
    model, memory = load_model("toy"), Loads()
    first = encode_prompts(model, ["a red ball", ""], memory, Silent())
    again = encode_prompts(replace(model, name="made from it"), ["", "a red ball"], memory, Silent())
    assert memory.loaded == ["text encoder"]
    assert torch.equal(again[1].embeddings, first[0].embeddings)
    encode_prompts(model, ["a blue ball"], memory, Silent())
    encode_prompts(replace(model, precision="bf16"), ["a red ball"], memory, Silent())
    assert memory.loaded == ["text encoder"] * 3


def test_only_the_last_ones_are_kept() -> None:
    cache, prompt = PromptCache(size=2), EncodedPrompt(torch.zeros(1, 1, 1), 1, 0)
    for key in ("a", "b"):
        cache.keep(key, prompt)
    assert cache.find("a") is prompt  # used again, so "b" is the oldest
    cache.keep("c", prompt)
    assert [key for key in "abc" if cache.find(key)] == ["a", "c"]

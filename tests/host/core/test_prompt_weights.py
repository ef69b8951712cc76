"""Prompt weights are those of ComfyUI's text encoder of Wan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

NAMES = (
    *("plain", "weight 0", "weight 0 first", "weight 0.5", "weight 1", "weight 1.4", "negative", "bare"),
    *("nested", "escaped", "unbalanced", "no number", "lines", "empty", "only a weight"),
    *("over 512", "over 512, plain"),
)


@pytest.fixture(scope="module")
def answers(told_by: Callable[[str], Any]) -> Any:
    return told_by("prompt_weights.py")


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_those_of_comfyui(answers: Any, name: str) -> None:
    assert answers["prompts"][name]["difference"] <= 1e-6


def test_the_prompts_compare_something(answers: Any) -> None:
    prompts = answers["prompts"]
    assert set(prompts) == set(NAMES)
    assert answers["size"] > 0.1
    assert prompts["over 512"]["tokens"] > prompts["over 512, plain"]["tokens"] > 512
    assert all(
        prompts[name]["from_plain"] > 0.01 for name in ("weight 0", "weight 1.4", "negative", "nested")
    )


def test_any_text_is_split_as_comfyui_splits_it(answers: Any) -> None:
    assert answers["split otherwise"] == []

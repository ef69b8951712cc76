"""Reads what the maker of a LoRA states about it: trigger words and base model.

They are in the header of the file, or in a JSON file beside it that a model manager wrote:

    NAME.json            "activation text", "sd version"       (AUTOMATIC1111's web UI)
    NAME.civitai.info    "trainedWords", "baseModel"           (Civitai Helper)
    NAME.metadata.json   "civitai": {"trainedWords"}, "base_model"   (ComfyUI-Lora-Manager)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Stated", "stated_about"]

_SIDECARS = (".metadata.json", ".civitai.info", ".json")
_LARGEST_SIDECAR = 4 * 2**20  # bytes; Civitai's answers with many versions are some 100 KiB
_MOST_WORDS, _LONGEST_WORD = 20, 200
_HEADER_WORDS = ("modelspec.trigger_phrase", "trigger_words", "trained_words", "activation text")
_HEADER_BASES = ("modelspec.architecture", "ss_base_model_version", "base_model")
_WORDS = ("trainedWords", "trigger_words", "activation text")
_BASES = ("baseModel", "base_model", "sd version")


@dataclass(frozen=True)
class Stated:
    """triggers: words for the prompt, without repeats. base: the model it was trained on, or empty."""

    triggers: tuple[str, ...]
    base: str


def stated_about(file: Path, metadata: Mapping[str, str]) -> Stated:
    """Return what the header of a LoRA and the JSON files beside it state; unreadable JSON states nothing.

    metadata: of the header of `file`.
    """
    sources: list[Mapping[str, Any]] = [_sidecar(file, ending) for ending in _SIDECARS]
    nested = [source["civitai"] for source in sources if isinstance(source.get("civitai"), dict)]
    sidecars = [*sources, *nested]
    words = [word for name in _HEADER_WORDS for word in _words(metadata.get(name))]
    words += [word for source in sidecars for name in _WORDS for word in _words(source.get(name))]
    bases = [metadata.get(name) for name in _HEADER_BASES]
    bases += [source.get(name) for source in sidecars for name in _BASES]
    base = next((text.strip() for text in bases if isinstance(text, str) and text.strip()), "")
    return Stated(tuple(dict.fromkeys(words))[:_MOST_WORDS], base[:_LONGEST_WORD])


def _sidecar(file: Path, ending: str) -> Mapping[str, Any]:
    """Return the JSON object in the file beside `file`. Empty if missing, or a link out of the folder."""
    place = file.with_name(file.stem + ending)
    try:
        if place.resolve().parent != file.resolve().parent or place.stat().st_size > _LARGEST_SIDECAR:
            return {}
        content = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _words(value: Any) -> list[str]:
    """Return the words of a list, or of a text with commas, which may also be a JSON list."""
    if isinstance(value, str):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            inner = None
        value = inner if isinstance(inner, list) else value.split(",")
    words = [word.strip() for word in value if isinstance(word, str)] if isinstance(value, list) else []
    return [word[:_LONGEST_WORD] for word in words if word]

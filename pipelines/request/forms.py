"""Defines what the requests of a provider share beside their fields: further checks, and the payload."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .base import WanRequest
from .field_rows import MEDIA, MEDIA_LISTS
from .seeds import SEED_MAX

__all__ = ["FORMS", "FalRequest"]

# These fields of Novita's Wan 2.2 are inputs, all others parameters.
_INPUT = ("prompt", "negative_prompt", "img_url")


class FalRequest(WanRequest):
    """A request with the fields of fal."""

    @field_validator("prompt", *MEDIA, mode="after", check_fields=False)
    @classmethod
    def _is_not_blank(cls, text: str | None, field: ValidationInfo) -> str | None:
        if field.field_name is not None and text == cls.model_fields[field.field_name].default:
            return text  # a published default may be empty
        return _not_blank(text)

    @field_validator(*MEDIA_LISTS, mode="after", check_fields=False)
    @classmethod
    def _holds_no_blanks(cls, texts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for text in texts or ():
            _not_blank(text)
        return texts

    @field_validator("seed", check_fields=False)
    @classmethod
    def _fits_the_generator(cls, seed: int | None) -> int | None:
        if seed is not None and not 0 <= seed <= SEED_MAX:
            raise PydanticCustomError("seed_range", "outside what the noise generator takes")
        return seed


class _Novita21(WanRequest):
    """A request with the fields of Novita's Wan 2.1."""

    @field_validator("prompt", check_fields=False)
    @classmethod
    def _is_not_blank(cls, prompt: str) -> str | None:
        return _not_blank(prompt)


class _Novita22(WanRequest):
    """A request with the fields of Novita's Wan 2.2, which has none for steps, guidance and shift."""

    def payload(self) -> dict[str, Any]:
        """Return the payload in the two groups of these endpoints: input and parameters."""
        groups: dict[str, Any] = {"input": {}, "parameters": {}}
        for name, value in super().payload().items():
            groups["input" if name in _INPUT else "parameters"][name] = value
        return groups


def _not_blank(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise PydanticCustomError("blank", "empty")
    return text


FORMS: dict[str, type[WanRequest]] = {"fal": FalRequest, "novita 2.1": _Novita21, "novita 2.2": _Novita22}

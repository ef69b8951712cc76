"""Defines what all kinds of request share."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator

from .local_settings import LocalSettings
from .strict_model import StrictModel

__all__ = ["WanRequest"]


class WanRequest(StrictModel):
    """What the user wants, in the words of the provider. `parse` makes one from data of unknown origin.

    local: settings that only this machine has. They are part of no payload, order or hash.
    """

    kind: ClassVar[str]  # for example "text-to-video"
    task: ClassVar[str]  # the kinds of a task share a node
    provider: ClassVar[str]
    endpoint: ClassVar[str]
    title: ClassVar[str]
    remote_only: ClassVar[bool] = False  # no model here can do it

    local: LocalSettings | None = Field(default=None, exclude=True)

    @field_validator("local")
    @classmethod
    def _says_something(cls, local: LocalSettings | None) -> LocalSettings | None:
        return local if local is not None and local.asked() else None

    def payload(self) -> dict[str, Any]:
        """Return the JSON object for the provider: with all stated defaults, without unset fields."""
        return self.model_dump(mode="json", exclude_none=True)

    def document(self) -> dict[str, Any]:
        """Return the JSON object from which `parse` makes an equal request: the payload, and `local`."""
        return self.payload() if self.local is None else {**self.payload(), "local": self.local.asked()}

    def is_preference(self, field: str) -> bool:
        """Return whether the value is unset or the default, so that a runner may adjust it."""
        info = type(self).model_fields[field]
        return not info.is_required() and getattr(self, field) in (info.default, None)

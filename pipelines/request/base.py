"""Defines what all kinds of request share: frozen, strict data within the limits of the provider."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .contracts import DESCRIPTIONS
from .limits import dated_limits, newest_limit

__all__ = ["StrictModel", "WanRequest"]


_BOUNDS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "number": ("minimum", "maximum"),
}


def _complete_schema(schema: dict[str, Any], model: type[Any]) -> None:
    """Add descriptions, the newest range, and all dated ranges as `x-limits` to a JSON Schema."""
    for field, entry in schema.get("properties", {}).items():
        entry["description"] = DESCRIPTIONS[field]
        limits = dated_limits(model.contract, field)
        if not limits:
            continue
        types = {arm.get("type") for arm in entry.get("anyOf", [entry])}
        names = next((_BOUNDS[name] for name in ("string", "array") if name in types), _BOUNDS["number"])
        for key, bound in zip(names, (limits[-1].min, limits[-1].max), strict=True):
            if bound is not None:
                entry[key] = bound
        if limits[-1].multiple_of is not None:
            entry["multipleOf"] = limits[-1].multiple_of
        entry["x-limits"] = [limit._asdict() for limit in limits]


class StrictModel(BaseModel):
    """Frozen data without conversion: "81" is not 81, true is not 1. Rejects NaN and unknown keys.

    A field without a published default is None until the user sets it, and is not sent while it is None.
    """

    model_config = ConfigDict(
        defer_build=True,  # most runs use one of nineteen kinds
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        json_schema_extra=_complete_schema,
        protected_namespaces=(),  # Novita has a field called model_name
    )

    contract: ClassVar[str]  # the published contract that this class mirrors

    @field_validator("*", mode="after")
    @classmethod
    def _can_be_written(cls, value: Any) -> Any:
        # JSON allows half a surrogate pair ("\ud800"), but no file, tokenizer or provider does.
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise PydanticCustomError("half_character", "half of a surrogate pair")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _within_newest_limit(cls, value: Any, info: ValidationInfo) -> Any:
        limit = newest_limit(cls.contract, info.field_name or "")
        if limit is not None and value is not None and not limit.allows(value):
            raise PydanticCustomError("out_of_range", "outside the range the provider allows")
        return value


class WanRequest(StrictModel):
    """What the user wants, in the words of the provider. `parse` makes one from data of unknown origin."""

    kind: ClassVar[str]  # for example "text-to-video"
    task: ClassVar[str]  # the kinds of a task share a node
    provider: ClassVar[str]
    endpoint: ClassVar[str]
    title: ClassVar[str]

    def payload(self) -> dict[str, Any]:
        """Return the JSON object for the provider: with all stated defaults, without unset fields."""
        return self.model_dump(mode="json", exclude_none=True)

    def is_preference(self, field: str) -> bool:
        """Return whether the value is unset or the default, so that a runner may adjust it."""
        info = type(self).model_fields[field]
        return not info.is_required() and getattr(self, field) in (info.default, None)

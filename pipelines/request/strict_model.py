"""Defines frozen, strict data within dated limits: what a request and every object in it are."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from .contracts import DESCRIPTIONS
from .limits import dated_limits, newest_limit

__all__ = ["StrictModel"]


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
        defer_build=True,  # most runs use one of all the kinds
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

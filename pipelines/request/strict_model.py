"""Defines frozen, strict data: what a request and every object in it are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic_core import PydanticCustomError, to_jsonable_python

from .contracts import described
from .limits import dated_limits

__all__ = ["UNREADABLE", "StrictModel", "as_json"]

UNREADABLE = "unreadable"  # the type of an error whose message says what would work


def _complete_schema(schema: dict[str, Any], model: type[Any]) -> None:
    """Add descriptions, and the dated limits of the provider as `x-limits`, to a JSON Schema."""
    for field, entry in schema.get("properties", {}).items():
        entry["description"] = described(model.contract, field)
        if limits := dated_limits(model.contract, field):
            entry["x-limits"] = {limits[-1].provider: [limit.as_dict() for limit in limits]}


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


def as_json(value: Any) -> Any:
    """Return a value of a request, and the models in it, as JSON values.

    pydantic 2.7 cannot do this itself for a model whose class is not built yet (`defer_build`); 2.14 can.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: as_json(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(entry) for entry in value]
    return to_jsonable_python(value)

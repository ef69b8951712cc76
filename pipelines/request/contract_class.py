"""Makes the classes of contracts: their fields, with type, default and bounds, from contracts.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, create_model

from .contracts import OBJECT_ENTRIES, is_open, physical_range
from .image_size import SizeOrPreset
from .lora_weight import LegacyLoRAWeight, LoRAWeight, NovitaLoRA
from .strict_model import StrictModel

__all__ = ["OBJECTS", "contract_class"]

_PLAIN: Mapping[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
_BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "pattern": "pattern"}  # in pydantic

OBJECTS: dict[str, type[StrictModel]] = {
    cls.contract: cls for cls in (LoRAWeight, LegacyLoRAWeight, NovitaLoRA)
}
"""{contract: class} of objects in fields: first those with checks of their own."""

_Model = TypeVar("_Model", bound=StrictModel)


def contract_class(entry: Mapping[str, Any], base: type[_Model]) -> type[_Model]:
    """Make the class of a contract, with its fields in their order."""
    fields: dict[str, Any] = {name: _field(name, field) for name, field in entry["fields"].items()}
    name, text = entry["contract"].removesuffix("_current"), entry["description"]
    cls = create_model(name, __base__=base, __module__=__name__, __doc__=text, **fields)
    cls.contract = entry["contract"]
    return cls


def _field(name: str, field: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return (type, default) for pydantic. Without a published default, a field is None until it is set."""
    bounds = {_BOUNDS[end]: value for end, value in physical_range(name, field).items()}
    if "pattern" in bounds:
        bounds["pattern"] += "".join(f"|^{word}$" for word in field["enum"] if word.isalpha())
    annotation, default = _annotation(name, field), field.get("default")
    if field.get("required"):
        default = ...
    elif default is None:
        annotation = annotation | None
    return annotation, Field(default, **bounds) if bounds else default


def _annotation(field_name: str, field: Mapping[str, Any]) -> Any:
    name: str = field["type"]
    if name == "ImageSize|enum":
        return SizeOrPreset
    if is_open(field_name, field):
        return _PLAIN["string" if name == "enum" else name]
    if "enum" in field:
        literal: Any = Literal
        return literal[tuple(field["enum"])]
    if name.startswith("array<"):
        item = _item(name.removeprefix("array<").removesuffix(">"))
        # Not strict for the container: JSON has lists, frozen data has tuples.
        return Annotated[tuple[item, ...], Field(strict=False)]  # type: ignore[valid-type]
    return _item(name)


def _item(name: str) -> Any:
    return _PLAIN.get(name) or OBJECTS[name]


for _entry in OBJECT_ENTRIES:
    OBJECTS[_entry["contract"]] = contract_class(_entry, StrictModel)

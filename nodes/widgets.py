"""Chooses a widget for each request field, and converts widget values to fields."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from ..pipelines.errors import RequestError
from ..pipelines.request import SEED_MAX, FieldRow, field_table, kinds_of, local_row, read_json, read_list
from ..pipelines.request.image_size import LONGEST_SIDE
from ..pipelines.request.local_settings import TEXT_FORMS

__all__ = [
    "CUSTOM",
    "PROVIDER_DEFAULT",
    "SWITCH",
    "UNSET",
    "Widget",
    "chosen",
    "fields_of",
    "local_chosen",
    "local_widgets",
    "sockets_of",
    "widgets",
]

PROVIDER_DEFAULT = "provider default"
UNSET = -1
CUSTOM = "custom"
_SOCKETS = 3  # of a list without a published length
_LATER = ("overlap_latents",)  # fields that are newer than their node: saved graphs are without them
_SMALLEST = 0.001  # above 0: what the digits of a widget can say
SWITCH = {"on": True, "off": False}
_CONTROLS = {
    "string": "STRING",
    "object": "STRING",
    "array<string>": "STRING",
    "array<number>": "STRING",
    "array<StageLoRA>": "STRING",
    "array<Phase>": "STRING",
    "array<PromptRange>": "STRING",
    "integer": "INT",
    "number": "FLOAT",
    "boolean": "BOOLEAN",
}
_LEFT = {"STRING": "", "INT": UNSET, "FLOAT": UNSET}  # what leaves a field to the provider


class Widget(NamedTuple):
    """One widget. type: "STRING", "INT", "FLOAT", "BOOLEAN" or "COMBO". `min` and `max` are included, None if
    open.

    optional: a graph may leave it out.
    """

    name: str
    type: str
    default: Any
    tooltip: str
    min: float | None = None
    max: float | None = None
    options: tuple[str | int, ...] = ()
    optional: bool = False


@cache
def fields_of(task: str) -> Mapping[str, FieldRow]:
    """Return the fields of all kinds of a task.

    Each is as the first kind has it that has it; what is valid on any machine is the same in all.
    """
    union: dict[str, FieldRow] = {}
    for cls in kinds_of(task):
        for row in field_table(cls.kind):
            union.setdefault(row.name, row)
    return union


def widgets(task: str, names: tuple[str, ...]) -> list[Widget]:
    """Return the widgets of these fields, in this order."""
    return [widget for name in names for widget in _widgets(fields_of(task)[name])]


def local_widgets() -> dict[str, Widget]:
    """Return {name: widget} of the settings of `local`, in order.

    A graph may leave them out, because a setting may be newer than the graph.
    """
    return {row.name: _local_widget(row) for row in local_row().fields}


def _local_widget(row: FieldRow) -> Widget:
    (widget,) = _widgets(row)
    unset = row.default is None and widget.default == UNSET
    tooltip = f"{row.description} {UNSET}: unset." if unset else _tooltip(row)
    return widget._replace(tooltip=tooltip, optional=True)


def local_chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert widget values to settings of `local`. Leaves out those at their defaults."""
    known, rows = local_widgets(), {row.name: row for row in local_row().fields}
    return {
        name: _list(name, value) if rows[name].type.startswith("array") else value
        for name, value in settings.items()
        if value != known[name].default
    }


def _list(name: str, text: str) -> Any:
    """Return the list of a JSON text. A setting that is also read from text keeps it."""
    if name in TEXT_FORMS and not text.lstrip().startswith("["):
        return text
    return read_list(f"local.{name}", text)


def sockets_of(row: FieldRow) -> dict[str, str]:
    """Return {socket: field} of a medium: image for image_url.

    Images of a list come as a batch at one socket; its videos and sounds have one each, for an entry such as
    video_urls[0].
    """
    if not row.is_list:
        return {row.name.removesuffix("_url"): row.name}
    base = row.name.removesuffix("_urls")
    if row.media == "image":
        return {f"{base}s": row.name}
    most = row.limits[-1].max if row.limits else None
    count = _SOCKETS if most is None else int(most)
    return {f"{base}_{index + 1}": f"{row.name}[{index}]" for index in range(count)}


def chosen(task: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert widget values to fields. Leaves out fields that the provider decides."""
    known = fields_of(task)
    values = {}
    for name, setting in settings.items():
        row = known.get(name)
        if row is None or _is_unset(row, setting):
            continue  # the sides of a custom image_size belong to it
        if row.type == "ImageSize|enum" and setting == CUSTOM:
            values[name] = {side.name: settings[side.name] for side in row.fields}
        elif row.type == "object":
            values[name] = _object(name, setting)
        elif row.is_list and row.media is not None:
            if lines := [line.strip() for line in setting.splitlines() if line.strip()]:
                values[name] = lines
        else:
            values[name] = SWITCH[setting] if _is_switch(row) else setting
    return values


def _widgets(row: FieldRow) -> list[Widget]:
    low, high = (None, None) if row.range is None else (row.range.min, row.range.max)
    unset = row.default is None and not row.required
    if row.name == "seed":
        low, high = (0, SEED_MAX) if row.range is None else (low, high)
        text = "Where the noise starts: the same seed and settings give the same result."
        return [Widget(row.name, "INT", 0, f"{text} -1 chooses a random one." if low else text, low, high)]
    if row.type == "ImageSize|enum":
        size = _combo(row, (*(row.enum or ()), CUSTOM), unset)
        return [size, *(_side(side) for side in row.fields)]
    if choices := row.enum or row.offered:
        return [_combo(row, choices, unset)]
    if _is_switch(row):
        return [_combo(row, tuple(SWITCH), unset)]
    kind = _CONTROLS[row.type]
    if kind == "STRING":
        return [Widget(row.name, kind, row.default or "", _tooltip(row), optional=row.media is not None)]
    if row.range is not None and row.range.above:
        low = _SMALLEST
    if unset:
        low = UNSET if low is None else min(UNSET, low)
    default = UNSET if unset else row.default
    return [Widget(row.name, kind, default, _tooltip(row), low, high)]


def _combo(row: FieldRow, options: tuple[str | int, ...], unset: bool) -> Widget:
    """Return the choices of a field. A required one without a default starts with the first."""
    options = (PROVIDER_DEFAULT, *options) if unset else options
    default = options[0] if row.default is None else row.default
    return Widget(row.name, "COMBO", default, row.description, options=options, optional=row.name in _LATER)


def _side(row: FieldRow) -> Widget:
    text = f"{row.description} Only for the image size {CUSTOM}."
    return Widget(row.name, "INT", row.default, text, 1, LONGEST_SIDE)


def _tooltip(row: FieldRow) -> str:
    if row.media is not None:
        each = " One URL or file a line." if row.is_list else ""
        return f"{row.description}{each} Leave empty when {next(iter(sockets_of(row)))} is connected."
    if row.type == "object":
        return f"{row.description} A JSON object, such as {row.wanted()}; empty for none."
    if row.type.startswith("array"):
        return f"{row.description} In JSON: {row.wanted()}; empty for none."
    if row.default is None and row.type in ("integer", "number"):
        return f"{row.description} {UNSET} leaves it to the provider."
    return row.description


def _is_switch(row: FieldRow) -> bool:
    """Return whether a field needs three positions: a checkbox cannot leave it to the provider."""
    return row.type == "boolean" and row.default is None


def _is_unset(row: FieldRow, setting: Any) -> bool:
    if row.default is not None or (row.required and row.media is None):
        return False
    return bool(setting == _LEFT.get(_CONTROLS.get(row.type, ""), PROVIDER_DEFAULT))


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        return read_json(text)
    except RequestError as error:
        (problem,) = error.problems
        raise RequestError.of(name, problem.found, problem.fix) from None

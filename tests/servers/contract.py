"""Whether a provider would take a body: every parameter checked against the contract, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "requests.json").read_text(encoding="utf-8"))
_TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict}


class Fault(NamedTuple):
    """One thing wrong: `loc` as in FastAPI's answers ("body", "loras", 0, "path")."""

    loc: tuple[str | int, ...]
    kind: str
    message: str


def entries_of(provider: str, endpoint: str) -> list[dict[str, Any]]:
    """The contracts of an endpoint: some have an older and a newer page."""
    return [
        entry
        for name, entry in _CONTRACT.items()
        if name[0] != "_" and entry["provider"] == provider and entry["endpoint"] == endpoint
    ]


def faults_in(provider: str, endpoint: str, body: object) -> list[Fault]:
    """What is wrong with `body`, by the contract of the endpoint that is nearest to it."""
    if not isinstance(body, dict):
        return [Fault(("body",), "dict_type", "Input should be a valid dictionary")]
    found = [list(_of_entry(entry, body)) for entry in entries_of(provider, endpoint)]
    return min(found, key=len)


def _of_entry(entry: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[Fault]:
    parameters = {**entry["params"], **entry.get("public_extra_params", {})}
    flat = dict(_flattened(body)) if entry.get("body_layout", "").startswith("nested") else body
    yield from _of_object(parameters, flat, ("body",))
    pairs = parameters.get("height", {}).get("pairs")
    if pairs and "width" in flat and [flat["width"], flat.get("height")] not in pairs:
        yield Fault(("body", "height"), "size_pair", f"width and height should be one of {pairs}")


def _flattened(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """{"input": {"prompt": ...}} as the contract names it: "input.prompt"."""
    for group, values in body.items():
        if group in ("input", "parameters") and isinstance(values, dict):
            yield from ((f"{group}.{name}", value) for name, value in values.items())
        else:
            yield group, values


def _of_object(
    parameters: Mapping[str, Any], body: Mapping[str, Any], at: tuple[str | int, ...]
) -> Iterator[Fault]:
    for name, value in body.items():
        if name not in parameters:
            yield Fault((*at, name), "extra_forbidden", "Extra inputs are not permitted")
        else:
            yield from _of_value(parameters[name], value, (*at, name))
    for name, parameter in parameters.items():
        if parameter.get("required") and name not in body:
            yield Fault((*at, name), "missing", "Field required")


def _of_value(parameter: Mapping[str, Any], value: Any, at: tuple[str | int, ...]) -> Iterator[Fault]:
    kind = parameter.get("type", "object")
    if kind == "ImageSize|enum":
        size = dict(_CONTRACT["_types"]["ImageSize"])
        presets = size.pop("_presets")
        if isinstance(value, dict):
            yield from _of_object(size, value, at)
            return
        kind, parameter = "string", {"enum": presets}
    if kind == "enum":
        kind = "string"
    if kind.startswith("array<"):
        yield from _of_list(parameter, kind[6:-1], value, at)
        return
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield Fault(at, f"{kind}_type", f"Input should be a valid {kind}")
        return
    if parameter.get("enum") and value not in parameter["enum"]:
        yield Fault(at, "literal_error", f"Input should be one of {parameter['enum']}")
    newest = {**parameter, **parameter.get("public", {})}
    size = len(value) if isinstance(value, str) else value
    low, high = newest.get("min_length", newest.get("min")), newest.get("max_length", newest.get("max"))
    if kind in ("string", "integer", "number"):
        if low is not None and size < low:
            yield Fault(at, "greater_than_equal", f"Input should be greater than or equal to {low}")
        if high is not None and size > high:
            yield Fault(at, "less_than_equal", f"Input should be less than or equal to {high}")
        if parameter.get("multiple_of") and size % parameter["multiple_of"]:
            yield Fault(at, "multiple_of", f"Input should be a multiple of {parameter['multiple_of']}")


def _of_list(
    parameter: Mapping[str, Any], item: str, value: Any, at: tuple[str | int, ...]
) -> Iterator[Fault]:
    if not isinstance(value, list):
        yield Fault(at, "list_type", "Input should be a valid list")
        return
    if len(value) < parameter.get("min_items", 0):
        yield Fault(at, "too_short", f"List should have at least {parameter['min_items']} items")
    if parameter.get("max_items") is not None and len(value) > parameter["max_items"]:
        yield Fault(at, "too_long", f"List should have at most {parameter['max_items']} items")
    fields = parameter.get("items") or _CONTRACT["_types"].get(item)
    for index, entry in enumerate(value):
        if fields is None:  # plain numbers or words
            yield from _of_value({"type": item}, entry, (*at, index))
            continue
        if isinstance(entry, dict):
            yield from _of_object(fields, entry, (*at, index))
        else:
            yield Fault((*at, index), "dict_type", "Input should be a valid dictionary")


def files_that_cannot_be_had(body: Mapping[str, Any], has: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """What fal answers about the files that a body names. has: whether there is a file at an address."""
    loras = enumerate(body.get("loras") or ())
    named = [(["body", name], value) for name, value in body.items() if name.endswith("_url")]
    lists = [(name, value) for name, value in body.items() if name.endswith("_urls")]
    named += [(["body", name, at], address) for name, value in lists for at, address in enumerate(value)]
    named += [(["body", "loras", index, "path"], lora["path"]) for index, lora in loras if _is_no_name(lora)]
    for loc, address in named:
        if not has(address):
            yield {"loc": loc, "msg": "cannot be read", "type": "file_download_error"}


def _is_no_name(lora: Mapping[str, Any]) -> bool:
    """Whether its path is anything but a repository (owner/name)."""
    path = lora["path"]
    return "://" in path or path.count("/") != 1 or path.startswith((".", "/", "sha256:")) or "\\" in path

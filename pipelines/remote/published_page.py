"""Reads the input fields of an endpoint from the page that its provider publishes for programs.

fal:    https://fal.ai/models/ENDPOINT/llms.txt, made from the same data as its API. A field is a list item
        with name, type and _required_ or _optional_; lines `- Default:`, `- Options:` and `- Range:` follow.
Novita: the Markdown form of a page of its documentation, where a field is a <ParamField>. Defaults, choices
        and ranges are prose there, so only names and which are required can be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PageError", "Published", "PublishedField", "page_address", "read_page"]

_FIELD = re.compile(r"^- \*\*`(\w+)`\*\* \(`([^`]+)`, _(required|optional)_\)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^  - (Default|Options|Range): (.+)$", re.MULTILINE)
_MODEL_ID = re.compile(r"^- \*\*Model ID\*\*: `([^`]+)`", re.MULTILINE)
_PARAMETER = re.compile(r"</ParamField>|<ParamField\s+\w+=\"([\w-]+)\"([^>]*)>")
_WRAPPERS = {"input", "parameters"}  # objects of a Novita body that only group its fields
_ADDRESS = re.compile(r"https://api\.novita\.ai/v3/async/[\w.-]+")


class PageError(Exception):
    """A page that holds no list of fields, with what it holds instead."""


@dataclass(frozen=True)
class PublishedField:
    """One input field. None where the page does not say.

    type: as in our tables: string, integer, number, boolean, enum, array or the name of an object.
    """

    required: bool
    type: str | None = None
    default: Any = None
    options: frozenset[str] | None = None
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Published:
    """What a page says. endpoint: the one it is about, as contracts name it."""

    endpoint: str
    fields: Mapping[str, PublishedField]


def page_address(endpoint: str) -> str:
    """Return the address of the page about an endpoint of the contracts."""
    if endpoint.startswith("POST "):
        name = endpoint.rpartition("/")[2]
        return f"https://novita.ai/docs/api-reference/model-apis-{name}.md"
    return f"https://fal.ai/models/{endpoint}/llms.txt"


def read_page(text: str) -> Published:
    """Return the endpoint and the input fields that a page describes. Raises PageError if it has none."""
    if re.match(r"\s*<(!doctype|html)", text, re.IGNORECASE):
        raise PageError("the page is HTML, not a description of fields")
    if named := _MODEL_ID.search(text):
        inputs = text.partition("### Input Schema")[2].partition("### Output Schema")[0]
        found = Published(named[1], dict(_fal_fields(inputs)))
    elif "<ParamField" in text and (named := _ADDRESS.search(text)):
        found = Published(f"POST {named[0]}", dict(_novita_fields(text.partition("## Request Body")[2])))
    else:
        raise PageError("the page has no list of input fields that is known here")
    if not found.fields:
        raise PageError("the page lists no input fields")
    return found


def _fal_fields(inputs: str) -> Iterator[tuple[str, PublishedField]]:
    fields = list(_FIELD.finditer(inputs))
    ends = [field.start() for field in fields[1:]] + [len(inputs)]
    for field, end in zip(fields, ends, strict=False):  # without fields there is one end
        said = dict(_ATTRIBUTE.findall(inputs[field.end() : end]))
        options = re.findall(r'"([^"]*)"', said.get("Options", ""))
        ends_of_range = re.findall(r"`([^`]+)`", said.get("Range", ""))
        yield (
            field[1],
            PublishedField(
                required=field[3] == "required",
                type=_type(field[2]),
                default=_value(said["Default"]) if "Default" in said else None,
                options=frozenset(options) or None,
                range=(float(ends_of_range[0]), float(ends_of_range[1])) if len(ends_of_range) == 2 else None,
            ),
        )


def _novita_fields(body: str) -> Iterator[tuple[str, PublishedField]]:
    """Fields of the body itself: not those of objects in it, nor of the answer that follows."""
    parents: list[str] = []
    for tag in _PARAMETER.finditer(body.partition("## Response")[0]):
        if tag[1] is None:
            parents = parents[:-1]
            continue
        if tag[1] not in _WRAPPERS and _WRAPPERS.issuperset(parents):
            yield tag[1], PublishedField(required="required={true}" in tag[2])
        parents.append(tag[1])


def _type(stated: str) -> str:
    if stated.startswith("list<"):
        return "array"
    if "|" in stated:
        return stated.replace(" ", "").replace("Enum", "enum")
    return {"float": "number"}.get(stated, "enum" if stated.endswith("Enum") else stated)


def _value(stated: str) -> Any:
    try:
        return json.loads(stated.strip().strip("`"))
    except ValueError:
        return stated

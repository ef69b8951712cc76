"""Every parameter of every published contract equals the field that this pack has for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request import (
    KINDS,
    SENDABLE,
    ImageSize,
    LegacyLoRAWeight,
    LoRAWeight,
    WanRequest,
    class_of,
    describe_kinds,
    field_table,
    json_schema,
    parse,
)
from wan_duet.pipelines.request.contracts import ALIASES
from wan_duet.pipelines.request.field_rows import FieldRow, field_rows
from wan_duet.pipelines.request.image_size import PRESETS
from wan_duet.pipelines.request.kinds import TRAININGS
from wan_duet.pipelines.request.limits import dated_limits
from wan_duet.pipelines.request.local_rules import LOCAL_RULES
from wan_duet.pipelines.request.novita_words import SIZE_PAIRS
from wan_duet.pipelines.request.shots_request import SHOTS

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "requests.json").read_text(encoding="utf-8"))
# What this test compares, and what is prose. A key it does not know must be taught to it, not passed over.
COMPARED = {"type", "required", "default", "default_stated", "min", "max", "enum", "multiple_of", "public"}
SIZED = {"min_length", "max_length", "min_items", "max_items"}  # the range of a text or a list
NESTED = {"items", "properties"}
ELSEWHERE = {"pairs"}  # test_novita_sizes_are_the_contract_s
PROSE = {"doc", "source", "name_source", "name_inferred"}


def parameters(contract: str) -> dict[str, dict[str, Any]]:
    """The parameters of the entry, with those that only a newer public source names."""
    entry = CONTRACT[contract]
    return {**entry["params"], **entry.get("public_extra_params", {})}


def class_for(contract: str) -> type[WanRequest]:
    """The class of a contract; that of an older page of an endpoint is the class of the newer one."""
    older = {alias["contract"]: name for name, alias in ALIASES.items()}
    trainings = {cls.contract: cls for cls in TRAININGS.values()}
    return class_of(older[contract]) if contract in older else {**SENDABLE, **trainings}[contract]


def stated_range(parameter: dict[str, Any]) -> tuple[Any, Any]:
    """(min, max) as the seed page states them, of the value or of its length."""
    low = parameter.get("min_length", parameter.get("min_items", parameter.get("min")))
    return low, parameter.get("max_length", parameter.get("max_items", parameter.get("max")))


def differences(row: FieldRow, parameter: dict[str, Any], extra: bool, default: Any) -> Iterator[str]:
    """What `row` says otherwise than the page. default: of the field as this contract fills it in."""
    row = row.as_stated()
    newer = parameter.get("public", {})
    # A default that only the crawl names is not stated by the provider's page: the field stays unset.
    stated = parameter.get("default_stated", False) and not extra
    low, high = stated_range(parameter)
    newest = newer.get("min", low), newer.get("max", high)
    # Novita's page calls a choice of words text, fal's calls it an enum.
    words = parameter["type"] == "string" and parameter.get("enum")
    wanted = {
        "keys that are not compared": set(),
        "type": "enum" if words else parameter["type"],
        # What is required and has a default is filled in; test_what_is_required_is_always_sent.
        "required": parameter["required"] and not stated,
        "default": parameter["default"] if stated else None,
        "enum": tuple(parameter["enum"]) if parameter.get("enum") else None,
        "range": None if newest == (None, None) else newest,
        "multiple of": parameter.get("multiple_of"),
        "has a description": True,
    }
    found = {
        "keys that are not compared": set(parameter) - (COMPARED | SIZED | NESTED | ELSEWHERE | PROSE),
        "type": row.type,
        "required": row.required,
        "default": list(default) if isinstance(default, tuple) else default,
        "enum": row.enum,
        "range": None if row.range is None else (row.range.min, row.range.max),
        "multiple of": multiple_of(row),
        "has a description": bool(row.description),
    }
    for what, value in found.items():
        if value != wanted[what]:
            yield f"{row.name}: {what} {value!r}, the page has {wanted[what]!r}"
    yield from differences_inside(row, parameter)


def multiple_of(row: FieldRow) -> int | None:
    return row.limits[-1].multiple_of if row.limits else None


def differences_inside(row: FieldRow, parameter: dict[str, Any]) -> Iterator[str]:
    nested = parameter.get("items") or parameter.get("properties")
    if nested is None:
        return
    if {inner.name for inner in row.fields} != set(nested):
        yield f"{row.name}: fields {[inner.name for inner in row.fields]}, the page has {list(nested)}"
    for inner in row.fields:
        entry = nested.get(inner.name, {})
        if "type" in entry:
            yield from differences(inner, entry, False, inner.default)
        elif inner.type != "object":  # an object is written as its fields
            yield f"{inner.name}: {inner.type}, the page has an object"
        else:
            yield from differences_inside(inner, {"properties": entry})


def unkept_limits(cls: type[WanRequest], name: str, parameter: dict[str, Any]) -> Iterator[str]:
    """Published ranges that are not among those of the field."""
    known = {(limit.min, limit.max) for limit in dated_limits(cls.contract, name)}
    newer, stated = parameter.get("public", {}), stated_range(parameter)
    expected = set() if stated == (None, None) else {stated}
    if "min" in newer or "max" in newer:
        expected.add((newer.get("min", stated[0]), newer.get("max", stated[1])))
    if expected - known:
        yield f"{name}: the page has the ranges {expected}, known are {known}"


UNASKED = (
    "NovitaWan21T2VRequest_current"  # the page of 2026-11 of an endpoint that is asked in its older words
)
EVERY_CONTRACT = [name for name in CONTRACT if name[0] != "_" and name != UNASKED]


@pytest.mark.parametrize("contract", EVERY_CONTRACT)
def test_every_parameter_of_the_contract_equals_its_field(contract: str) -> None:
    cls, own = class_for(contract), CONTRACT[contract]["params"]
    defaults = next((alias["defaults"] for alias in ALIASES.values() if alias["contract"] == contract), {})
    # The two groups of Novita's Wan 2.2 are made when a request is sent.
    nested = CONTRACT[contract].get("body_layout", "").startswith("nested")
    table, wrong = {row.name: row for row in field_rows(cls)}, []
    for name, parameter in parameters(contract).items():
        bare = name.partition(".")[2] if nested else name
        if bare not in table:
            wrong.append(f"{name}: there is no such field")
            continue
        row = table[bare]
        wrong += differences(row, parameter, name not in own, defaults.get(bare, row.default))
        wrong += unkept_limits(cls, bare, parameter)
    assert wrong == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_has_a_range_that_no_page_states(kind: str) -> None:
    cls = KINDS[kind]
    for name, parameter in parameters(cls.contract).items():
        newer, stated = parameter.get("public", {}), stated_range(parameter)
        published = {stated, (newer.get("min", stated[0]), newer.get("max", stated[1]))} - {(None, None)}
        of_field = dated_limits(cls.contract, name)
        assert {(limit.min, limit.max) for limit in of_field if not limit.choices} <= published


def test_every_entry_that_a_page_was_given_for_has_a_kind() -> None:
    classes = (*KINDS.values(), *TRAININGS.values())
    named = {cls.contract for cls in classes} | {alias["contract"] for alias in ALIASES.values()}
    with_page = {
        name for name, entry in CONTRACT.items() if name[0] != "_" and entry["seed_file"] is not None
    }
    assert named == with_page


def arms(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that a value may match, of any depth of unions."""
    unions = entry.get("anyOf", []) + entry.get("oneOf", [])
    for arm in unions:
        yield from arms(arm)
    if not unions:
        yield entry


def bounds(entry: dict[str, Any], *names: str) -> tuple[Any, ...]:
    """The values under these names, of the schema or of its only arm that is not null."""
    (arm,) = [arm for arm in arms(entry) if arm.get("type") != "null"]
    return tuple(map(arm.get, names))


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_at_its_provider_says_what_the_page_says(kind: str) -> None:
    schema = json_schema(kind, KINDS[kind].provider)
    contract = CONTRACT[KINDS[kind].contract]
    assert set(schema["properties"]) == {row.name for row in field_table(kind)}
    assert "LocalSettings" not in schema.get("$defs", {})
    for row in (row.as_stated() for row in field_table(kind)):
        entry = schema["properties"][row.name]
        names = ("minimum", "maximum")
        if row.type == "string":
            names = ("minLength", "maxLength")
        elif row.type.startswith("array"):
            names = ("minItems", "maxItems")
        if row.type not in ("enum", "object", "ImageSize|enum") and row.enum is None:
            ends = (None, None) if row.range is None else (row.range.min, row.range.max)
            assert bounds(entry, *names) == ends
            assert bounds(entry, "multipleOf", "exclusiveMinimum", "pattern") == (
                multiple_of(row),
                None,
                None,
            )
        assert (row.name in schema.get("required", [])) == row.required
        choices = [arm["const"] for arm in arms(entry) if "const" in arm]
        choices += [choice for arm in arms(entry) for choice in arm.get("enum", ())]
        assert tuple(dict.fromkeys(choices)) == (row.enum or ())  # older pydantic writes a single one twice
        if row.enum is None:
            types = {"object" if "$ref" in arm else arm["type"] for arm in arms(entry)}
            assert types - {"null"} == {row.type.split("<")[0]}
        if not row.required:
            assert entry["default"] == (list(row.default) if isinstance(row.default, tuple) else row.default)
    assert set(schema["properties"]) >= set(contract["params"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_of_a_request_has_the_ranges_of_any_machine_and_the_dated_ones_per_provider(
    kind: str,
) -> None:
    schema, provider = json_schema(kind), KINDS[kind].provider
    for row in field_table(kind):
        entry = schema["properties"][row.name]
        limits = entry.get("x-limits", {})
        assert limits == ({provider: [limit.as_dict() for limit in row.limits]} if row.limits else {})
        if row.range is not None:
            low = "exclusiveMinimum" if row.range.above else "minimum"
            assert bounds(entry, low, "maximum") == (row.range.min, row.range.max)
    assert "local" in schema["properties"]


def test_the_schema_of_another_provider_is_refused() -> None:
    with pytest.raises(RequestError, match="novita states no schema of text-to-video; give fal, or local"):
        json_schema("text-to-video", "novita")


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_the_parameters_and_in_their_order(kind: str) -> None:
    names = [row.name for row in field_table(kind)]
    assert set(names) == set(parameters(KINDS[kind].contract))
    own = list(CONTRACT[KINDS[kind].contract]["params"])
    assert [name for name in names if name in own] == own


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_required_is_always_sent_and_what_is_unset_never(kind: str) -> None:
    values = {"string": "a", "integer": 0, "array<string>": ["a"]}
    needed = {
        row.name: row.enum[-1] if row.enum else values[row.type] for row in field_table(kind) if row.required
    }
    sent = parse(kind, {**needed, "height": 480, "width": 832} if "width" in needed else needed).payload()
    contract = CONTRACT[KINDS[kind].contract]["params"]
    stated = {name for name, parameter in contract.items() if parameter["default_stated"]}
    required = {name for name, parameter in contract.items() if parameter["required"]}
    assert set(sent) == stated | required


@pytest.mark.parametrize(
    "entry", [entry for entry in describe_kinds() if entry["kind"] != SHOTS], ids=lambda entry: entry["kind"]
)
def test_endpoint_and_provider_are_the_contract_s(entry: dict[str, str]) -> None:
    assert set(entry) == {"kind", "contract", "task", "provider", "endpoint", "title"}
    assert entry["provider"] == CONTRACT[entry["contract"]]["provider"]
    assert entry["endpoint"] == CONTRACT[entry["contract"]]["endpoint"]


@pytest.mark.parametrize("cls", [LoRAWeight, LegacyLoRAWeight, ImageSize], ids=lambda cls: cls.contract)
def test_type_equals_the_contract_s(cls: Any) -> None:
    entry = {name: value for name, value in CONTRACT["_types"][cls.contract].items() if name[0] != "_"}
    table = field_rows(cls)
    assert [row.name for row in table] == list(entry)
    assert [text for row in table for text in differences(row, entry[row.name], False, row.default)] == []


def test_size_presets_are_the_contract_s() -> None:
    assert list(PRESETS) == CONTRACT["_types"]["ImageSize"]["_presets"]


@pytest.mark.parametrize(
    "contract", ["NovitaWan21I2VRequest_current", "NovitaWan22T2VRequest", "NovitaWan22I2VRequest"]
)
def test_what_is_only_said_to_novita_is_sent_as_its_contract_groups_it(contract: str) -> None:
    cls, entry = SENDABLE[contract], CONTRACT[contract]
    assert (cls.provider, cls.endpoint) == ("novita", entry["endpoint"])
    assert [row.name for row in field_rows(cls)] == [name.rpartition(".")[2] for name in entry["params"]]
    words = {"string": "a", "integer": 7, "number": 1.0, "boolean": True, "array<NovitaLoRA>": []}
    every = {
        row.name: row.enum[0] if row.enum else words[row.type]
        for row in field_rows(cls)
        if row.type != "object"
    }
    every |= {"width": 832, "height": 480} if "width" in every else {}
    sent = cls.model_validate(every).payload()
    flat = {
        f"{name}.{inner}" if name in ("input", "parameters") else name
        for name, value in sent.items()
        for inner in (value if name in ("input", "parameters") else [""])
    }
    assert flat == {name for name in entry["params"] if name != "extra"}


def test_novita_sizes_are_the_contract_s() -> None:
    assert [list(pair) for pair in SIZE_PAIRS] == CONTRACT["NovitaWan21T2VRequest"]["params"]["height"][
        "pairs"
    ]


def test_limits_are_in_the_order_of_their_dates() -> None:
    rows = [(kind, row) for kind in KINDS for row in field_table(kind)]
    days = {(kind, row.name): [limit.as_of for limit in row.limits] for kind, row in rows}
    assert days == {
        field: sorted(of_field, key=lambda day: (not day.startswith("before"), day))
        for field, of_field in days.items()
    }


def test_every_field_and_no_other_has_a_local_meaning() -> None:
    assert set(LOCAL_RULES) == {row.name for kind in KINDS for row in field_table(kind)}

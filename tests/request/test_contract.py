"""Every parameter of the contract equals the field of its class. Driven by KINDS, so new kinds come along."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.request import (
    KINDS,
    File,
    ImageSize,
    LegacyLoRAWeight,
    LoRAWeight,
    NovitaWan21I2VRequest,
    NovitaWan22I2VRequest,
    NovitaWan22T2VRequest,
    describe_kinds,
    field_table,
    json_schema,
    parse,
)
from wan_duet.pipelines.request.image_size import PRESETS
from wan_duet.pipelines.request.limits import dated_limits
from wan_duet.pipelines.request.local_rules import LOCAL_RULES
from wan_duet.pipelines.request.novita import SIZE_PAIRS
from wan_duet.pipelines.request.rows import FieldRow, rows

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "requests.json").read_text(encoding="utf-8"))
# What this test compares, and what is prose. A key it does not know must be taught to it, not passed over.
COMPARED = {"type", "required", "default", "default_stated", "min", "max", "enum", "multiple_of", "public"}
SIZED = {"min_length", "max_length", "max_items"}  # the range of a text or a list
NESTED = {"items", "properties"}
ELSEWHERE = {"pairs"}  # test_novita_sizes_are_the_contract_s
PROSE = {"doc", "source", "name_source", "name_inferred"}


def parameters(contract: str) -> dict[str, dict[str, Any]]:
    """The parameters of the entry, with those that only a newer public source names."""
    entry = CONTRACT[contract]
    return {**entry["params"], **entry.get("public_extra_params", {})}


def every_parameter() -> list[Any]:
    return [
        pytest.param(kind, name, parameter, id=f"{kind}-{name}")
        for kind, cls in KINDS.items()
        for name, parameter in parameters(cls.contract).items()
    ]


def row_of(kind: str, name: str) -> FieldRow:
    return next(row for row in field_table(kind) if row.name == name)


def stated_range(parameter: dict[str, Any]) -> tuple[Any, Any]:
    """(min, max) as the seed page states them, of the value or of its length."""
    low = parameter.get("min_length", parameter.get("min"))
    return low, parameter.get("max_length", parameter.get("max_items", parameter.get("max")))


def assert_same(row: FieldRow, parameter: dict[str, Any], extra: bool) -> None:
    assert set(parameter) <= COMPARED | SIZED | NESTED | ELSEWHERE | PROSE
    newer = parameter.get("public", {})
    # A default that only the crawl names is not stated by the provider's page: the field stays unset.
    stated = parameter.get("default_stated", False) and not extra
    low, high = stated_range(parameter)
    newest = newer.get("min", low), newer.get("max", high)
    # Novita's page calls a choice of words text, fal's calls it an enum.
    words = parameter["type"] == "string" and parameter.get("enum")
    assert row.type == ("enum" if words else parameter["type"])
    # What is required and has a default is filled in by the class; test_what_is_required_is_always_sent.
    assert row.required == (parameter["required"] and not stated)
    assert (list(row.default) if isinstance(row.default, tuple) else row.default) == (
        parameter["default"] if stated else None
    )
    assert row.enum == (tuple(parameter["enum"]) if parameter.get("enum") else None)
    assert row.range == (None if newest == (None, None) else newest)
    assert row.multiple_of == parameter.get("multiple_of")
    assert row.description
    assert_same_inside(row, parameter)


def assert_same_inside(row: FieldRow, parameter: dict[str, Any]) -> None:
    nested = parameter.get("items") or parameter.get("properties")
    if nested is None:
        return
    assert {inner.name for inner in row.fields} == set(nested)
    for inner in row.fields:
        entry = nested[inner.name]
        if "type" in entry:
            assert_same(inner, entry, extra=False)
        else:  # an object is written as its fields
            assert inner.type == "object"
            assert_same_inside(inner, {"properties": entry})


@pytest.mark.parametrize("contract", [name for name in CONTRACT if name[0] != "_"])
def test_every_entry_that_a_page_was_given_for_has_a_kind(contract: str) -> None:
    has_kind = contract in {cls.contract for cls in KINDS.values()}
    assert has_kind == (CONTRACT[contract]["seed_file"] is not None)


@pytest.mark.parametrize(("kind", "name", "parameter"), every_parameter())
def test_parameter_equals_field(kind: str, name: str, parameter: dict[str, Any]) -> None:
    assert_same(row_of(kind, name), parameter, extra=name not in CONTRACT[KINDS[kind].contract]["params"])


def arms(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that a value may match, of any depth of unions."""
    unions = entry.get("anyOf", []) + entry.get("oneOf", [])
    for arm in unions:
        yield from arms(arm)
    if not unions:
        yield entry


@pytest.mark.parametrize("kind", KINDS)
def test_json_schema_says_the_same(kind: str) -> None:
    schema = json_schema(kind)
    contract = CONTRACT[KINDS[kind].contract]
    for row in field_table(kind):
        entry = schema["properties"][row.name]
        bounds = ("minimum", "maximum")
        if row.type == "string":
            bounds = ("minLength", "maxLength")
        elif row.type.startswith("array"):
            bounds = ("minItems", "maxItems")
        assert tuple(map(entry.get, bounds)) == (row.range or (None, None))
        assert entry.get("multipleOf") == row.multiple_of
        assert (row.name in schema.get("required", [])) == row.required
        choices = [arm["const"] for arm in arms(entry) if "const" in arm]
        choices += [choice for arm in arms(entry) for choice in arm.get("enum", ())]
        assert tuple(dict.fromkeys(choices)) == (row.enum or ())  # older pydantic writes a single one twice
        if row.enum is None:
            types = {"object" if "$ref" in arm else arm["type"] for arm in arms(entry)}
            assert types - {"null"} == {row.type.split("<")[0]}
        if not row.required:
            assert entry["default"] == (list(row.default) if isinstance(row.default, tuple) else row.default)
        if row.range is not None:
            assert entry["x-limits"] == [limit._asdict() for limit in row.limits]
    assert set(schema["properties"]) >= set(contract["params"])


@pytest.mark.parametrize(("kind", "name", "parameter"), every_parameter())
def test_every_published_limit_is_kept(kind: str, name: str, parameter: dict[str, Any]) -> None:
    known = {(limit.min, limit.max) for limit in dated_limits(KINDS[kind].contract, name)}
    newer, stated = parameter.get("public", {}), stated_range(parameter)
    expected = set() if stated == (None, None) else {stated}
    if "min" in newer or "max" in newer:
        expected.add((newer.get("min", stated[0]), newer.get("max", stated[1])))
    assert known == expected


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_the_parameters_and_in_their_order(kind: str) -> None:
    names = [row.name for row in field_table(kind)]
    assert set(names) == set(parameters(KINDS[kind].contract))
    own = list(CONTRACT[KINDS[kind].contract]["params"])
    assert [name for name in names if name in own] == own


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_required_is_always_sent_and_what_is_unset_never(kind: str) -> None:
    values = {"string": "a", "integer": 0}
    needed = {
        row.name: row.enum[-1] if row.enum else values[row.type] for row in field_table(kind) if row.required
    }
    sent = parse(kind, {**needed, "height": 480, "width": 832} if "width" in needed else needed).payload()
    contract = CONTRACT[KINDS[kind].contract]["params"]
    stated = {name for name, parameter in contract.items() if parameter["default_stated"]}
    required = {name for name, parameter in contract.items() if parameter["required"]}
    assert set(sent) == stated | required


@pytest.mark.parametrize("entry", describe_kinds(), ids=lambda entry: entry["kind"])
def test_endpoint_and_provider_are_the_contract_s(entry: dict[str, str]) -> None:
    assert set(entry) == {"kind", "contract", "task", "provider", "endpoint", "title"}
    assert entry["provider"] == CONTRACT[entry["contract"]]["provider"]
    assert entry["endpoint"] == CONTRACT[entry["contract"]]["endpoint"]


@pytest.mark.parametrize("cls", [LoRAWeight, LegacyLoRAWeight, ImageSize], ids=lambda cls: cls.contract)
def test_type_equals_the_contract_s(cls: Any) -> None:
    entry = {name: value for name, value in CONTRACT["_types"][cls.contract].items() if name[0] != "_"}
    table = rows(cls)
    assert [row.name for row in table] == list(entry)
    for row in table:
        assert_same(row, entry[row.name], extra=False)


def test_size_presets_are_the_contract_s() -> None:
    assert list(PRESETS) == CONTRACT["_types"]["ImageSize"]["_presets"]


def test_what_is_only_said_to_novita_equals_its_contract() -> None:
    contract = CONTRACT[NovitaWan21I2VRequest.contract]
    table = rows(NovitaWan21I2VRequest)
    assert [row.name for row in table] == list(contract["params"])
    assert (NovitaWan21I2VRequest.provider, NovitaWan21I2VRequest.endpoint) == (
        "novita",
        contract["endpoint"],
    )
    for row in table:
        assert_same(row, contract["params"][row.name], extra=False)


@pytest.mark.parametrize("cls", [NovitaWan22T2VRequest, NovitaWan22I2VRequest], ids=lambda cls: cls.contract)
def test_what_is_said_to_novita_s_newer_model_equals_its_contract_in_its_groups(cls: Any) -> None:
    contract = CONTRACT[cls.contract]
    assert (cls.provider, cls.endpoint) == ("novita", contract["endpoint"])
    nested = {name.partition(".")[2]: parameter for name, parameter in contract["params"].items()}
    table = rows(cls)
    assert [row.name for row in table] == list(nested)
    for row in table:
        assert_same(row, nested[row.name], extra=False)
    words = {"string": "a", "integer": 7, "boolean": True, "enum": None, "array<NovitaLoRA>": []}
    every = {row.name: row.enum[0] if row.enum else words[row.type] for row in table}
    sent = cls.model_validate(every).payload()
    assert {f"{group}.{name}" for group, values in sent.items() for name in values} == set(contract["params"])


def test_novita_sizes_are_the_contract_s() -> None:
    assert [list(pair) for pair in SIZE_PAIRS] == CONTRACT["NovitaWan21T2VRequest"]["params"]["height"][
        "pairs"
    ]


def test_file_has_the_fields_of_the_contract_and_takes_more() -> None:
    required = {name: info.is_required() for name, info in File.model_fields.items()}
    assert required == {name: entry["required"] for name, entry in CONTRACT["_types"]["File"].items()}
    assert File.model_validate({"url": "https://a/b.mp4", "file_size": 3, "new": 1}).file_size == 3


@pytest.mark.parametrize("kind", KINDS)
def test_limits_are_in_the_order_of_their_dates(kind: str) -> None:
    for row in field_table(kind):
        days = [limit.as_of for limit in row.limits]
        assert days == sorted(days, key=lambda day: (not day.startswith("before"), day))


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_a_local_meaning(kind: str) -> None:
    assert set(KINDS[kind].model_fields) <= set(LOCAL_RULES)


def test_every_local_meaning_has_a_field() -> None:
    assert set(LOCAL_RULES) == {name for cls in KINDS.values() for name in cls.model_fields}

"""Every parameter of the contract equals the field of its class. Driven by KINDS, so new kinds come along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.request import KINDS, LoRAWeight, describe_kinds, field_table, json_schema
from wan_duet.pipelines.request.limits import dated_limits
from wan_duet.pipelines.request.local_rules import LOCAL_RULES
from wan_duet.pipelines.request.rows import FieldRow, rows

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "requests.json").read_text(encoding="utf-8"))
# What this test compares, and what is prose. A key it does not know must be taught to it, not passed over.
COMPARED = {"type", "required", "default", "default_stated", "min", "max", "enum", "multiple_of", "public"}
PROSE = {"doc", "source"}


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


def assert_same(row: FieldRow, parameter: dict[str, Any], extra: bool) -> None:
    assert set(parameter) <= COMPARED | PROSE
    newer = parameter.get("public", {})
    # A default that only the crawl names is not stated by the provider's page: the field stays unset.
    stated = parameter.get("default_stated", False) and not extra
    default = parameter["default"] if stated else None
    low, high = newer.get("min", parameter.get("min")), newer.get("max", parameter.get("max"))
    assert row.type == parameter["type"]
    assert row.required == parameter["required"]
    assert (list(row.default) if isinstance(row.default, tuple) else row.default) == default
    assert row.enum == (tuple(parameter["enum"]) if parameter.get("enum") else None)
    assert row.range == (None if low is None and high is None else (low, high))
    assert parameter.get("multiple_of") is None
    assert row.description


@pytest.mark.parametrize(("kind", "name", "parameter"), every_parameter())
def test_parameter_equals_field(kind: str, name: str, parameter: dict[str, Any]) -> None:
    row = next(row for row in field_table(kind) if row.name == name)
    assert_same(row, parameter, extra=name not in CONTRACT[KINDS[kind].contract]["params"])


@pytest.mark.parametrize(("kind", "name", "parameter"), every_parameter())
def test_json_schema_says_the_same(kind: str, name: str, parameter: dict[str, Any]) -> None:
    schema = json_schema(kind)
    entry = schema["properties"][name]
    row = next(row for row in field_table(kind) if row.name == name)
    assert (entry.get("minimum"), entry.get("maximum")) == (row.range or (None, None))
    assert (name in schema.get("required", [])) == parameter["required"]
    assert tuple(entry.get("enum", ())) == (row.enum or ())
    if row.enum is None:
        types = {arm.get("type") for arm in entry.get("anyOf", [entry])}
        assert types - {"null"} == {row.type.split("<")[0]}
    if not row.required:
        assert entry["default"] == (list(row.default) if isinstance(row.default, tuple) else row.default)
    if row.range is not None:
        assert {"min", "max", "as_of", "source"} == set(entry["x-limits"][-1])


@pytest.mark.parametrize(("kind", "name", "parameter"), every_parameter())
def test_every_published_limit_is_kept(kind: str, name: str, parameter: dict[str, Any]) -> None:
    known = {(limit.min, limit.max) for limit in dated_limits(KINDS[kind].contract, name)}
    newer = parameter.get("public", {})
    if "min" in newer or "max" in newer:
        assert (newer.get("min", parameter["min"]), newer.get("max", parameter["max"])) in known
    if parameter.get("min") is not None:
        assert (parameter["min"], parameter["max"]) in known


@pytest.mark.parametrize("kind", KINDS)
def test_fields_are_the_parameters_and_in_their_order(kind: str) -> None:
    names = [row.name for row in field_table(kind)]
    assert set(names) == set(parameters(KINDS[kind].contract))
    own = list(CONTRACT[KINDS[kind].contract]["params"])
    assert [name for name in names if name in own] == own


@pytest.mark.parametrize("entry", describe_kinds(), ids=lambda entry: entry["kind"])
def test_endpoint_and_provider_are_the_contract_s(entry: dict[str, str]) -> None:
    assert set(entry) == {"kind", "contract", "task", "provider", "endpoint", "title"}
    assert entry["provider"] == CONTRACT[entry["contract"]]["provider"]
    assert entry["endpoint"] == CONTRACT[entry["contract"]]["endpoint"]


@pytest.mark.parametrize("row", rows(LoRAWeight), ids=lambda row: row.name)
def test_lora_field_equals_the_type(row: FieldRow) -> None:
    assert_same(row, CONTRACT["_types"]["LoRAWeight"][row.name], extra=False)


def test_lora_has_every_field_of_the_type() -> None:
    assert set(LoRAWeight.model_fields) == set(CONTRACT["_types"]["LoRAWeight"])


@pytest.mark.parametrize("kind", KINDS)
def test_limits_are_in_the_order_of_their_dates(kind: str) -> None:
    for row in field_table(kind):
        days = [limit.as_of for limit in dated_limits(KINDS[kind].contract, row.name)]
        assert days == sorted(days, key=lambda day: (not day.startswith("before"), day))


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_a_local_meaning(kind: str) -> None:
    assert set(KINDS[kind].model_fields) <= set(LOCAL_RULES)

"""The service does what its own OpenAPI document says, also when it is sent nonsense."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from wan_duet.pipelines.request.kinds import LOCAL_KINDS
from wan_duet.pipelines.service.http_routes import ROUTES
from wan_duet.pipelines.service.openapi_document import openapi_document

from .painted import KIND, Served, running, served

EXAMPLES = 8


def test_the_document_has_every_call_and_every_kind(tmp_path: Path) -> None:
    async def fetched() -> dict:
        async with served(tmp_path, lanes=0) as service:
            status, document = await service.call("GET", "/openapi.json")
            assert status == 200
            return dict(document)

    document = asyncio.run(fetched())
    assert document == json.loads(json.dumps(openapi_document(KIND)))
    calls = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert calls == {(route.method, route.path) for route in ROUTES}
    schemas = document["components"]["schemas"]
    assert {f"request_{kind}" for kind in LOCAL_KINDS} <= schemas.keys()
    assert "kind" not in schemas[f"request_{KIND}"].get("required", ())
    assert "kind" in schemas["request_image-to-video"]["required"]
    for reference in _references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(tmp_path_factory.mktemp("service"), most_waiting=10_000) as found:
        yield found


# schemathesis leaves out the document itself.
@pytest.mark.parametrize("name", [route.name for route in ROUTES if route.answer != "openapi"])
def test_answers_are_those_of_the_document(service: Served, name: str) -> None:
    reason = "NOT FUZZED: schemathesis is not installed; pip install 'wan-duet[fuzz]'"
    schemathesis = pytest.importorskip("schemathesis", reason=reason)
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    (operation,) = [one for one in operations if one.definition.raw["operationId"] == name]
    headers = {"Authorization": service.http.headers["Authorization"]}

    @given(case=operation.as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def check(case: object) -> None:
        # A request that has the form of the schema may still be impossible, such as an empty prompt.
        case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])  # type: ignore[attr-defined]

    check()

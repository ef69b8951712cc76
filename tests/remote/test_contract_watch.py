"""What the providers publish against our tables: equal, changed, moved, gone, unreadable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.cli import contracts_command
from wan_duet.pipelines.cli.commands import main
from wan_duet.pipelines.download import web as web_module
from wan_duet.pipelines.download.web import Web
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.remote.contract_watch import contract_news, known_contracts
from wan_duet.pipelines.remote.published_page import PageError, read_page
from wan_duet.pipelines.request.contracts import NOT_OFFERED
from wan_duet.pipelines.request.kinds import KIND_NAMES, class_of

FAL = [entry for entry in known_contracts() if entry["provider"] == "fal"]
NOVITA = [entry for entry in known_contracts() if entry["provider"] == "novita"]


def fal_page(entry: Mapping[str, Any], **changed: Any) -> str:
    """A page as fal publishes it. changed: fields that differ there; None for one that is gone."""
    lines = [
        f"# {entry['title']}\n\n## Overview\n",
        f"- **Endpoint**: `https://fal.run/{entry['endpoint']}`",
        f"- **Model ID**: `{entry['endpoint']}`\n\n## Pricing\n\n- **Price**: $0.1 per seconds\n",
        "### Input Schema\n\nThe API accepts the following input parameters:\n\n",
    ]
    for name, field in {**entry["fields"], **changed}.items():
        if field is None:
            continue
        kind = {"number": "float", "enum": f"{name.title()}Enum", "ImageSize|enum": "ImageSize | Enum"}
        stated = kind.get(field["type"], field["type"].replace("array<", "list<"))
        lines.append(f"- **`{name}`** (`{stated}`, _{'required' if field.get('required') else 'optional'}_):")
        lines.append("  Some words. Default value: `words`")
        if "default" in field:
            lines.append(f"  - Default: `{json.dumps(field['default'])}`")
        if "enum" in field:
            lines.append("  - Options: " + ", ".join(f'`"{choice}"`' for choice in field["enum"]))
        if "limits" in field and {"min", "max"} <= field["limits"][-1].keys():
            limit = field["limits"][-1]
            lines.append(f"  - Range: `{limit['min']}` to `{limit['max']}`")
        lines.append(f'  - Examples: "- **`{name}`** in a text"\n')
    end = "\n### Output Schema\n\n- **`video`** (`File`, _required_):\n"
    return "\n".join(lines) + end


def web_with(answer: httpx.Response | Exception) -> Web:
    def respond(request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, content=answer.content)

    return Web(httpx.MockTransport(respond))


def told(entry: Mapping[str, Any], page: str) -> tuple[str, tuple[str, ...]]:
    [news] = contract_news(web_with(httpx.Response(200, text=page)), [entry])
    return news.answer, news.lines


@pytest.mark.parametrize("entry", FAL, ids=lambda entry: entry["kind"])
def test_a_page_that_says_what_we_say_is_equal(entry: Mapping[str, Any]) -> None:
    assert told(entry, fal_page(entry)) == ("equal", ())


T2V = FAL[0]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"camera": {"type": "string", "default": "pan"}},
            "camera: new field (string, default 'pan')",
        ),
        ({"camera": {"type": "number", "required": True}}, "camera: new field (number, required)"),
        ({"shift": None}, "shift: no longer published"),
        ({"shift": {"type": "number", "default": 8.0}}, "shift: default 8.0, was 5.0"),
        ({"seed": {"type": "integer", "required": True}}, "seed: now required"),
        ({"prompt": {"type": "string"}}, "prompt: no longer required"),
        ({"seed": {"type": "string"}}, "seed: type string, was integer"),
        (
            {"resolution": {"type": "enum", "enum": ["480p", "1080p"]}},
            "resolution: choices 1080p, 480p; were 480p, 580p, 720p",
        ),
        (
            {"num_frames": {"type": "integer", "limits": [{"min": 17, "max": 241}]}},
            "num_frames: range 17 to 241, was 17 to 161",
        ),
    ],
)
def test_each_difference_is_told_by_its_field(changed: dict[str, Any], line: str) -> None:
    assert told(T2V, fal_page(T2V, **changed)) == ("differs", (line,))


@pytest.mark.parametrize("entry", [one for one in FAL if "left_out" in one], ids=lambda entry: entry["kind"])
def test_a_field_that_is_left_out_for_a_stated_reason_is_no_news(entry: Mapping[str, Any]) -> None:
    published = {name: {"type": "boolean"} for name in entry["left_out"]}
    assert told(entry, fal_page(entry, **published)) == ("equal", ())
    assert told(entry, fal_page(entry, **published, another={"type": "string"}))[1] == (
        "another: new field (string)",
    )


def test_a_page_about_another_endpoint_has_moved() -> None:
    answer, [line] = told(T2V, fal_page({**T2V, "endpoint": "fal-ai/wan/v3/text-to-video"}))
    assert (answer, "fal-ai/wan/v3/text-to-video: the endpoint has moved" in line) == ("differs", True)


@pytest.mark.parametrize("status", [404, 410])
def test_an_endpoint_without_a_page_is_probably_gone(status: int) -> None:
    [news] = contract_news(web_with(httpx.Response(status)), [T2V])
    assert news.answer == "differs"
    assert "no longer offered" in news.lines[0]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<!DOCTYPE html><html><body>Wan</body></html>"),
        httpx.Response(200, text="# Wan\n\nSoon."),
        httpx.Response(200, text="- **Model ID**: `a/b`\n### Input Schema\n"),
        httpx.Response(200, content=b"\xff\xfe\x00"),
        httpx.Response(200, content=bytes(2**20 + 1)),
        httpx.Response(500),
        httpx.Response(429),
        httpx.ConnectError("no network"),
    ],
)
def test_what_cannot_be_read_is_unknown_and_no_difference(answer: httpx.Response | Exception) -> None:
    [news] = contract_news(web_with(answer), [T2V])
    assert news.answer == "unknown"
    assert news.lines[0]


@pytest.mark.parametrize("entry", NOVITA, ids=lambda entry: entry["kind"])
def test_names_of_a_novita_page_are_compared(entry: Mapping[str, Any]) -> None:
    fields = [
        parameter(name, parameter("path", required=True) if name == "loras" else "", field.get("required"))
        for name, field in entry["fields"].items()
    ]
    fields[1:] = [parameter("parameters", "".join(fields[1:]))]
    assert told(entry, novita_page(entry, *fields)) == ("equal", ())
    more = novita_page(entry, *fields, parameter("watermark"))
    assert told(entry, more) == ("differs", ("watermark: new field",))


def parameter(name: str, inner: str = "", required: bool | None = False) -> str:
    needed = " required={true}" if required else ""
    return f'<ParamField body="{name}" type="any"{needed}>\n  Words.\n{inner}</ParamField>\n'


def novita_page(entry: Mapping[str, Any], *fields: str) -> str:
    head = '## Request Headers\n<ParamField header="Content-Type" required={true}>\n</ParamField>\n'
    curl = f"curl --url {entry['endpoint'].removeprefix('POST ')} \\\n"
    return f"{curl}{head}## Request Body\n{''.join(fields)}## Response\n{parameter('task_id')}"


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(PageError):
        assert read_page(text).fields
    page = f"- **Model ID**: `a`\n### Input Schema\n- **`a`** (`string`, _optional_)\n{text}"
    assert "a" in read_page(page).fields


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(200, text=fal_page(T2V)), 0),
        (httpx.Response(200, text=fal_page(T2V, shift=None)), 1),
        (httpx.ConnectError("no network"), contracts_command.UNKNOWN),
    ],
)
def test_the_command_says_it_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: httpx.Response | Exception,
    code: int,
) -> None:
    monkeypatch.setattr(web_module, "Web", lambda: web_with(answer))
    assert main(["contracts", "--live", "--kind", "text-to-video", "--json"]) == code
    [news] = json.loads(capsys.readouterr().out)
    assert news["page"] == "https://fal.ai/models/fal-ai/wan/v2.2-a14b/text-to-video/llms.txt"


def test_without_live_the_tables_are_listed_and_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contracts", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed["offered"]) == len(known_contracts())
    assert {item["kind"] for item in listed["not_offered"]} == set(NOT_OFFERED)
    assert main(["contracts", "--kind", "other"]) == 2


@pytest.mark.parametrize("kind", NOT_OFFERED)
def test_check_names_what_is_known_but_not_offered(kind: str) -> None:
    known = NOT_OFFERED[kind]
    assert kind not in KIND_NAMES
    assert known["as_of"]
    assert known["source"]
    with pytest.raises(RequestError) as caught:
        class_of(kind)
    assert known["endpoint"] in str(caught.value)
    assert known["missing"] in str(caught.value)

"""Every warning that the code can make stands in a table of finding kinds, or here with its own test.

`check` says those of the tables. test_findings.py and test_provider_findings.py, here and in tests/host, show
that runs do.
"""

from __future__ import annotations

import ast
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from finding_kinds import FINDING_KINDS, REQUESTS, FindingKind, names_of, write_given
from provider_finding_kinds import IMAGE_FILE, PURCHASES

from wan_duet.pipelines import request
from wan_duet.pipelines.cli import main
from wan_duet.pipelines.request import Finding, prompt_syntax

from ..servers.results import picture
from . import test_provider_findings as purchases
from .test_findings import arguments, said_in

PIPELINES = Path(request.__file__).parents[1]
Site = tuple[str, str, int]  # file, function, how many there are before it in that function

# Warnings that cannot be said in all five places, why, and the test of the places where they are.
ELSEWHERE = {
    # Only a node can have a patched MODEL or a batch: a terminal has neither.
    ("request/check.py", "_remarks", 1): "tests/host/core/test_host_requests.py",
    ("request/media_batches.py", "remarks_on_batches", 0): "tests/host/test_many.py",
    # Building blocks have no request to check, and no receipt.
    ("sampling/chained.py", "_warning", 0): "tests/host/test_wiring.py",
    ("generate/sampler_findings.py", "sampler_findings", 0): "tests/generate/test_sampler_findings.py",
    # A pose video is given to a run, not to a request that could be checked.
    ("generate/speech_run.py", "_with_inputs", 0): "tests/video/test_hdr.py",
    # Only a request for several shots has shots that overlap.
    ("request/overlap_latents.py", "overlap_findings", 0): "tests/generate/test_film_latents.py",
    ("request/overlap_latents.py", "_hints", 0): "tests/request/test_overlap_latents.py",
    # Only a plan without its inputs says what it assumes.
    ("cli/plan_command.py", "_plan", 0): "tests/cli/test_check_files.py",
}


def warnings_in(file: Path) -> Iterator[tuple[Site, ast.Call]]:
    """The calls in `file` that make a warning, by their status."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text if '"warning"' in text else "")
    name = file.relative_to(PIPELINES).as_posix()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
            made = sorted((call for call in calls if _warns(call)), key=lambda call: call.lineno)
            yield from (((name, function.name, number), call) for number, call in enumerate(made))


def _warns(call: ast.Call) -> bool:
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(isinstance(value, ast.Constant) and value.value == "warning" for value in given)


@dataclass(frozen=True)
class Checked:
    """What `check` says of the requests of the tables. lines: that made a finding, {(file, line)}."""

    lines: set[tuple[str, int]]
    findings: dict[str, list[dict[str, Any]]]  # by the names of the kinds


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    folder = tmp_path_factory.mktemp("given")
    write_given(folder)
    (folder / IMAGE_FILE).write_bytes(picture())
    made = Checked(set(), {})
    init = Finding.__init__

    def seen(self: Finding, *values: Any, **named: Any) -> None:
        init(self, *values, **named)
        frame = sys._getframe(1)
        while frame is not None:
            made.lines.add((frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Finding, "__init__", seen)
        for kinds in REQUESTS:
            with redirect_stdout(io.StringIO()) as told:
                assert main(["check", *arguments(kinds[0], folder, folder), "--json"]) == 0
            made.findings[names_of(kinds)] = json.loads(told.getvalue())["findings"]
        for bought in PURCHASES:
            with redirect_stdout(io.StringIO()):
                assert main(["check", *purchases.arguments(bought[0], folder, folder)]) == 0
    return made


@pytest.mark.parametrize("kinds", REQUESTS, ids=names_of)
def test_check_says_it(kinds: Sequence[FindingKind], checked: Checked) -> None:
    found = checked.findings[names_of(kinds)]
    assert [len(said_in(found, kind)) for kind in kinds] == [1] * len(kinds)


def _files() -> list[Path]:
    return [file for file in sorted(PIPELINES.rglob("*.py")) if any(warnings_in(file))]


def test_every_warning_is_made_by_a_request_of_the_table(checked: Checked) -> None:
    sites = [(file, *warning) for file in _files() for warning in warnings_in(file)]
    made = {
        site
        for file, site, call in sites
        if any((str(file), line) in checked.lines for line in range(call.lineno, (call.end_lineno or 0) + 1))
    }
    assert {site for _, site, _ in sites} - made == ELSEWHERE.keys()


def test_what_is_said_elsewhere_has_its_tests() -> None:
    assert all((PIPELINES.parent / test).is_file() for test in ELSEWHERE.values())


def test_every_syntax_of_other_tools_is_in_the_table() -> None:
    said = [kind.says for kind in FINDING_KINDS]
    for syntax in prompt_syntax._OTHERS:
        assert any(text in syntax.remedy for text in said), syntax.remedy

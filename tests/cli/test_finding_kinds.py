"""Every warning that the code can make stands in the table of finding kinds, or here with its own test."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from finding_kinds import FINDING_KINDS, REQUESTS, write_loras

from wan_duet.pipelines import request
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.generate.local_run import local_abilities
from wan_duet.pipelines.generate.lora_findings import fit_findings, lora_findings
from wan_duet.pipelines.interpolation.interpolator_files import Interpolators
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.request import check, parse, prompt_syntax
from wan_duet.pipelines.weights.lora.find import LoraSources

from .test_findings import arguments

PIPELINES = Path(request.__file__).parents[1]
Site = tuple[str, str, int]  # file, function, how many there are before it in that function

# Warnings that no request to this machine can have, and the test that each is said.
ELSEWHERE = {
    ("request/side_effects.py", "_older_limits", 0): "tests/request/test_remote_check.py",
    ("request/fal_rules.py", "fal_findings", 0): "tests/request/test_remote_check.py",
    ("request/fal_rules.py", "fal_findings", 1): "tests/request/test_remote_check.py",
    ("request/check.py", "_remarks", 0): "tests/host/test_findings.py",  # of files of a model
    ("request/check.py", "_remarks", 1): "tests/host/core/test_host_requests.py",  # of patches on a MODEL
    ("request/media_batches.py", "remarks_on_batches", 0): "tests/host/test_many.py",  # of sockets
    ("sampling/chained.py", "_warning", 0): "tests/host/test_wiring.py",  # of building blocks
    ("generate/sampler_findings.py", "sampler_findings", 0): "tests/generate/test_sampler_findings.py",
    ("generate/stored_findings.py", "stored_findings", 0): "tests/generate/test_stored_run.py",  # of files
    ("generate/speech_run.py", "_with_inputs", 0): "tests/video/test_hdr.py",  # of an HDR pose video
    ("cli/check_commands.py", "_plan", 0): "tests/cli/test_check_files.py",  # of a plan without its inputs
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


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, int]]:
    """The lines of the pack that run while every request of the table is checked: {(file, line)}."""
    loras, folder = tmp_path_factory.mktemp("loras"), tmp_path_factory.mktemp("request")
    write_loras(loras)
    model, sources = load_model("toy"), LoraSources(embedded=embedded_loras())
    abilities = local_abilities(Interpolators(), model)
    files = {str(file) for file in _files()}
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        seen.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    for kinds in REQUESTS:
        file, _, kind, *_ = arguments(kinds[0], folder, loras)
        asked = parse(kind, Path(file).read_bytes())
        sys.settrace(trace)
        try:
            found = [*lora_findings(asked, sources), *fit_findings(asked, sources, model, model.family)]
            check(asked, family=model.family, abilities=abilities, found=found)
        finally:
            sys.settrace(before)
    return seen


def _files() -> list[Path]:
    return [file for file in sorted(PIPELINES.rglob("*.py")) if any(warnings_in(file))]


def test_every_warning_is_made_by_a_request_of_the_table(executed: set[tuple[str, int]]) -> None:
    sites = [(file, *warning) for file in _files() for warning in warnings_in(file)]
    made = {
        site
        for file, site, call in sites
        if any((str(file), line) in executed for line in range(call.lineno, (call.end_lineno or 0) + 1))
    }
    assert {site for _, site, _ in sites} - made == ELSEWHERE.keys()


def test_what_is_said_elsewhere_has_its_tests() -> None:
    assert all((PIPELINES.parent / test).is_file() for test in ELSEWHERE.values())


def test_every_syntax_of_other_tools_is_in_the_table() -> None:
    said = [kind.says for kind in FINDING_KINDS]
    for syntax in prompt_syntax._OTHERS:
        assert any(text in syntax.remedy for text in said), syntax.remedy

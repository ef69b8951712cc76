"""Every kind of finding is said by check, by a run in the terminal, and in the receipt of the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from finding_kinds import REQUESTS, VIDEO, FindingKind, names_of, write_loras

from wan_duet.pipelines.cli import main

by_request = pytest.mark.parametrize("kinds", REQUESTS, ids=names_of)


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    write_loras(folder)
    return folder


def arguments(kind: FindingKind, folder: Path, loras: Path) -> list[str]:
    """The request as a command line reads it."""
    values: dict[str, Any] = dict(kind.request)
    if kind.local:
        values["local"] = dict(kind.local)
    if kind.loras:
        values["loras"] = [{**lora, "path": placed(str(lora["path"]), loras)} for lora in kind.loras]
    file = folder / "request.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    return [str(file), "--kind", f"{kind.task}-lora" if kind.loras else kind.task, "--model", "toy"]


def placed(path: str, loras: Path) -> str:
    return str(loras / path) if (loras / path).is_file() else path


def said_in(findings: list[dict[str, Any]], kind: FindingKind) -> list[str]:
    """The reasons of this kind among findings as JSON, none of them `supported`."""
    return [
        finding["reason"]
        for finding in findings
        if finding["field"] == kind.field
        and finding["status"] != "supported"
        and kind.says in finding["reason"]
    ]


@by_request
def test_check_says_it(
    kinds: Sequence[FindingKind], tmp_path: Path, loras: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *arguments(kinds[0], tmp_path, loras), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [len(said_in(found, kind)) for kind in kinds] == [1] * len(kinds)


@by_request
def test_a_run_says_it_once_before_it_samples_and_in_its_receipt(
    kinds: Sequence[FindingKind], tmp_path: Path, loras: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = kinds[0]
    suffix = "mp4" if first.task == VIDEO else "jpg" if first.loras else "png"
    out = tmp_path / f"a.{suffix}"
    assert main(["generate", *arguments(first, tmp_path, loras), "-o", str(out)]) == 0
    told = capsys.readouterr().err.splitlines()
    before = told[: next(number for number, line in enumerate(told) if line.startswith("sampling:"))]
    for kind in kinds:
        assert [f" {kind.field}: " in line and kind.says in line for line in told].count(True) == 1
        assert any(f" {kind.field}: " in line and kind.says in line for line in before)
        assert len(said_in(json.loads(out.with_suffix(".json").read_text())["findings"], kind)) == 1

"""Every kind of finding is said by a run in the terminal, and in the receipt of the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from finding_kinds import IMAGE, REQUESTS, FindingKind, names_of, write_given

from wan_duet.pipelines.cli import main

by_request = pytest.mark.parametrize("kinds", REQUESTS, ids=names_of)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the requests name."""
    folder = tmp_path_factory.mktemp("given")
    write_given(folder)
    return folder


def arguments(kind: FindingKind, folder: Path, given: Path) -> list[str]:
    """The request as a command line reads it. folder: for the file of the request."""
    values: dict[str, Any] = {**kind.request, "local": {"width": 32, "height": 32, **kind.local}}
    if kind.loras:
        values["loras"] = [{**lora, "path": placed(str(lora["path"]), given)} for lora in kind.loras]
    if "video_url" in values:
        values["video_url"] = placed(values["video_url"], given)
    file = folder / "request.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    flags = [
        part
        for name, value in kind.model.items()
        for part in ("--" + name.replace("_", "-"), placed(value, given))
    ]
    return [str(file), "--kind", f"{kind.task}-lora" if kind.loras else kind.task, *flags]


def placed(name: str, given: Path) -> str:
    """The path of what is named so in the folder or in a folder of it; else the name."""
    return next((str(file) for file in given.glob(f"**/{name}") if file.is_file()), name)


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
def test_a_run_says_it_once_before_it_samples_and_in_its_receipt(
    kinds: Sequence[FindingKind], tmp_path: Path, given: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = kinds[0]
    suffix = "mp4" if first.task != IMAGE else "jpg" if first.loras else "png"
    out = tmp_path / f"a.{suffix}"
    assert main(["generate", *arguments(first, tmp_path, given), "-o", str(out)]) == 0
    told = capsys.readouterr().err.splitlines()
    before = told[: next(number for number, line in enumerate(told) if line.startswith("sampling:"))]
    for kind in kinds:
        assert [f" {kind.field}: " in line and kind.says in line for line in told].count(True) == 1
        assert any(f" {kind.field}: " in line and kind.says in line for line in before)
        assert len(said_in(json.loads(out.with_suffix(".json").read_text())["findings"], kind)) == 1

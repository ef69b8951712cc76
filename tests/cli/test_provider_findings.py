"""Every kind of finding at a provider is said by check, by the run in the terminal, and in its receipt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finding_kinds import write_loras
from provider_finding_kinds import IMAGE_FILE, PURCHASES, ProviderFinding, name_of

from wan_duet.pipelines.cli import main

from ..servers.fal import FalServer
from ..servers.novita import NovitaServer
from ..servers.results import picture
from .conftest import KEY
from .test_findings import placed, said_in

by_purchase = pytest.mark.parametrize("kinds", PURCHASES, ids=name_of)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the requests name."""
    folder = tmp_path_factory.mktemp("given")
    write_loras(folder)
    (folder / IMAGE_FILE).write_bytes(picture())
    return folder


@pytest.fixture
def keys(folder: Path, server: FalServer, novita: NovitaServer) -> None:
    """Both providers, with a key for each."""
    (folder / "keys.json").write_text(json.dumps({"fal": KEY, "novita": "sk_one"}))
    addresses = {"fal": server.url, "novita": novita.url, "allow_loopback": True}
    (folder / "providers.json").write_text(json.dumps(addresses))


def arguments(kind: ProviderFinding, folder: Path, given: Path) -> list[str]:
    """The request as a command line reads it. folder: for the file of the request."""
    values: dict[str, Any] = dict(kind.request)
    if kind.loras:
        values["loras"] = [{**lora, "path": placed(lora["path"], given)} for lora in kind.loras]
    if "image_url" in values:
        values["image_url"] = placed(values["image_url"], given)
    file = folder / "request.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    model = ["--novita-model", kind.novita_model] if kind.runner == "novita" else []
    return [str(file), "--kind", kind.kind, "--on", kind.runner, *model]


@by_purchase
@pytest.mark.usefixtures("keys")
def test_it_is_said_by_check_and_before_anything_is_bought_and_in_the_receipt(
    kinds: tuple[ProviderFinding, ...], tmp_path: Path, given: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = arguments(kinds[0], tmp_path, given)
    assert main(["check", *asked, "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)["findings"]
    out = tmp_path / ("a.png" if "image" in kinds[0].kind.split("-")[-2:] else "a.mp4")
    assert main(["generate", *asked, "-o", str(out), "--json"]) == 0, capsys.readouterr().err
    told = capsys.readouterr()
    before = told.err.partition("price: ")[0].splitlines()
    receipt = json.loads(told.out)["receipt"]["findings"]
    for kind in kinds:
        assert [f" {kind.field}: " in line and kind.says in line for line in before].count(True) == 1
        assert [len(said_in(found, kind)) for found in (checked, receipt)] == [1, 1]

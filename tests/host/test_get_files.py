"""*Get files* on Load Model, in the real frontend: from a list and a question to files that are offered."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_names import write_real_names

from tools.template_list import TEMPLATES
from wan_duet.pipelines.cli.terminal import stopped_by_sigterm
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.model_files.catalogue import OWN_LIST
from wan_duet.pipelines.model_files.inventory import FOLDERS

from ..download.small_web import Site, served
from .test_browser import LACKING, SKIPPED, in_browser

WORKFLOWS = Path(__file__).parents[2] / "workflows"
(TEMPLATE,) = (template for template in TEMPLATES if template.name.endswith("Text to Video, 4 steps"))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with served() as made:
        yield made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty folders, which ComfyUI is told to prefer to its own."""
    folder = tmp_path_factory.mktemp("models")
    for name in FOLDERS:
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def empty(
    comfyui: Host, site: Site, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadlessComfyUI]:
    """A ComfyUI without weights, whose own list has tiny files in place of the published ones, at `site`."""
    published = tmp_path_factory.mktemp("published")
    write_real_names(published)
    assert TEMPLATE.files is not None
    own = {}
    for file in TEMPLATE.files.files:
        content = (published / file.folder / file.name).read_bytes()
        host = f"127.0.0.1:{site.port}"
        site.file(host, f"/{file.name}", content, ETag='"one"')
        sha256 = hashlib.sha256(content).hexdigest()
        facts = {"folder": file.folder, "url": f"http://{host}/{file.name}", "size_bytes": len(content)}
        own[file.name] = {**facts, "sha256": sha256}
    paths = published / "paths.yaml"
    places = {name: str(models / name) for name in FOLDERS}
    paths.write_text(json.dumps({"tests": {"is_default": True, **places}}), encoding="utf-8")  # JSON is YAML
    extra = ["--extra-model-paths-config", str(paths)]
    with stopped_by_sigterm(), HeadlessComfyUI(comfyui, extra_args=extra) as running:
        list_file = running.user / "__wan_duet" / OWN_LIST
        list_file.parent.mkdir(parents=True, exist_ok=True)
        list_file.write_text(json.dumps({"files": own, "allow_loopback": True}), encoding="utf-8")
        yield running


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize("vue", ["false", "true"], ids=["classic", "nodes 2.0"])
def test_the_button_gets_what_the_workflow_selects(
    empty: HeadlessComfyUI, models: Path, tmp_path: Path, vue: str
) -> None:
    assert TEMPLATE.files is not None
    names = sorted(file.name for file in TEMPLATE.files.files)
    for folder in models.iterdir():
        shutil.rmtree(folder)
        folder.mkdir()
    workflow = str(WORKFLOWS / f"{TEMPLATE.name}.json")
    seen = in_browser("get_files.cjs", empty.url, workflow, vue, str(tmp_path / "picture.png"))
    assert seen["before"] == [f"missing {name}" for name in names]
    assert seen["offer"].startswith("Download ")
    assert seen["offer"].endswith(" MB")
    assert (seen["after"], seen["status"]) == ([f"here {name}" for name in names], "All files are here.")
    assert seen["choices"], "the node's list has the new file without a reload of the page"
    assert seen["values"] == 11, "the button saves no value: widgets are saved by position"
    placed = {file.relative_to(models).as_posix() for file in models.rglob("*") if file.is_file()}
    assert placed == {f"{file.folder}/{file.name}" for file in TEMPLATE.files.files}

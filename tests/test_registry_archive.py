"""The archive of the Comfy Registry holds what users need, and works without the rest of the repository.

`comfy node pack` makes it when comfy-cli is in the virtual environment $COMFY_CLIENTS.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLIENTS = os.environ.get("COMFY_CLIENTS")
COMFY = None if CLIENTS is None else shutil.which("comfy", path=str(Path(CLIENTS) / "bin"))
SKIPPED = "TEST OF `comfy node pack` SKIPPED: COMFY_CLIENTS names no virtual environment with comfy-cli"
if COMFY is None:
    warnings.warn(SKIPPED, stacklevel=1)  # pytest lists it at the end, unlike the reason of a skip
IMPORT_ALL = """
import importlib, importlib.util, pathlib, sys
root = pathlib.Path(sys.argv[1])
spec = importlib.util.spec_from_file_location(
    "some_pack", root / "__init__.py", submodule_search_locations=[str(root)]
)
pack = importlib.util.module_from_spec(spec)
sys.modules["some_pack"] = pack
spec.loader.exec_module(pack)
assert not {"torch", "diffusers"} & set(sys.modules)
for file in sorted(root.glob("pipelines/**/*.py")):
    try:
        importlib.import_module(".".join(["some_pack", *file.relative_to(root).with_suffix("").parts]))
    except ModuleNotFoundError as error:  # an optional package, such as triton
        assert not error.name.startswith("some_pack"), error
from some_pack.pipelines.loading.wan_model import load_model
assert [load_model(name).family.name for name in ("toy", "toy-image", "toy-speech")]
strangers = [name for name, module in sys.modules.items() if name.startswith("wan_duet")]
assert not strangers, strangers
print(pack.WEB_DIRECTORY)
"""


def git(*arguments: str, cwd: Path = ROOT) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def listed() -> list[str]:
    """The files of the repository that .comfyignore leaves in."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository")
    left_out = git("ls-files", "-z", "--cached", "--ignored", "--exclude-from=.comfyignore").split("\0")
    return sorted({*git("ls-files", "-z").split("\0")} - {*left_out} - {""})


def test_what_only_developers_need_stays_out_and_all_else_is_there(listed: list[str]) -> None:
    folders = {name.partition("/")[0] for name in listed}
    assert not folders & {"tests", "bench", "tools", "run.py", ".ci", ".github"}
    assert folders >= {"__init__.py", "nodes", "pipelines", "web", "workflows", "subgraphs"}
    assert {"pyproject.toml", "requirements.txt", "LICENSE", "README.md"} <= folders
    assert any(name.startswith("pipelines/embedded/weights/") for name in listed)


def test_the_pack_is_imported_from_those_files_alone(listed: list[str], tmp_path: Path) -> None:
    pack = tmp_path / "custom_nodes" / "some-pack"
    for name in listed:
        place = pack / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(pack)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "./web"


@pytest.mark.skipif(COMFY is None, reason=SKIPPED)
def test_comfy_packs_exactly_those_files(listed: list[str]) -> None:
    """In a copy: it writes its archive into the folder it packs."""
    with tempfile.TemporaryDirectory() as folder:
        assert packed(Path(folder)) == listed


def packed(copy: Path) -> list[str]:
    """Copy the repository, and return the names in the archive that comfy makes of it."""
    for name in git("ls-files", "-z").split("\0"):
        if name:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    git("init", "-q", cwd=copy)
    git("add", "--all", "--force", cwd=copy)
    done = subprocess.run(
        [str(COMFY), "--skip-prompt", "--no-enable-telemetry", "node", "pack"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(copy)},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    with zipfile.ZipFile(copy / "node.zip") as archive:
        return sorted(name for name in archive.namelist() if not name.endswith("/"))

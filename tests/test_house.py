"""Promises about the repository itself: what importing costs, where it may lie, what its metadata says."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from wan_duet.pipelines.headless.server import link_folder
from wan_duet.pipelines.version import REQUIRED_COMFYUI, VERSION

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ["torch", "diffusers", "transformers", "av"]


def modules_after(code: str) -> list[str]:
    """The top-level modules a fresh Python has after running `code`."""
    report = "; import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def test_importing_the_pack_costs_nothing() -> None:
    assert not {*HEAVY, "pydantic", "numpy", "aiohttp"} & set(modules_after("import wan_duet"))


@pytest.mark.parametrize("module", ["errors", "request", "plan", "cli"])
def test_looking_at_a_request_loads_no_network_library(module: str) -> None:
    assert not set(HEAVY) & set(modules_after(f"import wan_duet.pipelines.{module}"))


def test_loads_under_any_folder_name_as_comfyui_loads_it(tmp_path: Path) -> None:
    folder = tmp_path / "custom_nodes" / "Wan Duet 2.2-main"
    folder.parent.mkdir()
    link_folder(folder, ROOT)
    code = """
import asyncio, importlib, importlib.util, inspect, os, sys
folder = sys.argv[1]
name = folder.replace(".", "_x_")  # as load_custom_node in ComfyUI's nodes.py
spec = importlib.util.spec_from_file_location(name, os.path.join(folder, "__init__.py"))
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
assert inspect.iscoroutinefunction(module.comfy_entrypoint)
assert os.path.isdir(os.path.join(folder, module.WEB_DIRECTORY))
assert importlib.import_module(name + ".pipelines.request").KINDS
assert "wan_duet" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_package_is_listed_for_wheels() -> None:
    folders = [
        ROOT,
        *(file.parent for top in ("nodes", "pipelines") for file in (ROOT / top).rglob("__init__.py")),
    ]
    packages = {".".join(["wan_duet", *folder.relative_to(ROOT).parts]) for folder in folders}
    assert set(pyproject()["tool"]["setuptools"]["packages"]) == packages


def test_every_room_says_what_it_answers_and_stands_in_the_contract() -> None:
    rooms = [folder for folder in (ROOT / "pipelines").iterdir() if (folder / "__init__.py").is_file()]
    contracts = pyproject()["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert {room.name for room in rooms} <= set(layers)
    for room in rooms:
        said = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
        assert said, f"{room.name}/__init__.py does not say what the room answers"


# Names that several files of the product have, and why.
SHARED_NAMES = {"__init__": "Python gives it to every package"}


def test_no_two_files_of_the_product_have_one_name() -> None:
    """An editor, a traceback and a stranger know a file by its name."""
    files = [file for top in ("nodes", "pipelines") for file in (ROOT / top).rglob("*.py")]
    many = {name for name, count in Counter(file.stem for file in files).items() if count > 1}
    assert many == SHARED_NAMES.keys()


# Public class names that several files of the product have, and why.
SHARED_CLASS_NAMES: dict[str, str] = {}


def test_no_two_public_classes_of_the_product_have_one_name() -> None:
    """Annotations, errors and searches name a class without its file. Type aliases count as classes."""
    files = [file for top in ("nodes", "pipelines") for file in (ROOT / top).rglob("*.py")]
    names = Counter(name for file in files if file.stem != "__init__" for name in public_types(file))
    assert {name for name, count in names.items() if count > 1} == SHARED_CLASS_NAMES.keys()


def public_types(file: Path) -> set[str]:
    """The public classes and type aliases that stand at the top level of a file."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    classes = {node.name for node in body if isinstance(node, ast.ClassDef)}
    aliases = {
        target.id
        for node in body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and not target.id.isupper()
    }
    return {name for name in classes | aliases if name[0].isupper()}


def test_the_registry_gets_what_it_asks_for() -> None:
    """As docs.comfy.org/registry/specifications says; and our JavaScript is not loaded twice."""
    stated = pyproject()
    assert stated["project"]["name"] == "wan-duet"
    assert stated["project"]["version"] == VERSION
    assert len(VERSION.split(".")) == len(REQUIRED_COMFYUI.split(".")) == 3
    comfy = stated["tool"]["comfy"]
    assert comfy["PublisherId"]
    assert comfy["DisplayName"]
    assert comfy["requires-comfyui"] == f">={REQUIRED_COMFYUI}"
    assert "web" not in comfy
    assert (ROOT / comfy["Icon"].partition("/main/")[2]).is_file()


def pyproject() -> dict:
    tomllib = load(ROOT / "tools" / "requirements.py").tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

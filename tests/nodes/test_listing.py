"""Which models are found in ComfyUI's folders."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from wan_duet.nodes.listing import FileChoices, find_models, pick, stamp
from wan_duet.pipelines.files.moved_file import moved_to


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for file in (
        "a/b/model_index.json",
        "a/b/transformer/config.json",
        "a/b/transformer/diffusion_pytorch_model.safetensors",
        "notes.txt",
        "c.gguf",
        "d/E.GGUF",
        "f.safetensors",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    return tmp_path


def test_folders_and_single_files_are_found_and_not_the_files_inside_a_folder(root: Path) -> None:
    assert find_models([str(root)]) == {
        "a/b": root / "a/b",
        "c.gguf": root / "c.gguf",
        "d/E.GGUF": root / "d/E.GGUF",
        "f.safetensors": root / "f.safetensors",
    }


def test_first_folder_wins_a_name(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "c.gguf").write_text("")
    (other / "z.gguf").write_text("")
    found = find_models([str(root), str(other)])
    assert found["c.gguf"] == root / "c.gguf"
    assert found["z.gguf"] == other / "z.gguf"


def test_missing_folder_is_no_error(tmp_path: Path) -> None:
    assert find_models([str(tmp_path / "none")]) == {}


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_to_another_disk_are_followed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    here = tmp_path_factory.mktemp("here")
    (here / "nas").symlink_to(root)
    assert "nas/a/b" in find_models([str(here)])


@pytest.mark.parametrize("name", ["a/b", "a\\b"])
def test_workflows_of_both_systems_find_the_model(root: Path, name: str) -> None:
    assert pick(name, find_models([str(root)])) == root / "a/b"


def test_listed_names_of_both_systems_are_matched() -> None:
    assert pick("a/b", {"a\\b": 1}) == 1
    assert pick("a/c", {"a\\b": 1}) is None


def test_stamp_changes_with_any_file(root: Path) -> None:
    before = stamp(root / "a")
    assert stamp(root / "a") == before
    (root / "a/b/transformer/config.json").write_text('{"changed": 1}')
    assert stamp(root / "a") != before


def test_choices_take_either_separator_and_say_where_a_missing_file_belongs() -> None:
    choices = FileChoices(["auto", "a/b.safetensors"], "models/vae; put it there")
    assert "a\\b.safetensors" in choices
    assert "auto" in choices
    assert "c.safetensors" not in choices
    assert str(choices) == "models/vae; put it there"
    assert json.dumps(choices) == '["auto", "a/b.safetensors"]'
    assert type(choices)(name for name in choices) == choices  # what dataclasses.asdict does with it


def test_choices_say_where_a_moved_file_is() -> None:
    names = ["auto", "wan/22/M.safetensors", "other.safetensors"]
    choices = FileChoices(names, "models/vae; put it there")
    assert "old\\m.safetensors" not in choices
    assert str(choices) == (
        "models/vae; put it there. A file of that name is at wan/22/M.safetensors: choose that"
    )
    assert "nowhere.safetensors" not in choices
    assert str(choices) == "models/vae; put it there"
    assert moved_to("", names) == moved_to("folder/", names) == ""


def test_advice_is_given_however_many_files_there_are_and_the_browser_gets_all() -> None:
    names = [f"{number}.safetensors" for number in range(50)]
    choices = FileChoices(names, "models/loras; put it there")
    assert len(choices) <= 20  # ComfyUI writes only the number of more
    assert (
        list(choices) == json.loads(json.dumps(choices)) == json.loads(json.dumps(choices, indent=1)) == names
    )
    assert len(FileChoices(names)) == 50

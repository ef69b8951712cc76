"""What the maker of a LoRA says about it, in its header and in the JSON beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.weights.lora.trigger_words import Stated, stated_about

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["civitai", "trainedWords", "baseModel", "activation text"]), inner)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".json", {"activation text": "inkstyle, brush, inkstyle", "sd version": "Wan 2.2"}),
        (".civitai.info", {"trainedWords": ["inkstyle", "brush"], "baseModel": "Wan 2.2"}),
        (".metadata.json", {"civitai": {"trainedWords": ["inkstyle", "brush"]}, "base_model": "Wan 2.2"}),
    ],
)
def test_every_known_json_beside_a_lora_is_read(tmp_path: Path, ending: str, content: dict[str, Any]) -> None:
    (tmp_path / f"ink{ending}").write_text(json.dumps(content), encoding="utf-8")
    assert stated_about(tmp_path / "ink.safetensors", {}) == Stated(("inkstyle", "brush"), "Wan 2.2")


def test_the_header_comes_first(tmp_path: Path) -> None:
    (tmp_path / "ink.json").write_text(
        '{"activation text": "brush", "sd version": "other"}', encoding="utf-8"
    )
    header = {"modelspec.trigger_phrase": "inkstyle", "ss_base_model_version": "wan2.2"}
    assert stated_about(tmp_path / "ink.safetensors", header) == Stated(("inkstyle", "brush"), "wan2.2")
    assert stated_about(tmp_path / "x.safetensors", {"trained_words": '["a", "b"]'}).triggers == ("a", "b")


def test_a_link_out_of_the_folder_and_a_huge_file_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "loras"
    folder.mkdir()
    secret = tmp_path / "secret.json"
    secret.write_text('{"activation text": "secret"}', encoding="utf-8")
    (folder / "ink.json").symlink_to(secret)
    huge = {"trainedWords": ["word"], "filler": "x" * 5 * 2**20}
    (folder / "ink.civitai.info").write_text(json.dumps(huge), encoding="utf-8")
    assert stated_about(folder / "ink.safetensors", {}) == Stated((), "")


@given(content=JSON | st.binary())
def test_any_json_states_something_or_nothing(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    folder = tmp_path_factory.mktemp("loras")
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "ink.json").write_bytes(raw)
    stated = stated_about(folder / "ink.safetensors", {})
    assert all(isinstance(word, str) and word for word in stated.triggers)

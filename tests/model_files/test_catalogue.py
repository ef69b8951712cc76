"""The list of published files is whole, dated, and says of every kind what it needs."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.generate.required_weights import missing_weights
from wan_duet.pipelines.model_files.catalogue import (
    AS_OF,
    OWN_LIST,
    Catalogue,
    read_catalogue,
    special_weights,
)
from wan_duet.pipelines.plan.families import FAMILIES
from wan_duet.pipelines.request import LOCAL_KINDS, class_of

PUBLISHED = read_catalogue()
T2V, LIGHTNING = "text-to-video", "text-to-video-turbo"
OWN = {"folder": "vae", "url": "https://example.com/a", "size_bytes": 5, "sha256": "0" * 64}


@pytest.mark.parametrize("file", PUBLISHED.files.values(), ids=lambda file: file.name)
def test_every_file_has_an_https_address_that_ends_in_its_name_and_a_hash_with_a_source(file) -> None:  # type: ignore[no-untyped-def]
    parts = urlsplit(file.url)
    assert (parts.scheme, parts.netloc, parts.query) == ("https", "huggingface.co", "")
    assert parts.path.endswith(f"/{file.name}")
    assert file.size_bytes > 10**8
    assert len(bytes.fromhex(file.sha256)) == 32
    assert file.source
    assert file.hash_source


def test_no_two_files_have_one_content() -> None:
    assert len({file.sha256 for file in PUBLISHED.files.values()}) == len(PUBLISHED.files)
    assert AS_OF.startswith("2026-")


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_every_kind_has_all_parts_of_its_model_or_says_where_they_are(kind: str) -> None:
    sets = PUBLISHED.sets(kind)
    assert bool(sets) == (special_weights(kind) is None)
    for files in sets.values():
        family = FAMILIES[files.family]
        assert class_of(kind).task in family.tasks
        assert ("low_model" in files.slots) == (family.experts == 2)
        assert ("image_encoder" in files.slots) == family.uses_clip
        assert ("audio_encoder" in files.slots) == family.needs_audio
        assert {"model", "vae", "text_encoder"} <= set(files.slots)


def test_the_four_step_kinds_have_the_loras_that_the_local_runner_asks_for() -> None:
    assert [file.folder for file in PUBLISHED.choose(LIGHTNING, "fp8").loras] == ["loras", "loras"]
    assert PUBLISHED.choose(T2V, "fp8").loras == ()
    asked = Path(missing_weights.__code__.co_filename).read_text(encoding="utf-8")
    for kind in (LIGHTNING, "image-to-video-turbo"):
        for file in PUBLISHED.choose(kind, None).loras:
            assert file.name.replace("high", "{}").replace("low", "{}") in asked


def test_the_first_size_is_the_usual_one_and_a_wrong_one_is_told_what_there_is() -> None:
    assert PUBLISHED.choose(T2V, None) == PUBLISHED.choose(T2V, "fp8")
    assert PUBLISHED.choose(T2V, "wan2.2-ti2v-5b-fp16").family == "wan2.2-ti2v-5b"
    with pytest.raises(
        RequestError, match=r"--size: fp4 is not listed for text-to-video; give fp8 or gguf or"
    ):
        PUBLISHED.choose(T2V, "fp4")
    with pytest.raises(RequestError, match=r"FastWan2\.2-TI2V-5B"):
        PUBLISHED.choose("small-fast-video", None)


def test_files_are_found_by_the_name_that_a_widget_has() -> None:
    names = ["wan/wan_2.1_vae.safetensors", "wan\\wan_2.1_vae.safetensors", "toy", "../x.safetensors", ""]
    assert [file.name for file in PUBLISHED.named(names)] == ["wan_2.1_vae.safetensors"]


def test_the_users_own_list_adds_files_and_replaces_published_ones(tmp_path: Path) -> None:
    assert read_catalogue(tmp_path) == PUBLISHED
    write(tmp_path, {"files": {"mine.gguf": OWN, "wan_2.1_vae.safetensors": OWN}, "allow_loopback": True})
    changed = read_catalogue(tmp_path)
    assert changed.allow_loopback
    assert changed.files["mine.gguf"].size_bytes == 5
    assert changed.choose(T2V, "fp8").slots["vae"].url == OWN["url"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "not a list of files"),
        ({"file": {}}, "not a list of files"),
        ({"files": []}, "another type"),
        ({"files": {}, "allow_loopback": 1}, "another type"),
        ({"files": {"../a.gguf": OWN}}, "without a folder"),
        ({"files": {"a\\b.gguf": OWN}}, "without a folder"),
        ({"files": {"a.ckpt": OWN}}, "safetensors or .gguf"),
        ({"files": {"a.gguf": {**OWN, "folder": "../../etc"}}}, "folder: got"),
        ({"files": {"a.gguf": {**OWN, "folder": "checkpoints"}}}, "folder: got"),
        ({"files": {"a.gguf": {**OWN, "size_bytes": True}}}, "size_bytes: got True"),
        ({"files": {"a.gguf": {**OWN, "size_bytes": -1}}}, "size_bytes or sha256"),
        ({"files": {"a.gguf": {**OWN, "sha256": "xyz"}}}, "size_bytes or sha256"),
        ({"files": {"a.gguf": {**OWN, "more": 1}}}, "not a table of its facts"),
    ],
)
def test_a_wrong_own_list_is_refused_by_entry(tmp_path: Path, content: object, message: str) -> None:
    write(tmp_path, content)
    with pytest.raises(RequestError, match=message):
        read_catalogue(tmp_path)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=8)
        | st.sampled_from(["files", "a.gguf"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["files", "allow_loopback", "a.gguf", "folder", "url", "x"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_list_or_refused(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    folder = tmp_path_factory.mktemp("own")
    write(folder, content)
    with contextlib.suppress(RequestError):
        assert isinstance(read_catalogue(folder), Catalogue)


def write(folder: Path, content: object) -> None:
    (folder / OWN_LIST).write_text(json.dumps(content), encoding="utf-8")

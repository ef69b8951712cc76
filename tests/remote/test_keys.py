"""Keys: found where they belong, readable by their owner only, shown to nobody."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import KeyProblemError
from wan_duet.pipelines.remote.keys import Key, find_key, forget_key, keep_key, where_keys_are
from wan_duet.pipelines.remote.redaction import Redaction, one_line

from .clients import FAL_KEY, NOVITA_KEY


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    keep_key("fal", "from-the-file", tmp_path)
    assert find_key("fal", tmp_path, {}).reveal() == "from-the-file"
    assert find_key("fal", tmp_path, {"FAL_KEY": f" {FAL_KEY}\n"}).reveal() == FAL_KEY


def test_fal_keys_may_come_in_two_halves() -> None:
    assert find_key("fal", None, {"FAL_KEY_ID": "a", "FAL_KEY_SECRET": "b"}).reveal() == "a:b"
    with pytest.raises(KeyProblemError):
        find_key("fal", None, {"FAL_KEY_ID": "a"})


def test_without_a_key_the_message_says_where_one_is_made() -> None:
    with pytest.raises(KeyProblemError, match="NOVITA_API_KEY"):
        find_key("novita", None, {"FAL_KEY": FAL_KEY})


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such permissions")
def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keep_key("fal", FAL_KEY, folder)
    file = folder / "keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    file.chmod(0o644)
    with pytest.raises(KeyProblemError, match="chmod 600"):
        find_key("fal", folder, {})
    with pytest.raises(KeyProblemError, match="chmod 600"):
        where_keys_are(folder, {})


def test_keeping_one_key_keeps_the_other(tmp_path: Path) -> None:
    keep_key("fal", FAL_KEY, tmp_path)
    keep_key("novita", NOVITA_KEY, tmp_path)
    assert find_key("fal", tmp_path, {}).reveal() == FAL_KEY
    forget_key("fal", tmp_path)
    assert where_keys_are(tmp_path, {}) == {"fal": None, "novita": "file"}
    assert where_keys_are(tmp_path, {"FAL_KEY": "x"}) == {"fal": "environment", "novita": "file"}
    assert os.listdir(tmp_path) == ["keys.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"fal": 3}', '"' + FAL_KEY, "\xff"])
def test_a_damaged_file_is_named_and_not_shown(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(content, encoding="latin-1")
    file.chmod(0o600)
    with pytest.raises(KeyProblemError) as caught:
        find_key("fal", tmp_path, {})
    assert "keys.json" in str(caught.value)
    assert FAL_KEY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["", "  ", "with space", "line\nbreak", "umlaut-ä", "x" * 501])
def test_text_that_is_no_key_is_refused_without_being_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeyProblemError) as caught:
        keep_key("fal", text, tmp_path)
    assert not text.strip() or text not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_key_shows_itself_to_nobody() -> None:
    key = Key("fal", FAL_KEY)
    for text in (repr(key), str(key), f"{key}", f"{[key]}", logging.Formatter().format(record(key))):
        assert FAL_KEY.partition(":")[2] not in text
    for write in (pickle.dumps, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError):
            write(key)


def record(key: Key) -> logging.LogRecord:
    return logging.LogRecord("a", logging.INFO, "b", 1, "key %s", (key,), None)


def test_accounts_are_told_apart_and_never_undone() -> None:
    one, other = Key("fal", FAL_KEY).account, Key("fal", FAL_KEY[:-1] + "d").account
    assert one != other
    assert one == Key("fal", FAL_KEY).account
    assert len(one) == 8
    assert one not in FAL_KEY


@given(st.text(min_size=8, alphabet=st.characters(min_codepoint=33, max_codepoint=126)), st.text(), st.text())
def test_no_text_keeps_a_key(key: str, before: str, after: str) -> None:
    redacted = Redaction(key).text(before + key + after)
    assert key not in redacted


def test_a_half_of_a_key_and_its_other_spellings_are_taken_out_too() -> None:
    redaction = Redaction("name:se/cret+half")
    for text in ("se/cret+half", "se\\/cret+half", "name%3Ase%2Fcret%2Bhalf", "bmFtZTpzZS9jcmV0K2hhbGY"):
        assert redaction.text(f"not allowed: {text}!") == "not allowed: [key]!"


def test_a_line_for_the_log_carries_no_signature_and_no_line_break() -> None:
    text = "cannot read https://a.example/b.mp4?X-Amz-Signature=c0ffee&x=1\nINFO forged"
    assert one_line(text) == "cannot read https://a.example/b.mp4 INFO forged"
    assert len(one_line("x" * 1000)) == 300

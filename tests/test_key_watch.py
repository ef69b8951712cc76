"""The watch over keys sees them, in whatever spelling and wherever they stand."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

import pytest

from .key_watch import _CHUNK, KEY_FILE, LogWatch, files_with_keys
from .remote.clients import FAL_KEY, NOVITA_KEY


@pytest.mark.parametrize("key", [FAL_KEY, NOVITA_KEY], ids=["fal", "novita"])
def test_a_key_in_a_file_is_found(tmp_path: Path, key: str) -> None:
    secret = key.rpartition(":")[2]
    for number, text in enumerate((key, secret, base64.b64encode(secret.encode()).decode())):
        file = tmp_path / str(number) / "notes"
        file.parent.mkdir()
        file.write_bytes(bytes(_CHUNK - 10 if number == 0 else 0) + text.encode() + b" and more")
        try:
            assert list(files_with_keys(tmp_path)) == [file]
        finally:
            file.unlink()
    (tmp_path / KEY_FILE).write_text(key)
    assert list(files_with_keys(tmp_path)) == []


def test_a_key_in_a_log_is_found() -> None:
    watch = LogWatch()
    for text in ("all is well", f"denied: {FAL_KEY}"):
        watch.handle(logging.LogRecord("a", logging.DEBUG, "b", 1, "%s", (text,), None))
    assert len(watch.found) == 1

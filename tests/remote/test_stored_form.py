"""What the written form promises: no contents, no keys to files, and equal things stay equal."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.remote.stored_form import fingerprint, stored_form

texts = st.text() | st.sampled_from(
    ["data:", "data:image/png;base64,", "https://", "http://a.test/?b", "sha256:x"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(values)
def test_a_form_is_its_own_form(value: Any) -> None:
    assert stored_form(stored_form(value)) == stored_form(value)
    assert fingerprint(stored_form(value)) == fingerprint(value)


@given(st.binary(max_size=50))
def test_the_same_content_has_the_same_form_however_it_is_encoded(content: bytes) -> None:
    encoded = base64.b64encode(content).decode()
    forms = {
        stored_form(f"data:image/png;base64,{encoded}"),
        stored_form(f"DATA:image/png;name=a.png;base64,{encoded}"),
        stored_form(f"data:image/png,{quote_from_bytes(content)}"),
    }
    assert len(forms) == 1
    assert forms.pop().startswith("sha256:")


def test_a_data_uri_that_is_damaged_is_not_written_either() -> None:
    assert stored_form("data:image/png;base64,c2VjcmV0!").startswith("sha256:")


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://a.test/film.mp4", "https://a.test/film.mp4"),
        ("https://a.test:8443/film.mp4", "https://a.test:8443/film.mp4"),
        ("https://a.test/film.mp4?signature=hush", "https://a.test/film.mp4 sha256:"),
        ("https://a.test/film.mp4#hush", "https://a.test/film.mp4 sha256:"),
        ("https://user:hush@a.test/film.mp4", "https://a.test/film.mp4 sha256:"),
        ("HTTPS://user:hush@a.test:1/x", "https://a.test:1/x sha256:"),
        ("https://a.test:hush/x?y", "address sha256:"),
        ("https://[hush/x", "address sha256:"),
    ],
)
def test_what_opens_a_file_is_left_out_of_its_address(url: str, form: str) -> None:
    written = stored_form({"loras": [{"path": url}]})["loras"][0]["path"]
    assert written.startswith(form)
    assert "hush" not in written


def test_two_signatures_are_two_addresses() -> None:
    assert fingerprint("https://a.test/x?s=1") != fingerprint("https://a.test/x?s=2")


def test_a_prompt_is_written_as_it_is() -> None:
    prompt = "data: a chart, https://example.com/?q=1 on a screen"
    assert stored_form({"prompt": prompt}) == {"prompt": prompt}


def test_the_order_of_keys_does_not_count_and_that_of_items_does() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"b": [1, 2]}) != fingerprint({"b": [2, 1]})

"""No answer of a provider, however strange, breaks a run: it is read as far as it makes sense."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RemoteError
from wan_duet.pipelines.remote import fal_answers, novita_answers
from wan_duet.pipelines.remote.attempts import CallFailedError
from wan_duet.pipelines.remote.provider import JobStatus

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def answers(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have some of the fields that a provider uses, with anything in them."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, JSON))


def is_sound(status: JobStatus) -> bool:
    numbers = (status.queue_position, status.percent, status.eta_s)
    texts = (*status.log_lines, status.error or "")
    return all(number is None or math.isfinite(number) for number in numbers) and all(
        text.isprintable() and len(text) < 1000 for text in texts
    )


FILES = answers("url", "content_type", "file_size") | JSON
FAL_RESULTS = st.fixed_dictionaries({}, optional={"video": FILES, "image": FILES, "images": st.lists(FILES)})
TASKS = answers("status", "reason", "progress_percent", "eta") | JSON
VIDEOS = answers("video_url", "video_url_ttl", "video_type") | JSON
NOVITA_RESULTS = st.fixed_dictionaries(
    {}, optional={"task": TASKS, "videos": st.lists(VIDEOS) | JSON, "extra": answers("seed") | JSON}
)


@given(answers("status", "error", "error_type", "logs", "queue_position"))
def test_any_status_of_fal_is_a_status(data: dict[str, Any]) -> None:
    assert is_sound(fal_answers.read_status(data))


@given(FAL_RESULTS)
def test_any_result_of_fal_names_files_by_text(data: dict[str, Any]) -> None:
    for file in fal_answers.read_files(data):
        assert isinstance(file.url, str)
        assert file.size_bytes is None or file.size_bytes >= 0


@given(NOVITA_RESULTS)
def test_any_result_of_novita_is_a_status_with_files(data: dict[str, Any]) -> None:
    assert is_sound(novita_answers.read_status(data))
    seed = novita_answers.read_seed(data)
    assert seed is None or seed >= 0
    for file in novita_answers.read_files(data, now=1000.0):
        assert isinstance(file.url, str)
        assert file.expires_at is None or file.expires_at > 1000.0


@given(answers("detail", "error_type", "reason", "message"), st.integers(300, 599))
def test_any_refusal_becomes_a_message_of_one_line(data: dict[str, Any], status: int) -> None:
    for explain in (fal_answers.explain, novita_answers.explain):
        details = explain(data)
        failed = CallFailedError(
            "refused", details.message if details else "", "fal", status=status, details=details
        )
        assert isinstance(fal_answers.is_of_the_model(failed), bool)
        error = failed.as_error("trying")
        assert isinstance(error, RemoteError)
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("loc", "field"),
    [
        (["body", "loras", 0, "path"], "loras[0].path"),
        (["num_frames"], "num_frames"),
        (["body"], None),
        ([], None),
        (None, None),
    ],
)
def test_a_place_is_written_as_everywhere(loc: Any, field: str | None) -> None:
    details = fal_answers.explain({"detail": [{"loc": loc, "msg": "wrong", "type": "missing"}]})
    assert details is not None
    assert (details.message, details.field, details.code) == ("wrong", field, "missing")


def test_what_novita_writes_as_text_or_number_is_the_same() -> None:
    for seed, ttl, percent in (("7", "3600", "50"), (7, 3600, 50)):
        data = {
            "extra": {"seed": seed},
            "task": {"status": "TASK_STATUS_PROCESSING", "progress_percent": percent},
            "videos": [{"video_url": "https://a/b.mp4", "video_url_ttl": ttl, "video_type": "mp4"}],
        }
        assert json.loads(json.dumps(data)) == data
        assert novita_answers.read_seed(data) == 7
        assert novita_answers.read_status(data).percent == 50.0
        assert novita_answers.read_files(data, now=0.0)[0].expires_at == 3600.0

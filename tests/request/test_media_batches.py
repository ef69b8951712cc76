"""A batch of images is one request for each of them here, and refused where each would be bought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request import RequestWithMedia, bind, check_all
from wan_duet.pipelines.request.media_batches import (
    bought_one_by_one,
    one_per_medium,
    remarks_on_batches,
)


@dataclass(frozen=True)
class Pictures:
    """Media that only their names tell apart."""

    names: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return "+".join(self.names)

    @property
    def size(self) -> int:
        return len(self.names)

    def each(self) -> list[Pictures]:
        return [Pictures((name,)) for name in self.names]


def asked(first: int, last: int = 0, **values: Any) -> RequestWithMedia:
    """Image to video from so many first and last images."""
    media = {"image_url": Pictures(tuple(f"a{number}" for number in range(first)))}
    if last:
        media["end_image_url"] = Pictures(tuple(f"z{number}" for number in range(last)))
    return bind("image-to-video", {"prompt": "a ball", "seed": 5, **values}, media)


@given(count=st.integers(1, 5), last=st.sampled_from(["none", "one", "as many"]))
def test_each_medium_has_a_request_as_if_it_were_alone(count: int, last: str) -> None:
    ends = {"none": 0, "one": 1, "as many": count}[last]
    made = one_per_medium(asked(count, ends))
    assert len(made) == count
    for number, one in enumerate(made):
        fields = {"image_url": f"sha256:a{number}"}
        if ends:
            fields["end_image_url"] = f"sha256:z{number % ends}"
        assert {name: getattr(one.request, name) for name in fields} == fields
        assert {name: f"sha256:{medium.sha256}" for name, medium in one.media.items()} == fields
        assert one.request.payload() == {**asked(count, ends).request.payload(), **fields}


def test_what_is_no_batch_is_the_request_itself() -> None:
    for bound in (asked(1), asked(1, 1), bind("text-to-video", {"prompt": "a"}, {})):
        assert one_per_medium(bound) == [bound]
        assert remarks_on_batches(bound) == bought_one_by_one(bound) == []


def test_settings_of_this_machine_stay() -> None:
    made = one_per_medium(asked(2, local={"count": 3, "solver": "euler"}))
    assert [one.request.document()["local"] for one in made] == [{"count": 3, "solver": "euler"}] * 2


def test_batches_of_different_sizes_are_refused_by_name() -> None:
    with pytest.raises(RequestError, match="batches of different sizes") as refused:
        one_per_medium(asked(2, 3))
    assert [problem.field for problem in refused.value.problems] == ["image_url", "end_image_url"]


def test_check_says_how_many_results_there_are_here_and_what_they_would_cost_elsewhere() -> None:
    bound = asked(3)
    reports = check_all(
        bound.request, found_here=remarks_on_batches(bound), found_elsewhere=bought_one_by_one(bound)
    )
    here, fal, novita = ([one for one in report.findings if one.field == "image_url"] for report in reports)
    assert [one.reason for one in here if one.status == "warning"] == [
        "3 in a batch: one result of each, one after another"
    ]
    (refused,) = (one for one in fal if one.status == "impossible")
    assert "3 in a batch would be 3 purchases" in refused.reason
    assert [one.status for one in novita] == ["impossible"]  # it takes no image from here at all

"""The picture of the noise levels says what the plan says."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.plan.families import default_family
from wan_duet.pipelines.plan.plan import make_plan
from wan_duet.pipelines.plan.sigma_picture import picture_of_plan, picture_of_request, sigma_picture
from wan_duet.pipelines.plan.sigmas import GRIDS, experts_of
from wan_duet.pipelines.request import LocalAbilities, check, request_for, t2v_request

SVG = "{http://www.w3.org/2000/svg}"


def drawn(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)  # noqa: S314 - our own


def points(picture: str) -> list[tuple[float, float]]:
    """Of the steps that run: (x, y) of each."""
    return [
        (float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in drawn(picture).iter(f"{SVG}circle")
    ]


def words(picture: str) -> list[str]:
    return [text.text or "" for text in drawn(picture).iter(f"{SVG}text")]


def test_steps_switch_and_boundary_are_those_of_the_plan() -> None:
    request = t2v_request(prompt="x")
    family = default_family("text-to-video")
    plan = make_plan(check(request, family=family).require(), family, 0)
    picture = picture_of_plan(plan)
    high, low = plan.experts.count("high"), plan.experts.count("low")
    assert len(points(picture)) == high + low == 27
    assert {f"high-noise: {high} steps", f"low-noise: {low} steps", "boundary 0.875"} < set(words(picture))
    assert picture == picture_of_request(request, None, LocalAbilities())


@given(
    name=st.sampled_from(["dpm++", "euler", "unipc"]),
    steps=st.integers(1, 60),
    shift=st.floats(0.5, 12),
    part=st.floats(0, 1),
)
def test_every_step_that_runs_is_one_point_and_they_fall(
    name: str, steps: int, shift: float, part: float
) -> None:
    grid = GRIDS[name][0](steps, shift)
    experts = experts_of(grid, 0.875)
    start = int(part * len(experts))
    picture = sigma_picture(grid.sigmas, experts, start=start, boundary=0.875)
    seen = points(picture)
    assert len(seen) == len(experts) - start
    assert seen == sorted(seen)  # to the right, and down on the page
    skipped = [word for word in words(picture) if word.startswith("skipped")]
    assert skipped == ([f"skipped: {start} step{'s' * (start != 1)}"] if start else [])


def test_one_expert_has_no_switch() -> None:
    request = request_for("small-text-to-video", {"prompt": "x"})
    family = default_family(request.task)
    picture = picture_of_request(request, family, LocalAbilities())
    assert picture is not None
    assert not any(word.startswith(("low-noise", "boundary")) for word in words(picture))


def test_colours_follow_the_page_or_the_system() -> None:
    picture = sigma_picture((1.0, 0.0), ("high",))
    assert "var(--input-text," in picture
    assert "prefers-color-scheme:dark" in picture

"""Where a step cache is chosen, what is said of it, and where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from wan_duet.pipelines.plan.cache_choice import CacheChoice
from wan_duet.pipelines.plan.families import FAMILIES, Family
from wan_duet.pipelines.request import LocalAbilities, Report, check, parse

T2V, S2V, TOY = (FAMILIES[name] for name in ("wan2.2-t2v-a14b", "wan2.2-s2v-14b", "toy-image"))
SPOKEN = {"image_url": "a.png", "audio_url": "a.wav"}
MAG = {"step_cache": "magcache"}


def report(
    local: dict[str, Any] | None,
    *,
    kind: str = "text-to-video",
    family: Family = T2V,
    own_engine: bool = True,
    **fields: Any,
) -> Report:
    given = {"prompt": "a fox", **fields, **({} if local is None else {"local": local})}
    abilities = LocalAbilities(own_engine=own_engine, step_cache=True)
    return check(parse(kind, given), family=family, abilities=abilities)


def said(made: Report, field: str, status: str) -> str:
    return "; ".join(each.reason for each in made.findings if (each.field, each.status) == (field, status))


@pytest.mark.parametrize("name", ["first-block", "magcache", "easycache"])
def test_a_cache_is_lossy_by_choice_and_replaces_acceleration(name: str) -> None:
    made = report({"step_cache": name})
    assert "lossy by choice" in said(made, "local.step_cache", "warning")
    assert "local.step_cache decides" in said(made, "acceleration", "adjusted")
    choice = CacheChoice.of(made.require(), T2V)
    assert choice == CacheChoice(name, 0.05 if name == "easycache" else 0.06)
    told = report({"step_cache": name, "step_cache_threshold": 0.2}, acceleration="none")
    assert "local.step_cache decides" in said(told, "acceleration", "supported")
    assert CacheChoice.of(told.require(), T2V) == CacheChoice(name, 0.2)


def test_without_one_the_field_of_the_provider_chooses() -> None:
    assert CacheChoice.of(report(None).require(), T2V) == CacheChoice("first-block", 0.06)
    assert CacheChoice.of(report(None, acceleration="none").require(), T2V) is None
    idle = report({"step_cache_threshold": 0.2}, acceleration="none")
    assert "does nothing while step_cache is off" in said(idle, "local.step_cache_threshold", "warning")
    assert CacheChoice.of(idle.require(), T2V) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"own_engine": False}, "EasyCache"),
        ({"local": {"context_frames": 41}}, "context_frames"),
        ({"kind": "text-to-video-turbo"}, "four steps"),
        ({"kind": "speech-to-video", "family": S2V, **SPOKEN}, "speech"),
        ({"kind": "image-to-video", "family": TOY, "local": MAG, "image_url": "a.png"}, "toy-image"),
    ],
)
def test_it_is_refused_with_the_way_out(changed: dict[str, Any], words: str) -> None:
    local = {"step_cache": "easycache", **changed.pop("local", {})}
    refused = said(report(local, **changed), "local.step_cache", "impossible")
    assert words in refused
    assert any(way_out in refused for way_out in ("leave it out", "leave this out", "use first-block"))


def test_a_receipt_names_its_cache_also_an_old_one() -> None:
    names = {"first block": "first-block", None: "first-block", "magcache": "magcache"}
    for recorded, name in names.items():
        content = {"threshold": 0.1} if recorded is None else {"cache": recorded, "threshold": 0.1}
        assert CacheChoice.of_receipt(content) == CacheChoice(name, 0.1)

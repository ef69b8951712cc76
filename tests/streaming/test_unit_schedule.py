"""Which unit goes where and when, for any run and any number of slots."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.streaming.unit_schedule import Unit, UnitSchedule, kept_units, make_unit_schedule

FORWARDS = st.lists(st.sampled_from(["high", "low"]), min_size=1, max_size=6)


def uses_of(forwards: list[str], units: int) -> list[Unit]:
    return [Unit(name, number) for name in forwards for number in range(units)]


def kept(units: int, slots: int, ring: int) -> set[Unit]:
    return {Unit(name, number) for name in ("high", "low") for number in kept_units(units, slots, ring)}


def follow(table: UnitSchedule, contents: list[Unit | None]) -> None:
    """Carry it out, and see that no use finds anything but its unit."""
    held, made = list(contents), 0
    for use, (unit, slot, served) in enumerate(zip(table.uses, table.slots, table.served, strict=True)):
        while made <= served:
            load = table.loads[made]
            assert load.after < use <= load.first
            held[load.slot] = load.unit
            made += 1
        assert held[slot] == unit
    assert made == len(table.loads)


@given(FORWARDS, st.integers(1, 6), st.integers(1, 9), st.integers(1, 4), st.data())
def test_every_use_finds_its_unit_and_nothing_is_overwritten_before(
    forwards: list[str], units: int, slots: int, ring: int, data: st.DataObject
) -> None:
    known = st.one_of(st.none(), st.sampled_from(uses_of(["high", "low"], units)))
    contents = data.draw(st.lists(known, min_size=slots, max_size=slots, unique_by=lambda u: u or object()))
    uses = uses_of(forwards, units)
    table = make_unit_schedule(uses, slots, kept(units, slots, min(ring, slots)), contents)
    assert table.uses == tuple(uses)
    follow(table, contents)
    last = [-1] * slots
    for load in table.loads:
        before = [use for use in range(load.first) if table.slots[use] == load.slot]
        assert load.after == (before[-1] if before else -1)
        assert last[load.slot] < load.first <= load.last
        last[load.slot] = load.last


def test_with_room_for_all_every_unit_is_loaded_once_and_waits_for_nothing() -> None:
    table = make_unit_schedule(uses_of(["high"] * 3 + ["low"] * 3, 4), 8, kept(4, 8, 0))
    assert len(table.loads) == 8
    assert all(load.after == -1 for load in table.loads)


def test_in_the_slots_of_one_expert_the_other_follows_unit_by_unit() -> None:
    table = make_unit_schedule(uses_of(["high", "high", "low", "low"], 5), 5, kept(5, 5, 0))
    assert [load.unit.expert for load in table.loads] == ["high"] * 5 + ["low"] * 5
    assert [load.after for load in table.loads[5:]] == [5, 6, 7, 8, 9]  # as the last high forward leaves them


def test_what_is_there_already_is_not_loaded_again() -> None:
    contents = [Unit("low", number) for number in range(4)]
    table = make_unit_schedule(uses_of(["low"] * 2, 4), 4, kept(4, 4, 0), contents)
    assert table.loads == ()
    assert set(table.served) == {-1}


def test_a_part_that_stays_is_loaded_once() -> None:
    stay = kept(8, 5, 2)
    table = make_unit_schedule(uses_of(["high"] * 4, 8), 5, stay)
    counts = {unit: sum(load.unit == unit for load in table.loads) for unit in table.uses}
    assert {unit for unit, count in counts.items() if count == 1} == {u for u in stay if u.expert == "high"}
    assert {count for unit, count in counts.items() if unit not in stay} == {4}


@pytest.mark.parametrize(("units", "slots", "ring"), [(41, 20, 3), (41, 38, 3), (8, 5, 2), (41, 3, 3)])
def test_what_passes_is_spread_evenly(units: int, slots: int, ring: int) -> None:
    stay = kept_units(units, slots, ring)
    assert len(stay) == slots - ring
    passing = [number for number in range(units) if number not in stay]
    gaps = [after - before for before, after in pairwise(passing)]
    assert max(gaps) - min(gaps) <= 1


def test_with_enough_slots_everything_stays() -> None:
    assert kept_units(41, 41, 0) == kept_units(41, 82, 0) == frozenset(range(41))


def test_what_an_earlier_run_left_does_not_narrow_the_ring() -> None:
    left: list[Unit | None] = [Unit("low", number) for number in range(6)]
    table = make_unit_schedule(uses_of(["high"] * 3, 9), 6, kept(9, 6, 3), left)
    fresh = make_unit_schedule(uses_of(["high"] * 3, 9), 6, kept(9, 6, 3))
    assert [load.after for load in table.loads] == [load.after for load in fresh.loads]

"""ComfyUI's models and ours make room for each other, and nothing of ours stays when it should not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

OURS, CORE = "WanDuetNetwork", "CoreModel"

Scene = dict[str, Any]


@pytest.fixture(scope="module")
def scenes(told_by: Callable[[str], dict[str, Scene]]) -> dict[str, Scene]:
    """What happened in each scene of sharing.py."""
    return told_by("sharing.py")


def test_a_core_model_leaves_when_ours_needs_the_room_and_not_before(scenes: dict[str, Scene]) -> None:
    scene = scenes["ours_makes_core_leave"]
    assert scene["both"] == [OURS, CORE]
    assert scene["released"] == [CORE]
    assert scene["ours"] == [OURS]
    assert scene["core bytes"] == 0
    assert scene["end"] == []


def test_what_core_would_give_back_counts_as_free(scenes: dict[str, Scene]) -> None:
    reserved = scenes["others_keep_theirs"]["default"]
    assert scenes["ours_makes_core_leave"]["free"] == 4 * 2**30 - reserved


def test_what_comfyui_reserves_for_others_is_not_ours_and_is_taken_off_once(scenes: dict[str, Scene]) -> None:
    scene, gib = scenes["others_keep_theirs"], 2**30
    assert scene["default"] >= 400 * 2**20
    assert scene["by default"] == 24 * gib - scene["default"]
    assert (scene["free"], scene["total"]) == (18 * gib, 24 * gib)
    assert scene["asked"] == pytest.approx((10 * 1.1 + 3 + 6) * gib)  # core adds a tenth, and its 6
    assert scene["too much"] == 0


def test_a_cap_on_the_process_counts_unless_what_is_reserved_leaves_less(scenes: dict[str, Scene]) -> None:
    scene, gib = scenes["a_cap_on_the_process"], 2**30
    assert scene["total"] == 12 * gib
    # 12 may be taken, 3 are, and 1 of them can be unloaded. Of the card 23 are free.
    assert scene["1 reserved"] == (12 - 3 + 1) * gib
    assert scene["20 reserved"] == (23 - 20 + 1) * gib


def test_the_vae_runs_on_the_cpu_where_comfyui_is_told_so(scenes: dict[str, Scene]) -> None:
    scene = scenes["vae_on_the_cpu"]
    assert scene["same without the flag"]
    assert scene["devices"] == ["cpu:0", "cpu", "cpu:0"]
    assert scene["dtype"] == "torch.float32"
    assert scene["free"] == pytest.approx(scene["main memory"], rel=0.2)
    assert (scene["frames"], scene["decoded on"]) == (1, "cpu")
    assert scene["core bytes"] == 3 * 2**30  # nothing had to leave the card


def test_the_gibibyte_that_core_says_for_directml_is_no_knowledge(scenes: dict[str, Scene]) -> None:
    assert scenes["nothing_is_known_of_directml"] == {"free": None, "total": None}


def test_main_memory_is_that_of_the_command_line(scenes: dict[str, Scene]) -> None:
    scene = scenes["main_memory"]
    assert scene["free"] == pytest.approx(scene["same"] - scene["default"], rel=0.1)
    assert scene["total"] == scene["in all"]


def test_room_is_made_for_the_work_too(scenes: dict[str, Scene]) -> None:
    assert scenes["working_room_counts"]["listed"] == [OURS]


def test_one_expert_stays_after_a_run_and_is_used_again(scenes: dict[str, Scene]) -> None:
    scene = scenes["a_run_and_then_core"]
    assert scene["first"]["loaded"] == ["high-noise and low-noise expert"]
    assert scene["first"]["networks"] == 1
    assert scene["same again"]["loaded"] == []
    assert scene["with a LoRA"]["loaded"] == []
    assert scene["with a LoRA"]["listed"] == [OURS, CORE]


def test_never_more_than_one_of_our_networks_is_listed_or_alive(scenes: dict[str, Scene]) -> None:
    seen = [
        moment
        for scene in scenes.values()
        for run in scene.values()
        if isinstance(run, dict) and "seen" in run
        for moment in run["seen"]
    ]
    assert seen
    assert all(moment["listed"].count(OURS) <= 1 and moment["networks"] <= 1 for moment in seen)


def test_an_expert_that_stayed_leaves_when_core_needs_the_room(scenes: dict[str, Scene]) -> None:
    assert scenes["a_run_and_then_core"]["core came"] == {"listed": [CORE], "networks": 0}


def test_core_is_gone_before_a_unit_of_ours_is_filled(scenes: dict[str, Scene]) -> None:
    before, *filling = scenes["a_run_and_then_core"]["after"]["seen"]
    assert before["listed"] == [CORE]
    assert all(moment["listed"] == [OURS] for moment in filling)


def test_unload_models_frees_ours_and_the_next_run_works(scenes: dict[str, Scene]) -> None:
    scene = scenes["unload_button"]
    assert scene["kept"]["networks"] == 1
    assert scene["unloaded"] == {"listed": [], "networks": 0}
    assert scene["again"]["loaded"] == ["low-noise expert"]


def test_an_expert_goes_with_the_last_model_that_was_made_from_its_loader(scenes: dict[str, Scene]) -> None:
    scene = scenes["loader_forgotten"]
    assert scene["kept"]["networks"] == 1
    assert scene["gone"] == {"listed": [], "networks": 0}


def test_nothing_stays_on_a_cpu_where_comfyui_never_asks_for_room(scenes: dict[str, Scene]) -> None:
    run = scenes["keeps_nothing_on_a_cpu"]["run"]
    assert (run["networks"], run["listed"]) == (0, [])

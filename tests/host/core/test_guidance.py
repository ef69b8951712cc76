"""CFG-Zero* is that of ComfyUI's node, and NAG acts in our samplers and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from graphs import Bench, core_stage, distance, node, our_stage, ours, start

from wan_duet.pipelines.errors import HostError

UNGUIDED = {"guidance_scale": 1.0, "guidance_scale_2": 1.0}


def test_cfg_zero_star_is_the_arithmetic_of_comfyuis_node(told_by: Callable[[str], Any]) -> None:
    apart = told_by("cfg_zero_star.py")
    assert len(apart) == 12
    assert max(apart) <= 1e-6


def test_our_sampler_with_cfg_zero_star_is_comfyuis_with_its_node(bench: Bench) -> None:
    graph = start() | {
        "plain": ours(),
        "whole": ours(cfg_zero_star="both"),
        "first of ours": our_stage("high", ["latent", 0]),
        "second of ours": our_stage("low", ["first of ours", 0]),
        "star high": node("CFGZeroStar", model=["core high", 0]),
        "star low": node("CFGZeroStar", model=["core low", 0]),
        "first": core_stage("high", ["latent", 0]),
        "second": core_stage("low", ["first", 0]),
    }
    for stage, name in (("high", "first"), ("low", "second")):
        graph[name]["inputs"]["model"] = [f"star {stage}", 0]
        graph[f"{name} of ours"]["inputs"]["cfg_zero_star"] = True
    plain, whole, chained, native = bench.values(graph, "plain", "whole", "second of ours", "second")
    assert distance(whole, native) <= 1e-5
    assert distance(chained, native) <= 1e-5
    assert distance(plain, native) > 1e-3


def test_nag_acts_at_guidance_1_and_leads_away_from_its_own_negative(bench: Bench) -> None:
    nag = {**UNGUIDED, "nag_scale": 5.0}
    graph = start() | {
        "other": node("ProbeConditioning", seed=3, tokens=512, padded_to=512, extra="{}"),
        "plain": ours(**UNGUIDED),
        "off": ours(**UNGUIDED, nag_scale=1.0, nag_alpha=0.5, nag_negative=["other", 0]),
        "nag": ours(**nag),
        "same": ours(**nag, nag_negative=["negative", 0]),
        "of other": ours(**nag, nag_negative=["other", 0]),
        "first": our_stage("high", ["latent", 0]),
        "second": our_stage("low", ["first", 0]),
    }
    for name in ("first", "second"):
        graph[name]["inputs"] |= {"guidance_scale": 1.0, "nag_scale": 5.0}
    plain, off, made, same, other, chained = bench.values(
        graph, "plain", "off", "nag", "same", "of other", "second"
    )
    assert torch.equal(off, plain)
    assert torch.equal(same, made)
    assert distance(made, plain) > 1e-3
    assert distance(other, made) > 1e-3
    assert distance(chained, made) <= 1e-5


@pytest.mark.parametrize("setting", [{"nag_scale": 5.0}, {"cfg_zero_star": "both"}])
def test_a_model_of_comfyui_is_patched_and_not_guided_here(bench: Bench, setting: dict[str, Any]) -> None:
    bridge = node("WanDuetFromComfy", high=["core high", 0], low=["core low", 0])
    graph = start() | {"bridge": bridge, "whole": ours(model=["bridge", 0], **setting)}
    with pytest.raises(HostError, match="guided by ComfyUI; patch its MODEL instead"):
        bench.values(graph, "whole")

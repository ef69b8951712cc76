"""Our samplers on ComfyUI's MODEL: the same numbers as ComfyUI's samplers, and as our own engine."""

from __future__ import annotations

import pytest
from graphs import SEED, Bench, Node, distance, node, our_stage, ours, start

from wan_duet.pipelines.errors import HostError


def host(**changed: object) -> dict[str, Node]:
    """What a sampler needs, with the model made of core's MODELs."""
    graph = start(**changed)
    high, low = ["core high", 0], ["core low", 0]
    return graph | {"own": graph["model"], "model": node("WanDuetFromComfy", high=high, low=low)}


def simple(steps: int = 6) -> dict[str, Node]:
    """Core's own noise levels."""
    return {
        "simple": node("BasicScheduler", model=["core high", 0], scheduler="simple", steps=steps, denoise=1.0)
    }


def k_sampler(expert: str, latent: list[object], first: int, last: int, steps: int = 6) -> Node:
    begins = first == 0
    return node(
        "KSamplerAdvanced",
        model=[f"core {expert}", 0],
        add_noise="enable" if begins else "disable",
        noise_seed=SEED,
        steps=steps,
        cfg={"high": 3.5, "low": 4.0}[expert],
        sampler_name="euler",
        scheduler="simple",
        positive=["positive", 0],
        negative=["negative", 0],
        latent_image=latent,
        start_at_step=first,
        end_at_step=last,
        return_with_leftover_noise="disable" if last == steps else "enable",
    )


# sigmas of `simple` at shift 8: 1, .976, .941, .889, .8, .615
def test_two_k_samplers_equal_one_two_stage_sampler(bench: Bench) -> None:
    graph = (
        host()
        | simple()
        | {
            "ours": ours(sigmas=["simple", 0], boundary=0.875),
            "first": k_sampler("high", ["latent", 0], 0, 4),
            "second": k_sampler("low", ["first", 0], 4, 6),
        }
    )
    whole, native = bench.values(graph, "ours", "second")
    assert distance(whole, native) <= 1e-6


@pytest.mark.parametrize("solver", ["euler", "unipc", "dpm++"])
def test_a_host_model_equals_our_own_engine(bench: Bench, solver: str) -> None:
    graph = host(solver=solver) | {"ours": ours(solver), "engine": ours(solver, model=["own", 0])}
    ours_, engine = bench.values(graph, "ours", "engine")
    assert distance(ours_, engine) <= 1e-5


def test_two_stage_samplers_equal_one_two_stage_sampler(bench: Bench) -> None:
    graph = host() | {
        "whole": ours(),
        "first": our_stage("high", ["latent", 0]),
        "second": our_stage("low", ["first", 0]),
    }
    whole, chained = bench.values(graph, "whole", "second")
    assert distance(chained, whole) <= 1e-6


def test_a_missing_low_expert_is_named_by_its_input(bench: Bench) -> None:
    graph = host() | {"whole": ours(boundary=0.9)}
    del graph["model"]["inputs"]["low"]
    with pytest.raises(HostError, match="low: not connected to Wan Duet Model from ComfyUI"):
        bench.values(graph, "whole")

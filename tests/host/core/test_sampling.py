"""Our samplers and core's on equal weights: what goes from one to the other means the same."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
import torch
from graphs import Bench, Node, core_stage, distance, node, our_stage, ours, start
from safetensors.torch import load_file
from torch import Tensor

from wan_duet.pipelines.errors import HostError


def test_two_stages_chained_equal_both_in_one(bench: Bench) -> None:
    graph = start() | {
        "whole": ours(),
        "first": our_stage("high", ["latent", 0]),
        "second": our_stage("low", ["first", 0]),
    }
    whole, chained = bench.values(graph, "whole", "second")
    assert distance(chained, whole) <= 1e-5


def test_cores_samplers_on_our_sigmas_equal_ours(bench: Bench) -> None:
    graph = start() | {
        "whole": ours(),
        "first": core_stage("high", ["latent", 0]),
        "second": core_stage("low", ["first", 0]),
    }
    whole, native = bench.values(graph, "whole", "second")
    assert distance(whole, native) <= 1e-5


def test_either_side_continues_what_the_other_began(bench: Bench) -> None:
    graph = start() | {
        "whole": ours(),
        "ours first": our_stage("high", ["latent", 0]),
        "then core": core_stage("low", ["ours first", 0]),
        "core first": core_stage("high", ["latent", 0]),
        "then ours": our_stage("low", ["core first", 0]),
    }
    whole, *mixed = bench.values(graph, "whole", "then core", "then ours")
    assert [distance(value, whole) <= 1e-5 for value in mixed] == [True, True]


def test_sigmas_from_a_wire_equal_the_same_settings(bench: Bench) -> None:
    graph = start() | {"own": ours(), "wired": ours(sigmas=["sigmas", 2], steps=99, shift=1.0)}
    own, wired = bench.values(graph, "own", "wired")
    assert torch.equal(own, wired)


@pytest.mark.parametrize("tokens", [1, 77])
def test_embeddings_of_any_length_mean_the_same_padded_and_not(bench: Bench, tokens: int) -> None:
    (short,) = bench.values(start(tokens=tokens, padded_to=tokens) | {"whole": ours()}, "whole")
    (padded,) = bench.values(start(tokens=tokens, padded_to=512) | {"whole": ours()}, "whole")
    assert torch.equal(short, padded)


def test_our_prompts_drive_cores_sampler(bench: Bench, tiny: ModuleType) -> None:
    text = node("WanDuetEncodePrompt", model=["model", 0], prompt="a red ball", negative_prompt="")
    graph = start() | {"text": text, "whole": ours(), "first": core_stage("high", ["latent", 0])}
    graph |= {"second": core_stage("low", ["first", 0])}
    for name in ("whole", "first", "second"):
        graph[name]["inputs"] |= {"positive": ["text", 0], "negative": ["text", 1]}
    whole, native = bench.values(graph, "whole", "second")
    assert distance(whole, native) <= 1e-5


def test_a_picture_means_the_same_to_both_sides_whoever_added_it(bench: Bench) -> None:
    """First and last frame, by our node and by core's, each through our sampler and through core's."""
    size = {"width": 80, "height": 64}
    pictures = {
        name: node("EmptyImage", batch_size=1, color=colour, **size)
        for name, colour in (("first", 0xD03020), ("last", 0x2040C0))
    }
    text = {"positive": ["positive", 0], "negative": ["negative", 0], **size}
    graph = start() | {
        **pictures,
        "vae": node("VAELoader", vae_name="toy.safetensors"),
        "by us": node(
            "WanDuetImageCondition",
            model=["model", 0],
            image=["first", 0],
            end_image=["last", 0],
            num_frames=9,
            **text,
        ),
        "by core": node(
            "WanFirstLastFrameToVideo",
            vae=["vae", 0],
            start_image=["first", 0],
            end_image=["last", 0],
            length=9,
            batch_size=1,
            **text,
        ),
        "model": node("WanDuetLoadModel", model="tiny/wan image", precision="auto"),
        "core high": node("UNETLoader", unet_name="image high.safetensors", weight_dtype="default"),
        "core low": node("UNETLoader", unet_name="image low.safetensors", weight_dtype="default"),
    }
    for side in ("by us", "by core"):
        given = {"positive": [side, 0], "negative": [side, 1]}
        graph[f"ours {side}"] = ours(latent=[side, 2])
        graph[f"first stage {side}"] = core_stage("high", [side, 2])
        graph[f"core {side}"] = core_stage("low", [f"first stage {side}", 0])
        for name in (f"ours {side}", f"first stage {side}", f"core {side}"):
            graph[name]["inputs"] |= given
    reference, *others = bench.values(graph, "ours by us", "core by us", "ours by core", "core by core")
    assert [distance(value, reference) <= 1e-5 for value in others] == [True, True, True]


def test_a_key_we_would_ignore_is_refused_in_the_words_of_the_node(bench: Bench) -> None:
    graph = start(extra=json.dumps({"strength": 0.5})) | {"whole": ours()}
    with pytest.raises(HostError, match="positive: has strength"):
        bench.values(graph, "whole")


def test_high_and_low_sigmas_meet_at_the_boundary(bench: Bench, tiny: ModuleType) -> None:
    high, low, both = sigmas(bench, start(solver="unipc"))
    assert torch.equal(torch.cat([high[:-1], low]), both)
    assert high[-1] == low[0]
    assert high[-2] >= tiny.BOUNDARY > low[0]
    assert both.dtype == torch.float32
    assert both[-1] == 0


def sigmas(bench: Bench, graph: dict[str, Node]) -> list[Tensor]:
    outputs = {"high": 0, "low": 1, "all": 2}
    saves = {
        name: node("ProbeSave", value=["sigmas", slot], name=f"{name}.safetensors")
        for name, slot in outputs.items()
    }
    bench.client.run(graph | saves)
    files = [bench.comfyui.output / f"{name}.safetensors" for name in outputs]
    values = [load_file(file)["value"] for file in files]
    for file in files:
        file.unlink()
    return values


def test_a_stage_without_steps_is_an_error_only_where_it_is_connected(bench: Bench) -> None:
    graph = start() | {"low": node("ProbeSave", value=["sigmas", 1], name="low.safetensors")}
    graph["sigmas"]["inputs"]["boundary"] = 1.0  # sigma 1 alone is high
    graph["sigmas"]["inputs"]["solver"] = "unipc"  # and this grid begins below it
    bench.client.run(graph)
    assert (bench.comfyui.output / "low.safetensors").exists()
    graph |= {"high": node("ProbeSave", value=["sigmas", 0], name="high.safetensors")}
    with pytest.raises(HostError, match=r"none of the \d+ steps uses the high-noise expert"):
        bench.client.run(graph)

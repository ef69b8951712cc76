"""Run Local on ComfyUI's MODEL, CLIP, VAE and CLIP_VISION, once for every kind of request.

Each run has the latents of the same run in single steps, bit for bit; and each condition of these steps acts
as that of ComfyUI's own node.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from graphs import SEED, Bench, Node, defaults, distance, node

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.generate.local_receipt import latents_hash
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.video.probe import probe

PROMPT = "a red ball"
SIZE = {"width": 96, "height": 64}  # of the group `local`: no kind has a size as small among its own
FRAMES, STEPS = 17, 2
T2V = ("narrow t2v 4step high", "narrow t2v 4step low")
I2V = ("narrow i2v 4step high", "narrow i2v 4step low")
PICTURE, LAST = ["picture", 0], ["last", 0]


@dataclass(frozen=True)
class Case:
    """A kind of request on MODELs of these files.

    frames:  of the result.
    asked:   fields of the request. sockets: its inputs.
    begins:  the node of this pack that makes what the sampler starts from, and its inputs.
    steps:   inputs of the sampler, where the request has no such field or another name for it.
    alone:   no sampler node does the same in single steps.
    """

    kind: str
    files: tuple[str, ...]
    family: str
    begins: tuple[str, Mapping[str, Any]]
    asked: Mapping[str, Any]
    sockets: Mapping[str, list[object]] = field(default_factory=dict)
    frames: int = FRAMES
    steps: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


QUICK = {"num_inference_steps": STEPS, "guidance_scale": 3.5, "shift": 5.0}
VIDEO = {**QUICK, "num_frames": FRAMES}
BOTH = {"guidance_scale_2": 4.0}
EMPTY: tuple[str, Mapping[str, Any]] = ("WanDuetEmptyLatent", {})
FIRST = ("WanDuetImageCondition", {"image": PICTURE})
FIRST_AND_LAST = ("WanDuetImageCondition", {"image": PICTURE, "end_image": LAST})
CLIP = ("WanDuetVideoCondition", {"video": ["video", 0], "resample_fps": False, "frames_per_second": 16.0})
T2V_A14B, I2V_A14B, SMALL = "wan2.2-t2v-a14b", "wan2.2-i2v-a14b", "wan2.2-ti2v-5b"
FAST = ("narrow small FastWan",)
SEES = {"image": PICTURE}
SEES_BOTH = {"image": PICTURE, "end_image": LAST}
ONE_OF_2_1 = ("narrow t2v 4step high",)  # one expert alone has the layout of Wan 2.1
UNGUIDED = {"guidance_scale": 1.0, "guidance_scale_2": 1.0}
LIGHTNING = {"steps": 4, "shift": 5.0, "solver": "lightning", **UNGUIDED}
WAN_2_1 = {"steps": STEPS, "guidance_scale": 1.0, "flow_shift": 5.0}
CASES = {
    "text": Case("WanDuetTextToVideo", T2V, T2V_A14B, EMPTY, VIDEO | BOTH),
    "first image": Case("WanDuetImageToVideo", I2V, I2V_A14B, FIRST, VIDEO | BOTH, SEES),
    "first and last image": Case(
        "WanDuetImageToVideo", I2V, I2V_A14B, FIRST_AND_LAST, VIDEO | BOTH, SEES_BOTH
    ),
    "2.1 image": Case("WanDuetImageToVideo", ("narrow i2v 2.1",), "wan2.1-i2v-14b", FIRST, VIDEO, SEES),
    "2.1 first and last image": Case(
        "WanDuetImageToVideo", ("narrow flf2v 2.1",), "wan2.1-flf2v-14b", FIRST_AND_LAST, VIDEO, SEES_BOTH
    ),
    "video": Case(
        "WanDuetVideoToVideo",
        T2V,
        T2V_A14B,
        CLIP,
        VIDEO | BOTH | {"strength": 0.75, "num_inference_steps": 4},
        {"video": ["video", 0]},
    ),
    "text to image": Case("WanDuetTextToImage", T2V, T2V_A14B, EMPTY, QUICK | BOTH, frames=1),
    "small text": Case("WanDuetSmallTextToVideo", FAST, SMALL, EMPTY, VIDEO),
    "small image": Case("WanDuetSmallImageToVideo", FAST, SMALL, FIRST, VIDEO, SEES),
    "small text to image": Case("WanDuetSmallTextToImage", FAST, SMALL, EMPTY, QUICK, frames=1),
    "small distill": Case("WanDuetSmallDistill", FAST, SMALL, EMPTY, VIDEO | {"guidance_scale": 1.0}),
    "legacy text": Case(
        "WanDuetLegacyTextToVideo", T2V, T2V_A14B, EMPTY, VIDEO | UNGUIDED | {"num_frames": 81}, frames=81
    ),
    "FastVideo": Case(
        "WanDuetSmallFastVideo", FAST, SMALL, EMPTY, {"num_frames": FRAMES, "guidance_scale": 1.0}, alone=True
    ),
    "turbo text": Case("WanDuetTurboTextToVideo", T2V, T2V_A14B, EMPTY, {}, frames=81, steps=LIGHTNING),
    "turbo first image": Case(
        "WanDuetTurboImageToVideo", I2V, I2V_A14B, FIRST, {}, SEES, frames=81, steps=LIGHTNING
    ),
    "2.1 text": Case(
        "WanDuetWan21TextToVideo",
        ONE_OF_2_1,
        "wan2.1-t2v-14b",
        EMPTY,
        WAN_2_1,
        frames=81,
        steps={"shift": 5.0},
    ),
}
# What ComfyUI's own nodes make for the same: node, its pictures, and whether it gives conditioning.
OF_CORE: dict[str, tuple[str, Mapping[str, list[object]], bool]] = {
    "first image": ("WanImageToVideo", {"start_image": PICTURE}, True),
    "first and last image": (
        "WanFirstLastFrameToVideo",
        {"start_image": PICTURE, "end_image": LAST},
        True,
    ),
    "2.1 image": (
        "WanImageToVideo",
        {"start_image": PICTURE, "clip_vision_output": ["seen", 0]},
        True,
    ),
    "2.1 first and last image": (
        "WanFirstLastFrameToVideo",
        {
            "start_image": PICTURE,
            "end_image": LAST,
            "clip_vision_start_image": ["seen", 0],
            "clip_vision_end_image": ["seen last", 0],
        },
        True,
    ),
    "video": ("VAEEncode", {"pixels": ["clip", 0]}, False),
    "small image": ("Wan22ImageToVideoLatent", {"start_image": PICTURE}, False),
}


def model_of(case: Case) -> dict[str, Node]:
    parts: dict[str, Any] = {"clip": ["encoder", 0], "vae": [vae_of(case), 0]}
    graph = {
        "encoder": node("ProbeClip"),
        "vae": node("VAELoader", vae_name="narrow.safetensors"),
        "small vae": node("ProbeSmallVae", like=["vae", 0]),
        "sees": node("ProbeClipVision"),
    }
    for expert, file in zip(("high", "low"), case.files, strict=False):
        graph[expert] = node("UNETLoader", unet_name=f"{file}.safetensors", weight_dtype="default")
        parts[expert] = [expert, 0]
    if "2.1" in case.family:
        parts["clip_vision"] = ["sees", 0]
    return {**graph, "model": node("WanDuetFromComfy", **parts)}


def vae_of(case: Case) -> str:
    return "small vae" if case.family == SMALL else "vae"


def single_steps(case: Case) -> dict[str, Node]:
    """Up to the latents "sampled", from "begin"."""
    kind, inputs = case.begins
    model = {"model": ["model", 0]}
    text = {"positive": ["text", 0], "negative": ["text", 1]}
    given = {"positive": ["begin", 0], "negative": ["begin", 1], "latent": ["begin", 2]}
    asked = {"steps": case.asked.get("num_inference_steps"), "solver": "unipc", **case.asked, **case.steps}
    conditions = kind == "WanDuetImageCondition"
    return {
        "picture": node("EmptyImage", **SIZE, batch_size=1, color=0xD03020),
        "last": node("EmptyImage", **SIZE, batch_size=1, color=0x2040C0),
        "clip": node("EmptyImage", **SIZE, batch_size=case.frames, color=0x30A050),
        "video": node("CreateVideo", images=["clip", 0], fps=16.0),
        "text": node("WanDuetEncodePrompt", **model, prompt=PROMPT, negative_prompt=""),
        "begin": node(
            kind, **model, **SIZE, num_frames=case.frames, **inputs, **(text if conditions else {})
        ),
        "sampled": node(
            "WanDuetTwoStageSampler",
            **model,
            **(given if conditions else {**text, "latent": ["begin", 0]}),
            seed=SEED,
            steps=asked["steps"],
            guidance_scale=asked["guidance_scale"],
            guidance_scale_2=asked.get("guidance_scale_2", 3.5),
            shift=asked["shift"],
            solver=asked["solver"],
            boundary=-1.0,
            strength=asked.get("strength", 1.0),
        ),
    }


def requested(client: ComfyClient, case: Case) -> dict[str, Node]:
    settings = {**defaults(client, case.kind), "prompt": PROMPT, "seed": SEED, **case.asked}
    if "interpolator_model" in settings:
        settings |= {"interpolator_model": "none", "num_interpolated_frames": 0}
    run = {**defaults(client, "WanDuetRunLocal"), "save": True, "filename_prefix": "kind/made"}
    return {
        "request": node(case.kind, **settings, **case.sockets),
        "sized": node("WanDuetRequestLocal", request=["request", 0], **SIZE),
        "run": node("WanDuetRunLocal", **run, request=["sized", 0], model=["model", 0]),
        "receipt": node("ProbeText", value=["run", 4], name="receipt.json"),
    }


@pytest.mark.parametrize("name", CASES)
def test_a_kind_runs_and_has_the_latents_of_the_same_run_in_single_steps(
    bench: Bench, core_client: ComfyClient, name: str
) -> None:
    case = CASES[name]
    graph = model_of(case) | requested(core_client, case)
    if not case.alone:
        graph |= single_steps(case)
        graph["latents"] = node("ProbeSave", value=["sampled", 0], name="latents.safetensors")
    core_client.run(graph, timeout_s=1200)
    receipt = json.loads((bench.comfyui.output / "receipt.json").read_text())
    if not case.alone:
        assert receipt["latents_sha256"] == latents_hash(bench.saved("latents.safetensors"))
    assert (receipt["model"]["exactness"], receipt["model"]["family"]) == ("host", case.family)
    assert receipt["memory"]["residency"] is None  # ComfyUI's management decides
    made = {file.suffix: file for file in (bench.comfyui.output / "kind").iterdir()}
    if case.frames > 1:
        facts = probe(made[".mp4"])
        assert (facts.width, facts.height, facts.frames) == (*SIZE.values(), case.frames)
    assert ".json" in made
    for file in made.values():
        file.unlink()


def test_an_image_is_drawn_over_as_from_the_latents_of_comfyuis_own_vae(
    bench: Bench, core_client: ComfyClient
) -> None:
    """Within the rounding to 8 bits; another strength is far away."""
    over = {"strength": 0.75, "num_inference_steps": 4, **BOTH}
    case = Case("WanDuetImageToImage", T2V, T2V_A14B, EMPTY, QUICK | over, SEES, frames=1)
    graph = model_of(case) | single_steps(case) | requested(core_client, case)
    graph["begin"] = node("VAEEncode", vae=["vae", 0], pixels=PICTURE)
    weaker = {**graph["sampled"]["inputs"], "strength": 0.5}
    graph |= {
        "weaker": node("WanDuetTwoStageSampler", **weaker),
        "drawn": node("WanDuetDecode", model=["model", 0], latent=["sampled", 0]),
        "drawn weaker": node("WanDuetDecode", model=["model", 0], latent=["weaker", 0]),
        "run images": node("ProbeSave", value=["run", 1], name="run.safetensors"),
    }
    drawn, other = bench.values(graph, "drawn", "drawn weaker")
    made = bench.saved("run.safetensors")
    assert made.shape == drawn.shape == (1, SIZE["height"], SIZE["width"], 3)
    assert distance(made, drawn) < 1e-2 < distance(made, other)


def test_a_missing_image_encoder_is_named_by_the_input_that_takes_it(core_client: ComfyClient) -> None:
    case = CASES["2.1 image"]
    graph = model_of(case) | single_steps(case) | requested(core_client, case)
    del graph["model"]["inputs"]["clip_vision"], graph["sampled"], graph["begin"]
    with pytest.raises(HostError, match="clip_vision: not connected to Wan Duet Model from ComfyUI"):
        core_client.run(graph)


@pytest.mark.parametrize("name", OF_CORE)
def test_a_condition_acts_as_that_of_comfyuis_own_node(bench: Bench, name: str) -> None:
    case = replace(CASES[name], frames=9)
    kind, inputs, conditions = OF_CORE[name]
    graph = model_of(case) | single_steps(case)
    text = {"positive": ["core text", 0], "negative": ["core no text", 0]}
    given = {"positive": ["made", 0], "negative": ["made", 1], "latent": ["made", 2]}
    shape = {**SIZE, "length": 9, "batch_size": 1}
    look = {"clip_vision": ["sees", 0], "crop": "none"}
    graph |= {
        "core text": node("CLIPTextEncode", clip=["encoder", 0], text=PROMPT),
        "core no text": node("CLIPTextEncode", clip=["encoder", 0], text=""),
        "seen": node("CLIPVisionEncode", **look, image=PICTURE),
        "seen last": node("CLIPVisionEncode", **look, image=LAST),
        "made": node(
            kind,
            vae=[vae_of(case), 0],
            **inputs,
            **(text if conditions else {}),
            **({} if kind == "VAEEncode" else shape),
        ),
        "plain": node("WanDuetEmptyLatent", model=["model", 0], **SIZE, num_frames=9),
    }
    sampler = graph["sampled"]["inputs"]
    graph["core"] = node("WanDuetTwoStageSampler", **{**sampler, **(given if conditions else text)})
    graph["without"] = node("WanDuetTwoStageSampler", **{**sampler, **text, "latent": ["plain", 0]})
    if not conditions:
        graph["core"]["inputs"]["latent"] = ["made", 0]
    ours, core, without = bench.values(graph, "sampled", "core", "without")
    assert distance(ours, core) <= 2e-4  # rounding of two VAEs, over all steps
    assert distance(ours, without) > 1e-2

"""Graphs that samplers share in tests, and how their results are read."""

from __future__ import annotations

from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI

MODEL = "tiny/wan 4096"
SEED = 5
SOURCES = {"model": ["model", 0], "positive": ["positive", 0], "negative": ["negative", 0]}
STEPS = {"steps": 6, "shift": 5.0, "boundary": -1.0}

Node = dict[str, Any]


def node(kind: str, **inputs: object) -> Node:
    return {"class_type": kind, "inputs": inputs}


def start(
    solver: str = "euler", tokens: int = 512, padded_to: int = 512, extra: str = "{}"
) -> dict[str, Node]:
    """Everything that a sampler needs."""
    text = {"tokens": tokens, "padded_to": padded_to, "extra": extra}
    return {
        "model": node("WanDuetLoadModel", model=MODEL, precision="auto"),
        "positive": node("ProbeConditioning", seed=1, **text),
        "negative": node("ProbeConditioning", seed=2, **{**text, "extra": "{}"}),
        "latent": node("WanDuetEmptyLatent", model=["model", 0], width=80, height=64, num_frames=9),
        "sigmas": node("WanDuetSigmas", model=["model", 0], solver=solver, **STEPS),
        "core high": node("UNETLoader", unet_name="high.safetensors", weight_dtype="default"),
        "core low": node("UNETLoader", unet_name="low.safetensors", weight_dtype="default"),
        "euler": node("KSamplerSelect", sampler_name="euler"),
    }


def ours(solver: str = "euler", **changed: object) -> Node:
    settings = {"seed": SEED, "guidance_scale": 3.5, "guidance_scale_2": 4.0, "strength": 1.0, **STEPS}
    wires = {**SOURCES, "latent": ["latent", 0]}
    return node("WanDuetTwoStageSampler", **{**wires, **settings, "solver": solver, **changed})


def our_stage(stage: str, latent: list[object], **changed: object) -> Node:
    scale, output = {"high": (3.5, 0), "low": (4.0, 1)}[stage]
    settings = {"sigmas": ["sigmas", output], "seed": SEED, "guidance_scale": scale, "solver": "euler"}
    add_noise = stage == "high"
    settings = {**settings, "stage": stage, "latent": latent, "add_noise": add_noise, **changed}
    return node("WanDuetStageSampler", **SOURCES, **settings)


def core_stage(stage: str, latent: list[object]) -> Node:
    scale, output = {"high": (3.5, 0), "low": (4.0, 1)}[stage]
    return node(
        "SamplerCustom",
        model=[f"core {stage}", 0],
        positive=["positive", 0],
        negative=["negative", 0],
        add_noise=stage == "high",
        noise_seed=SEED,
        cfg=scale,
        sampler=["euler", 0],
        sigmas=["sigmas", output],
        latent_image=latent,
    )


def defaults(client: ComfyClient, node_id: str) -> dict[str, Any]:
    """Every widget of a node, as it comes."""
    inputs = client.get(f"/object_info/{node_id}")[node_id]["input"]
    rows = {**inputs["required"], **inputs.get("optional", {})}
    return {name: row[1]["default"] for name, row in rows.items() if "default" in row[1]}


class Bench:
    def __init__(self, comfyui: HeadlessComfyUI, client: ComfyClient) -> None:
        self.comfyui, self.client = comfyui, client

    def values(self, graph: dict[str, Node], *names: str) -> list[Tensor]:
        """The first output of each named node, bit for bit."""
        saves = {
            f"save {name}": node("ProbeSave", value=[name, 0], name=f"{name}.safetensors") for name in names
        }
        self.client.run({**graph, **saves}, timeout_s=600)  # a machine may be busy
        return [self.saved(f"{name}.safetensors") for name in names]

    def saved(self, name: str) -> Tensor:
        """What a ProbeSave wrote, once."""
        file = self.comfyui.output / name
        value = load_file(file)["value"]
        file.unlink()
        return value


def distance(one: Tensor, other: Tensor) -> float:
    """Relative L2."""
    return float((one - other).norm() / other.norm())

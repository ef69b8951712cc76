"""Every node of a ComfyUI that takes a MODEL and gives one, under our Two-Stage Sampler and under ComfyUI's.

A row says how far both samplers are apart with the patch on both experts, and how far the patch moves the
result. WAN_DUET_PATCH_TABLE=FILE in the environment of test_patches.py writes the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphs import SEED, SOURCES, Bench, Node, distance, node

from wan_duet.pipelines.errors import HostError

SAME = 1e-5  # relative L2 between both samplers
ACTS = 1e-6  # relative L2 between with and without the patch
EXPERTS = ("high", "low")
BOUNDARY = 0.85
STEPS, SPLIT = 6, 4  # ComfyUI's `simple` at shift 8: 1, .976, .941, .889 | .8, .615

# What a node needs in order to act on this model and these few steps. Others run as they come.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "ModelSamplingSD3": {"shift": 3.0},
    "LoraLoaderModelOnly": {"lora_name": "wan.safetensors", "strength_model": 1.0},
    "SkipLayerGuidanceDiT": {
        "double_layers": "0",
        "single_layers": "",
        "scale": 3.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
    },
    "EasyCache": {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0},
    "LazyCache": {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0},
    "WanContextWindowsManual": {"context_length": 9, "context_overlap": 4},
    "CFGNorm": {"strength": 0.5},
}
# Where the switch falls when a patch changes the noise levels: at shift 3 they are 1, .938, .857 | .75, ...
SPLITS = {"ModelSamplingSD3": 3}


@dataclass(frozen=True)
class Row:
    """apart: between both samplers; moved: by the patch, under ours. None where there is a problem."""

    name: str
    apart: float | None = None
    moved: float | None = None
    problem: str = ""

    def text(self) -> str:
        if self.problem:
            return f"| {self.name} | | | {self.problem} |"
        verdict = "acts" if (self.moved or 0) > ACTS else "no effect in core either"
        if (self.apart or 0) > SAME:
            verdict = "DIFFERENT"
        return f"| {self.name} | {self.apart:.1e} | {self.moved:.1e} | {verdict} |"


def patch_nodes(object_info: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes with MODEL in and MODEL out, ours left out."""
    return {
        name: info
        for name, info in sorted(object_info.items())
        if "MODEL" in info["output"]
        and any(kind == "MODEL" for kind, _ in _inputs(info).values())
        and not name.startswith(("WanDuet", "Probe"))
    }


def row(bench: Bench, name: str, info: Mapping[str, Any], **settings: Any) -> Row:
    """Run one patch under both samplers. settings: instead of SETTINGS."""
    inputs = _filled(info, {**SETTINGS.get(name, {}), **settings})
    if isinstance(inputs, str):
        return Row(name, problem=inputs)
    slot = info["output"].index("MODEL")
    plain: dict[str, list[object]] = {expert: [f"core {expert}", 0] for expert in EXPERTS}
    patched = {f"patched {expert}": node(name, **_wired(info, inputs, plain[expert])) for expert in EXPERTS}
    changed: dict[str, list[object]] = {expert: [f"patched {expert}", slot] for expert in EXPERTS}
    graph = base() | patched | both("with", changed, SPLITS.get(name, SPLIT)) | both("without", plain, SPLIT)
    try:
        ours, core, without = bench.values(graph, "ours with", "core with", "ours without")
    except HostError as error:
        return Row(name, problem=str(error).partition("\n")[0][:160])
    return Row(name, distance(ours, core), distance(ours, without))


def base(tokens: int = 16) -> dict[str, Node]:
    text = {"tokens": tokens, "padded_to": 512, "extra": "{}"}
    return {
        "positive": node("ProbeConditioning", seed=1, **text),
        "negative": node("ProbeConditioning", seed=2, **text),
        "core high": node("UNETLoader", unet_name="high.safetensors", weight_dtype="default"),
        "core low": node("UNETLoader", unet_name="low.safetensors", weight_dtype="default"),
        "latent": node("EmptyHunyuanLatentVideo", width=80, height=64, length=21, batch_size=1),
        "euler": node("KSamplerSelect", sampler_name="euler"),
    }


def both(name: str, models: Mapping[str, list[object]], split: int, **wires: object) -> dict[str, Node]:
    """Our Two-Stage Sampler, "ours NAME", and ComfyUI's two samplers, "core NAME", on the same MODELs."""
    sources = {"positive": ["positive", 0], "negative": ["negative", 0], **wires}
    settings = {"steps": STEPS, "shift": 8.0, "solver": "euler", "boundary": BOUNDARY, "strength": 1.0}
    custom = {"cfg": 3.5, "noise_seed": SEED, "sampler": ["euler", 0], **sources}
    schedule = {"scheduler": "simple", "steps": STEPS, "denoise": 1.0}
    return {
        f"sigmas {name}": node("BasicScheduler", model=models["high"], **schedule),
        f"split {name}": node("SplitSigmas", sigmas=[f"sigmas {name}", 0], step=split),
        f"model {name}": node("WanDuetFromComfy", **models),
        f"ours {name}": node(
            "WanDuetTwoStageSampler",
            **{**SOURCES, **sources, **settings, "model": [f"model {name}", 0], "latent": ["latent", 0]},
            sigmas=[f"sigmas {name}", 0],
            seed=SEED,
            guidance_scale=3.5,
            guidance_scale_2=3.5,
        ),
        f"first {name}": node(
            "SamplerCustom",
            model=models["high"],
            add_noise=True,
            latent_image=["latent", 0],
            sigmas=[f"split {name}", 0],
            **custom,
        ),
        f"core {name}": node(
            "SamplerCustom",
            model=models["low"],
            add_noise=False,
            latent_image=[f"first {name}", 0],
            sigmas=[f"split {name}", 1],
            **custom,
        ),
    }


def table(bench: Bench, object_info: Mapping[str, Any]) -> Iterator[Row]:
    for name, info in patch_nodes(object_info).items():
        yield row(bench, name, info)


def _inputs(info: Mapping[str, Any]) -> dict[str, tuple[Any, Mapping[str, Any]]]:
    rows = info["input"].get("required", {})
    return {name: (spec[0], spec[1] if len(spec) > 1 else {}) for name, spec in rows.items()}


def _filled(info: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any] | str:
    """Every widget with a value; or which socket there is nothing for."""
    wires = {"CONDITIONING": ["positive", 0], "LATENT": ["latent", 0]}
    found: dict[str, Any] = {}
    for name, (kind, options) in _inputs(info).items():
        if kind == "MODEL":
            continue
        if name in settings:
            found[name] = settings[name]
        elif isinstance(kind, list) or kind == "COMBO":
            choices = kind if isinstance(kind, list) else options.get("options", [])
            if not choices:
                return f"skipped: {name} has nothing to choose from"
            found[name] = options.get("default", choices[0])
        elif "default" in options:
            found[name] = options["default"]
        elif kind in wires:
            found[name] = wires[kind]
        else:
            return f"skipped: needs {kind} for {name}"
    return {**found, **{name: value for name, value in settings.items() if name not in found}}


def _wired(info: Mapping[str, Any], inputs: Mapping[str, Any], model: list[object]) -> dict[str, Any]:
    models = {name: model for name, (kind, _) in _inputs(info).items() if kind == "MODEL"}
    return {**inputs, **models}

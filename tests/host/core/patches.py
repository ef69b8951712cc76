"""Every node of a ComfyUI that takes a MODEL and gives one, under our Two-Stage Sampler and under ComfyUI's.

A row says how far both samplers are apart with the patch on both experts, and how far the patch moves the
result. With WAN_DUET_PATCH_TABLE=FILE in its environment test_patches.py adds the rows that FILE has not got.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphs import SEED, SOURCES, Bench, Node, defaults, distance, node

from wan_duet.pipelines.errors import HostError

SAME = 1e-5  # relative L2 between both samplers
ACTS = 1e-6  # relative L2 between with and without the patch
EXPERTS = ("high", "low")
BOUNDARY = 0.85
STEPS, SPLIT = 6, 4  # ComfyUI's `simple` at shift 8: 1, .976, .941, .889 | .8, .615
WHOLE = {"start_percent": 0.0, "end_percent": 1.0}
WINDOWS = {"context_length": 9, "context_overlap": 4}

# What a node needs in order to act on this model and these few steps. Others run as they come.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "ApplyRifleXRoPE_WanVideo": {"k": 2},
    "CFGNorm": {"strength": 0.5},
    "CFGOverride": {"cfg": 2.0, **WHOLE},
    "CFGZeroStarAndInit": {"zero_init_steps": 1},
    "CheckpointPerturbWeights": {"rest_of_the_blocks": 0.5},
    "ContextWindowsManual": {"context_length": 3, "context_overlap": 1, "dim": 2},
    "EasyCache": {"reuse_threshold": 3.0, **WHOLE},
    "FreSca": {"freq_cutoff": 2},
    "LazyCache": {"reuse_threshold": 3.0, **WHOLE},
    "LoraLoaderBypassModelOnly": {"lora_name": "wan.safetensors", "strength_model": 1.0},
    "LoraLoaderModelOnly": {"lora_name": "wan.safetensors", "strength_model": 1.0},
    "LTXVContextWindows": WINDOWS,
    "ModelComputeDtype": {"dtype": "bf16"},
    "ModelMergeSimple": {"ratio": 0.5},
    "ModelMergeWAN2_1": {"blocks.0.": 0.5, "head.": 0.5},
    "ModelNoiseScale": {"noise_scale": 0.9},
    "ModelSamplingSD3": {"shift": 3.0},
    "PathchSageAttentionKJ": {"sage_attention": "auto"},  # its default is none of its choices
    "RenormCFG": {"cfg_trunc": 0.5, "renorm_cfg": 0.5},
    "ScaleROPE": {"scale_x": 1.5, "shift_t": 1.0},
    "SkipLayerGuidanceDiT": {"double_layers": "0", "single_layers": "", "scale": 3.0, **WHOLE},
    "SkipLayerGuidanceDiTSimple": {"double_layers": "0", "single_layers": "", **WHOLE},
    "SkipLayerGuidanceSD3": {"layers": "0", "scale": 3.0, **WHOLE},
    "SkipLayerGuidanceWanVideo": {"blocks": "0", **WHOLE},
    "TemporalScoreRescaling": {"tsr_k": 0.5, "tsr_sigma": 1.0},
    "UNetCrossAttentionMultiply": {"q": 1.5},
    "UNetSelfAttentionMultiply": {"q": 1.5},
    "UNetTemporalAttentionMultiply": {"self_temporal": 1.5, "cross_temporal": 1.5},
    "WanContextWindowsManual": WINDOWS,
    "WanVideoNAG": {"conditioning": ["positive", 0]},  # it guides the first of the two in a batch: negative
}


@dataclass(frozen=True)
class Row:
    """apart: between both samplers; moved: by the patch, under ours. None where there is a problem.

    pack: module that the node comes from. told: that *Check* says of a patch that it has no effect.
    compiled: functions that torch.compile compiled for it.
    """

    name: str
    pack: str = ""
    apart: float | None = None
    moved: float | None = None
    problem: str = ""
    told: bool = False
    compiled: int = 0

    @property
    def verdict(self) -> str:
        if self.apart is None or self.moved is None:
            return self.problem
        if self.apart > SAME:
            return "DIFFERENT"
        if self.moved > ACTS:
            return "acts"
        if self.compiled:
            return f"equal to without it; {self.compiled} functions were compiled"
        return "no effect in core either" + ("; *Check* says so" if self.told else "")

    def text(self) -> str:
        numbers = ["" if value is None else f"{value:.1e}" for value in (self.apart, self.moved)]
        return f"| {self.name} | {self.pack} | {' | '.join(numbers)} | {self.verdict} |"


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
    pack = str(info["python_module"]).removeprefix("custom_nodes.").removeprefix("comfy_extras.")
    inputs = _filled(info, {**SETTINGS.get(name, {}), **settings})
    if isinstance(inputs, str):
        return Row(name, pack, problem=inputs)
    slot = info["output"].index("MODEL")
    plain: dict[str, list[object]] = {expert: [f"core {expert}", 0] for expert in EXPERTS}
    patched = {
        f"patched {expert}": node(name, **inputs, **_wired(info, plain[expert], plain[other]))
        for expert, other in zip(EXPERTS, reversed(EXPERTS), strict=True)
    }
    changed: dict[str, list[object]] = {expert: [f"patched {expert}", slot] for expert in EXPERTS}
    try:
        split = split_of(bench, base() | patched | both("with", changed, SPLIT), "with")
        graph = base() | patched | both("with", changed, split) | both("without", plain, SPLIT)
        before = _compiled(bench)
        ours, core, without = bench.values(graph, "ours with", "core with", "ours without")
        apart, moved, compiled = distance(ours, core), distance(ours, without), _compiled(bench) - before
        told = moved <= ACTS and _is_told(bench, base() | patched | both("with", changed, SPLIT))
    except HostError as error:
        return Row(name, pack, problem=_short(error))
    return Row(name, pack, apart, moved, told=told, compiled=compiled)


def split_of(bench: Bench, graph: dict[str, Node], name: str) -> int:
    """The number of steps of the high expert: a model or a patch may bring other noise levels."""
    (sigmas,) = bench.values(graph, f"sigmas {name}")
    return int((sigmas[:-1] >= BOUNDARY).sum())


def _is_told(bench: Bench, graph: dict[str, Node]) -> bool:
    """Whether *Check* says of a patch on "model with" that it has no effect."""
    check = {
        "request": node(
            "WanDuetTextToVideo", **{**defaults(bench.client, "WanDuetTextToVideo"), "prompt": "a red ball"}
        ),
        "check": node("WanDuetCheck", request=["request", 0], runner="local", model=["model with", 0]),
    }
    wanted = {name: item for name, item in graph.items() if name.startswith(("core ", "patched ", "model "))}
    job = bench.client.run({**base(), **wanted, **check}, timeout_s=300)
    return "has no effect on a Wan model" in str(job.outputs["check"]["text"][0])


def _compiled(bench: Bench) -> int:
    job = bench.client.run({"process": node("ProbeProcess")})
    return int(json.loads(job.outputs["process"]["text"][0])["compiled"])


def _short(error: HostError) -> str:
    """The first line, with what follows its colon, without what differs on every machine and in every run."""
    first, _, more = str(error).partition("\n")
    line = f"{first} {more.partition(chr(10))[0].strip()}" if first.endswith(":") else first
    return re.sub(r"0x[0-9a-f]+|/\S+/", "", line)[:160].replace("|", "/")


def base(tokens: int = 512) -> dict[str, Node]:
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


def table(bench: Bench, object_info: Mapping[str, Any], known: Container[str] = ()) -> Iterator[Row]:
    """The rows of all nodes but the `known` ones; those that compile, which takes minutes each, come last."""
    nodes = patch_nodes(object_info)
    for name in sorted(nodes, key=lambda name: ("Compile" in name, name)):
        if name not in known:
            yield row(bench, name, nodes[name])


def known_rows(file: Path, host: str) -> dict[str, str]:
    """{node: its row} of the section of `host`."""
    _, section, _ = _parts(file, host)
    rows = (
        line for line in section if line.startswith("| ") and not line.startswith(("| node |", "| --- |"))
    )
    return {line.split("|")[1].strip(): line for line in rows}


def write_table(file: Path, host: str, rows: Iterable[Row]) -> None:
    """Add each row to the section of `host` of a Markdown file as soon as it is known, sorted by name."""
    before, _, after = _parts(file, host)
    lines = known_rows(file, host)
    head = ["| node | of | ours - core | with - without | |", "| --- | --- | --- | --- | --- |"]
    for found in rows:
        lines[found.name] = found.text()
        table = [*head, *(lines[name] for name in sorted(lines))]
        text = "\n".join([*before, f"## ComfyUI {host}", "", *table, "", *after])
        file.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def _parts(file: Path, host: str) -> tuple[list[str], list[str], list[str]]:
    """The lines before, in and after the section of `host`; all before it where there is none."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    head = f"## ComfyUI {host}"
    if head not in lines:
        return ([*lines, ""] if lines else []), [], []
    start = lines.index(head)
    end = next((at for at in range(start + 1, len(lines)) if lines[at].startswith("## ")), len(lines))
    return lines[:start], lines[start:end], lines[end:]


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


def _wired(info: Mapping[str, Any], model: list[object], other: list[object]) -> dict[str, list[object]]:
    """`model` to the first input for one, `other` to further ones: a merge with itself does nothing."""
    first, *more = (name for name, (kind, _) in _inputs(info).items() if kind == "MODEL")
    return {first: model, **dict.fromkeys(more, other)}

"""The kinds of findings, each with a request that has it on the embedded model.

Every face must say every kind: test_findings.py in tests/cli and in tests/host read this table. Kinds that
one request can have together share it, because each request is run. tests/cli/test_finding_kinds.py holds the
table against the code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file  # the newest Python is tested without torch

from wan_duet.pipelines.embedded.toy_model import embedded_loras

IMAGE, VIDEO, FROM_VIDEO = "text-to-image", "text-to-video", "video-to-video"
QUICK = {"prompt": "a red ball", "seed": 1, "num_inference_steps": 2, "acceleration": "none"}
VIDEO_ALONE = {"num_frames": 17, "interpolator_model": "none", "num_interpolated_frames": 0}
UNGUIDED = {"guidance_scale": 1.0, "guidance_scale_2": 1.0}
BARE_ADAPTER, WITH_TEXT = "adapter_model.safetensors", "x_with_text.safetensors"
LORA_FILES = (
    "x_high_noise.safetensors",
    "x_low_noise.safetensors",
    "x_lightning_4steps.safetensors",
    BARE_ADAPTER,
    WITH_TEXT,
)
HDR_CLIP = "hdr.mkv"
EXCHANGED = {"model": "wan_low_noise_fp8.safetensors", "low_model": "wan_high_noise_fp8.safetensors"}


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding. values: added to a quick request. says: a part of its reason.

    model: {input of Load Model: its value}, the embedded model or files of `write_model`.
    """

    name: str
    task: str
    values: Mapping[str, Any]
    field: str
    says: str
    local: Mapping[str, Any] = field(default_factory=dict)
    loras: tuple[Mapping[str, Any], ...] = ()
    model: Mapping[str, str] = field(default_factory=lambda: {"model": "toy"})

    @property
    def request(self) -> dict[str, Any]:
        """The request without LoRAs and without what only this machine has."""
        return {**QUICK, **({} if self.task == IMAGE else VIDEO_ALONE), **self.values}


def _lora(name: str, transformer: str) -> dict[str, Any]:
    return {"path": name, "transformer": transformer, "scale": 0.5}


_IDLE = {
    "cfg_zero_star": "both",
    "cfg_zero_steps": 1,
    "nag_tau": 2.0,
    "prompt_overlap": 4,
    "codec": "h265",
    "step_cache_threshold": 0.1,
}
_LOW = {"cfg_zero_star": "low", "cfg_zero_steps": 1, "nag_scale": 3.0, "width": 96, "height": 96}
_MANY = {"cfg_zero_star": "high", "cfg_zero_steps": 1, "prompt_syntax": "comfy", "step_cache": "easycache"}
_WEIGHED = {"prompt": "(red:1.1) " + "ball " * 520}
_FILES_SAY = (_lora(BARE_ADAPTER, "low"), _lora(WITH_TEXT, "low"))
_SMALL = {"width": 64, "height": 64}
_STORED = {
    **EXCHANGED,
    "vae": "2.1.safetensors",
    "text_encoder": "umt5.safetensors",
    "precision": "stored",
}
_NO_STAR = {
    "cfg_zero_steps": 1,
    "loras_per_stage": [{"path": "toy/outlined", "high": 0.5, "low": 0.25}],
    "phases": [{"steps": 1, "loras": [{"path": "toy/outlined", "scale": 0.5}]}, {"steps": 1}],
}

_WINDOWS = {"context_frames": 20, "context_closed_loop": True, "riflex_frames": 9, "scene_threshold": 0.5}
_WIDE = {"context_frames": 25, "riflex": 4}
_LONG = {"num_frames": 41}
_RANGES = {"prompt_ranges": "moving left | moving up", "prompt_overlap": 2}
_REVERSED, _OUTLINED = {"reverse_video": True}, (_lora("toy/outlined", "low"),)

FINDING_KINDS = (
    FindingKind("adjusted", VIDEO, {"num_frames": 81}, "num_frames", "clip length of this model"),
    FindingKind("frames", VIDEO, {"num_frames": 21}, "num_frames", "trained on 17 frames"),
    FindingKind(
        "fps",
        VIDEO,
        {"frames_per_second": 60, "num_interpolated_frames": 2, "interpolator_model": "film"},
        "frames_per_second",
        "more than most players show",
    ),
    FindingKind("negative", IMAGE, {"negative_prompt": "ugly", **UNGUIDED}, "negative_prompt", "no effect"),
    FindingKind("dropped", IMAGE, {"prompt": "ball " * 520}, "prompt", "the last 9 are cut"),
    FindingKind(
        "nag", IMAGE, {"negative_prompt": "red"}, "local.nag_scale", "lossy", local={"nag_scale": 3.0}
    ),
    FindingKind(
        "weight", IMAGE, {"prompt": "a (red:1.4) ball"}, "prompt", "set local.prompt_syntax to comfy"
    ),
    FindingKind("embedding", IMAGE, {"prompt": "a ball embedding:x"}, "prompt", "embeddings are not read"),
    FindingKind("schedule", IMAGE, {"prompt": "a [red:blue:0.5] ball"}, "prompt", "leave the brackets out"),
    FindingKind(
        "lora tag", IMAGE, {"prompt": "a ball <lora:outlined:1>"}, "prompt", "put the LoRA into loras"
    ),
    FindingKind("choices", IMAGE, {"prompt": "a {red|blue} ball"}, "prompt", "write one of them"),
    FindingKind("comment", IMAGE, {"prompt": "a ball // red"}, "prompt", "page removes comments"),
    FindingKind("list comment", IMAGE, {"prompt": "# a ball"}, "prompt", "lists of prompts have no comments"),
    FindingKind("idle nag", IMAGE, UNGUIDED, "local.nag_tau", "does nothing while nag_scale is 1", _IDLE),
    FindingKind("idle overlap", IMAGE, UNGUIDED, "local.prompt_overlap", "does nothing without two", _IDLE),
    FindingKind("idle cache", IMAGE, UNGUIDED, "local.step_cache_threshold", "while step_cache is", _IDLE),
    FindingKind("codec of an image", IMAGE, UNGUIDED, "local.codec", "the result is an image", _IDLE),
    FindingKind(
        "idle zero star",
        IMAGE,
        UNGUIDED,
        "local.cfg_zero_star",
        "does nothing on the high-noise and low-noise expert",
        _IDLE,
    ),
    FindingKind(
        "unguided zero steps",
        IMAGE,
        UNGUIDED,
        "local.cfg_zero_steps",
        "does nothing while the guidance scale is 1",
        _IDLE,
    ),
    FindingKind("empty nag", IMAGE, {}, "local.nag_scale", "leads away from an empty prompt", _LOW),
    FindingKind("zero star", IMAGE, {}, "local.cfg_zero_star", "lossy by choice: CFG-Zero*", _LOW),
    FindingKind(
        "zero steps of the other expert",
        IMAGE,
        {},
        "local.cfg_zero_steps",
        "does nothing where the first steps are those of the high-noise expert",
        _LOW,
    ),
    FindingKind("size", IMAGE, {}, "local.width", "was trained on", _LOW),
    FindingKind("many zero steps", IMAGE, _WEIGHED, "local.cfg_zero_steps", "more than a tenth", _MANY),
    FindingKind("step cache", IMAGE, _WEIGHED, "local.step_cache", "lossy by choice: steps that are", _MANY),
    FindingKind("whole", IMAGE, _WEIGHED, "prompt", "all are used, as in ComfyUI", _MANY),
    FindingKind(
        "zero steps alone",
        IMAGE,
        {},
        "local.cfg_zero_steps",
        "does nothing while cfg_zero_star is off",
        _NO_STAR,
        _FILES_SAY,
    ),
    FindingKind(
        "other stage",
        IMAGE,
        {},
        "local.loras_per_stage[0].high",
        "made for the low-noise expert (experts says so): give 0 for high, and the strength for low",
        _NO_STAR,
        _FILES_SAY,
    ),
    FindingKind(
        "other phase",
        IMAGE,
        {},
        "local.phases[0].loras[0].path",
        "made for the low-noise expert (experts says so): move it to a phase of that expert",
        _NO_STAR,
        _FILES_SAY,
    ),
    FindingKind(
        "alphas elsewhere",
        IMAGE,
        {},
        "loras[0].path",
        "its alpha is unknown without the adapter_config.json",
        _NO_STAR,
        _FILES_SAY,
    ),
    FindingKind(
        "keys without effect",
        IMAGE,
        {},
        "loras[1].path",
        "keys of the text encoder, which have no effect here",
        _NO_STAR,
        _FILES_SAY,
    ),
    FindingKind(
        "other expert",
        IMAGE,
        {},
        "loras[0].transformer",
        "made for the low-noise expert (experts says so): give low",
        loras=({"path": "toy/outlined"},),
    ),
    FindingKind(
        "swapped pair",
        IMAGE,
        {},
        "loras[0].transformer",
        "exchange it with loras[1]",
        loras=(_lora(LORA_FILES[1], "high"), _lora(LORA_FILES[0], "low")),
    ),
    FindingKind(
        "distilled",
        IMAGE,
        {"num_inference_steps": 9, **UNGUIDED},
        "num_inference_steps",
        "x_lightning_4steps.safetensors is distilled for few steps",
        loras=(_lora(LORA_FILES[2], "both"),),
    ),
    FindingKind(
        "distilled guidance",
        IMAGE,
        {},
        "guidance_scale_2",
        "give 1",
        loras=(_lora(LORA_FILES[2], "both"),),
    ),
    FindingKind("windows", VIDEO, _LONG, "local.context_frames", "each step draws about", _WINDOWS),
    FindingKind("window of 4n+1", VIDEO, _LONG, "local.context_frames", "20 is not 4n+1", _WINDOWS),
    FindingKind("idle loop", VIDEO, _LONG, "local.context_closed_loop", "standard_uniform", _WINDOWS),
    FindingKind("idle L", VIDEO, _LONG, "local.riflex_frames", "does nothing while riflex is 0", _WINDOWS),
    FindingKind("idle cuts", VIDEO, _LONG, "local.scene_threshold", "no frames are", _WINDOWS),
    FindingKind("long window", VIDEO, _LONG, "local.context_frames", "a window has 25", _WIDE),
    FindingKind("riflex", VIDEO, _LONG, "local.riflex", "lossy by choice: RIFLEx", _WIDE),
    FindingKind("riflex reach", VIDEO, _LONG, "num_frames", "2 times the 17 frames", _WIDE),
    FindingKind(
        "one window", VIDEO, {}, "local.context_frames", "one window has all", {"context_frames": 33}
    ),
    FindingKind(
        "prompt ranges",
        VIDEO,
        _REVERSED,
        "local.prompt_ranges",
        "frames 0-8: 'moving left'",
        _RANGES,
        _OUTLINED,
    ),
    FindingKind(
        "reversed ranges",
        VIDEO,
        _REVERSED,
        "local.prompt_ranges",
        "begins with the last range",
        _RANGES,
        _OUTLINED,
    ),
    FindingKind(
        "small overlap", VIDEO, _REVERSED, "local.prompt_overlap", "below 4 frames", _RANGES, _OUTLINED
    ),
    FindingKind(
        "exchanged files",
        IMAGE,
        {},
        "model",
        f"{EXCHANGED['model']} is used as the high",
        _SMALL,
        (),
        _STORED,
    ),
    FindingKind("stored numbers", IMAGE, {}, "precision", "lossy by choice: ", _SMALL, (), _STORED),
    FindingKind(
        "HDR input",
        FROM_VIDEO,
        {"video_url": HDR_CLIP, "strength": 0.5},
        "video_url",
        "is tone-mapped to SDR",
    ),
)


def _together(kind: FindingKind) -> str:
    return json.dumps([kind.task, kind.request, kind.local, kind.loras, kind.model], sort_keys=True)


# The kinds by their request.
REQUESTS = tuple(tuple(kinds) for _, kinds in groupby(FINDING_KINDS, _together))


def names_of(kinds: Sequence[FindingKind]) -> str:
    """The name of a test of these kinds."""
    return ", ".join(kind.name for kind in kinds)


def write_given(folder: Path) -> None:
    """Write everything that the requests name."""
    write_loras(folder)
    write_model(folder)
    write_quantised(folder)
    write_clip(folder)


def write_loras(folder: Path) -> None:
    """Write LoRAs of the embedded model that only their names tell apart, and one for a text encoder too."""
    tensors = load_file(embedded_loras()["toy/circling"])
    for name in LORA_FILES:
        save_file(tensors, folder / name)
    other = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": np.ones((1, 4), np.float32)}
    save_file({**tensors, **other}, folder / WITH_TEXT)


def write_model(folder: Path) -> None:
    """Write a tiny Wan 2.2 A14B of single files into subfolders named as those of ComfyUI."""
    import tiny_files as tiny

    for seed, noise in enumerate(("high", "low")):
        weights = tiny.wan_transformer_names(tiny.transformer(seed))
        tiny.save(folder / "diffusion_models" / f"wan_{noise}_noise.safetensors", weights)
    for version in ("2.1", "2.2"):
        tiny.save(folder / "vae" / f"{version}.safetensors", tiny.wan_vae_names(tiny.vae(version)))
    text = {**tiny.text_encoder(), "spiece_model": tiny.spiece_tensor(tiny.spiece_model())}
    tiny.save(folder / "text_encoders" / "umt5.safetensors", text)


def write_quantised(folder: Path) -> None:
    """Write the experts of `write_model` in FP8, for `EXCHANGED`."""
    import quantised_files as quantised
    import tiny_files as tiny

    for seed, noise in enumerate(("high", "low")):
        weights = tiny.wan_transformer_names(tiny.transformer(seed))
        stored = quantised.quantised(weights, "fp8 per row", tiny.is_linear)[0]
        tiny.save(folder / "diffusion_models" / f"wan_{noise}_noise_fp8.safetensors", stored)


def write_clip(folder: Path) -> Path:
    """Write an HDR video of 17 frames."""
    from tests.video.hdr_clips import write_hdr
    from tests.video.hdr_reference import of_sdr

    return write_hdr(folder / HDR_CLIP, [of_sdr((200, 50, 50))], count=17)

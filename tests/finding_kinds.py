"""The kinds of findings, each with a request that has it on the embedded model and nothing else to say of it.

Every face must say every kind: test_findings.py in tests/cli and in tests/host read this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file  # the newest Python is tested without torch

from wan_duet.pipelines.embedded.toy_model import embedded_loras

IMAGE, VIDEO = "text-to-image", "text-to-video"
QUICK = {"prompt": "a red ball", "seed": 1, "num_inference_steps": 2, "acceleration": "none"}
VIDEO_ALONE = {"num_frames": 17, "interpolator_model": "none", "num_interpolated_frames": 0}
UNGUIDED = {"guidance_scale": 1.0, "guidance_scale_2": 1.0}
LORA_FILES = ("x_high_noise.safetensors", "x_low_noise.safetensors", "x_lightning_4steps.safetensors")


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding. values: added to a quick request. says: a part of its reason."""

    name: str
    task: str
    values: Mapping[str, Any]
    field: str
    says: str
    local: Mapping[str, Any] = field(default_factory=dict)
    loras: tuple[Mapping[str, Any], ...] = ()

    @property
    def request(self) -> dict[str, Any]:
        """The request without LoRAs and without what only this machine has."""
        return {**QUICK, **(VIDEO_ALONE if self.task == VIDEO else {}), **self.values}


def _lora(name: str, transformer: str) -> dict[str, Any]:
    return {"path": name, "transformer": transformer, "scale": 0.5}


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
)


def write_loras(folder: Path) -> None:
    """Write LoRAs of the embedded model that only their names tell apart."""
    tensors = load_file(embedded_loras()["toy/circling"])
    for name in LORA_FILES:
        save_file(tensors, folder / name)

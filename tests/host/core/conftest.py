"""A second ComfyUI for tests of how we get along with core's own nodes.

It has tiny models in the folders that core reads, with the same weights in the layouts of both sides, and
a few nodes for tests (probe/).
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import frame_nets
import pytest
import tiny_kinds
import torch
from graphs import Bench
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from tools.train_embedded.networks import expert_config, text_encoder_config
from wan_duet.pipelines.cli.terminal import stopped_by_sigterm
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI

HERE = Path(__file__).parent
FOLDERS = ("diffusers", "diffusion_models", "vae", "loras", "frame_interpolation")
# Like 4.25.lite: core knows its layout, and runs it at the scales of 4.25.
RIFE = frame_nets.Rife((8, 8, 8, 8, 24), hidden=16, seen=4, last=52)
MODEL = "tiny/wan 4096"  # the real width of text embeddings, two tiny experts
IMAGE_MODEL = "tiny/wan image"  # the same, that begins with a picture


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The tiny experts of the golden numbers."""
    file = HERE.parents[1] / "golden" / "tiny.py"
    spec = importlib.util.spec_from_file_location("tiny", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def told_by(comfyui: Host) -> Callable[[str], Any]:
    """The last line that a script of this folder prints in ComfyUI's own interpreter, read as JSON."""

    def run(script: str) -> Any:
        places = (HERE / "in_comfyui.py", comfyui.path, comfyui.pack, HERE / script)
        done = subprocess.run(
            [str(comfyui.python), *map(str, places)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=comfyui.path,
            env={**os.environ, "PYTHONPATH": ""},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def core(
    comfyui: Host, tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadlessComfyUI]:
    models = tmp_path_factory.mktemp("models")
    write_models(models, tiny)
    folders = {
        "custom_nodes": str(HERE),
        **{kind: str(models / kind) for kind in FOLDERS},
    }
    config = models / "paths.yaml"
    config.write_text(json.dumps({"tests": folders}))  # JSON is YAML
    allowed = ("--whitelist-custom-nodes", "wan-duet", comfyui.pack_name or "wan-duet", "probe")
    arguments = ("--extra-model-paths-config", str(config), *allowed)
    with stopped_by_sigterm(), HeadlessComfyUI(comfyui, extra_args=arguments) as running:
        yield running


@pytest.fixture(scope="session")
def first_look(core: HeadlessComfyUI) -> dict[str, Any]:
    """What ProbeProcess found before any test ran."""
    job = core.run({"process": {"class_type": "ProbeProcess", "inputs": {}}})
    found: dict[str, Any] = json.loads(job.outputs["process"]["text"][0])
    return found


@pytest.fixture
def core_client(core: HeadlessComfyUI, first_look: dict[str, Any]) -> Iterator[ComfyClient]:
    with ComfyClient(core.url) as made:
        yield made


@pytest.fixture
def bench(core: HeadlessComfyUI, core_client: ComfyClient) -> Bench:
    return Bench(core, core_client)


def write_models(models: Path, tiny: ModuleType) -> None:
    for folder in FOLDERS:
        (models / folder).mkdir()
    mine = models / "diffusers" / MODEL
    toy = toy_folder()
    for component in ("vae", "tokenizer"):
        shutil.copytree(toy / component, mine / component)
    for component, expert in (("transformer", "high"), ("transformer_2", "low")):
        weights = tiny.expert_weights(tiny.SEEDS[expert])
        save_file(weights, models / "diffusion_models" / f"{expert}.safetensors")
        save_file(scaled_fp8(weights), models / "diffusion_models" / f"{expert} fp8.safetensors")
        (mine / component).mkdir()
        save_file(tiny.to_diffusers(weights), mine / component / "diffusion_pytorch_model.safetensors")
        (mine / component / "config.json").write_text(json.dumps(tiny.DIFFUSERS_CONFIG))
    write_image_model(models, tiny)
    write_text_encoder(mine / "text_encoder", tiny.TEXT_DIM)
    (mine / "model_index.json").write_text(json.dumps({"boundary_ratio": tiny.BOUNDARY}))
    (models / "diffusion_models" / "some.gguf").write_bytes(b"GGUF")
    write_lora(models / "loras" / "styles" / "toy high.safetensors")
    write_wan_loras(models / "loras", tiny.DIM)
    save_file(frame_nets.weights(RIFE.shapes()), models / "frame_interpolation" / "rife.safetensors")
    vae = load_file(toy / "vae" / "diffusion_pytorch_model.safetensors")
    save_file(original_vae_keys(vae), models / "vae" / "toy.safetensors")


def scaled_fp8(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The matrices of the blocks as 8-bit floats with a scale, in ComfyUI's older spelling."""
    found = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for name, tensor in weights.items():
        if not name.startswith("blocks.") or tensor.ndim != 2:
            found[name] = tensor
            continue
        scale = tensor.abs().max() / 448  # the largest number of float8_e4m3fn
        found[name] = (tensor / scale).to(torch.float8_e4m3fn)
        found[name.removesuffix("weight") + "scale_weight"] = scale
    return found


def write_image_model(models: Path, tiny: ModuleType) -> None:
    """Beside the other one, whose VAE, tokenizer and text encoder are copied by name alone."""
    mine, other = models / "diffusers" / IMAGE_MODEL, models / "diffusers" / MODEL
    for component, expert in (("transformer", "high"), ("transformer_2", "low")):
        kind = replace(tiny_kinds.KINDS["i2v-a14b"], seed=tiny.SEEDS[expert])
        weights = kind.weights()
        save_file(weights, models / "diffusion_models" / f"image {expert}.safetensors")
        (mine / component).mkdir(parents=True)
        save_file(tiny.to_diffusers(weights), mine / component / "diffusion_pytorch_model.safetensors")
        (mine / component / "config.json").write_text(json.dumps(tiny_kinds.config(kind)))
    for component in ("vae", "tokenizer", "text_encoder"):
        (mine / component).symlink_to(other / component)
    (mine / "model_index.json").write_text(json.dumps({"boundary_ratio": tiny.BOUNDARY}))


def write_lora(file: Path) -> None:
    """A LoRA of rank 2 on one tensor of a toy expert."""
    file.parent.mkdir()
    config = expert_config()
    width = config["num_attention_heads"] * config["attention_head_dim"]
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(2, width, generator=generator), torch.randn(width, 2, generator=generator)
    name = "transformer.blocks.0.attn1.to_q"
    save_file({f"{name}.lora_A.weight": down * 0.1, f"{name}.lora_B.weight": up * 0.1}, file)


def write_wan_loras(loras: Path, width: int) -> None:
    """One LoRA of rank 2 on a tiny expert, in names that ComfyUI knows, and in diffusers' names."""
    generator = torch.Generator().manual_seed(1)
    known, unknown = {}, {}
    for wan, diffusers in (("self_attn", "attn1"), ("cross_attn", "attn2")):
        for part, name in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0")):
            down = torch.randn(2, width, generator=generator) * 0.3
            up = torch.randn(width, 2, generator=generator) * 0.3
            place = f"diffusion_model.blocks.0.{wan}.{part}"
            known |= {f"{place}.lora_down.weight": down, f"{place}.lora_up.weight": up}
            place = f"transformer.blocks.0.{diffusers}.{name}"
            unknown |= {f"{place}.lora_A.weight": down, f"{place}.lora_B.weight": up}
    save_file(known, loras / "wan.safetensors")
    save_file(unknown, loras / "hf.safetensors")


def write_text_encoder(folder: Path, width: int) -> None:
    torch.manual_seed(0)
    small: dict[str, Any] = {"d_model": width, "d_ff": 64, "d_kv": 16, "num_heads": 2, "num_layers": 1}
    UMT5EncoderModel(UMT5Config(**{**text_encoder_config(), **small})).save_pretrained(folder)


_VAE_KEYS = [  # diffusers -> the names of the official Wan 2.1 VAE
    (r"\.norm1\.", ".residual.0."),
    (r"\.conv1\.", ".residual.2."),
    (r"\.norm2\.", ".residual.3."),
    (r"\.conv2\.", ".residual.6."),
    (r"\.conv_shortcut\.", ".shortcut."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"\.down_blocks\.", ".downsamples."),
    (r"\.conv_in\.", ".conv1."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
]
_UP_BLOCK = re.compile(r"\.up_blocks\.(\d)\.(?:resnets\.(\d)|upsamplers\.0)\.")


def original_vae_keys(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in weights.items():
        for pattern, replacement in _VAE_KEYS:
            name = re.sub(pattern, replacement, name)
        # Three residual blocks and one upsampler in a row, in one flat list.
        name = _UP_BLOCK.sub(lambda m: f".upsamples.{4 * int(m[1]) + int(m[2] or 3)}.", name)
        renamed[name] = tensor
    return renamed

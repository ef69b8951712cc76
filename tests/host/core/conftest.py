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
import gguf
import pytest
import tiny_files
import tiny_kinds
import torch
from diffusers import AutoencoderKLWan
from graphs import Bench
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from tools.template_list import TEMPLATES
from tools.train_embedded.networks import expert_config, text_encoder_config
from wan_duet.pipelines.cli.terminal import stopped_by_sigterm
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.loading.identify import read_part

HERE = Path(__file__).parent
# A folder of node packs of others, such as ComfyUI-GGUF and ComfyUI-KJNodes, for the tests that use them.
OTHER_PACKS = os.environ.get("WAN_DUET_OTHER_PACKS")
FOLDERS = (
    *("diffusers", "diffusion_models", "vae", "vae_approx", "text_encoders", "loras"),
    "frame_interpolation",
)
# Like 4.25.lite: core knows its layout, and runs it at the scales of 4.25.
RIFE = frame_nets.Rife((8, 8, 8, 8, 24), hidden=16, seen=4, last=52)
MODEL = "tiny/wan 4096"  # the real width of text embeddings, two tiny experts
IMAGE_MODEL = "tiny/wan image"  # the same, that begins with a picture
SMALL_MODEL = "tiny/wan 5b"  # the same in the layout of the 5B, with one expert
_SEES = {"added_kv_proj_dim": 128}  # CLIP features of a picture
# File, seed, channels in and out, what a network that sees pictures has beside. Turbo asks for the name.
NARROW: tuple[tuple[str, int, tuple[int, int], dict[str, object]], ...] = (
    ("narrow t2v 4step high", 1, (16, 16), {}),
    ("narrow t2v 4step low", 2, (16, 16), {}),
    ("narrow i2v 4step high", 3, (36, 16), {}),
    ("narrow i2v 4step low", 4, (36, 16), {}),
    ("narrow i2v 2.1", 5, (36, 16), _SEES),
    ("narrow flf2v 2.1", 6, (36, 16), {**_SEES, "pos_embed_seq_len": 514}),
    ("narrow small FastWan", 7, (48, 48), {}),
)


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
    arguments = core_arguments(models, comfyui)
    with stopped_by_sigterm(), HeadlessComfyUI(comfyui, extra_args=arguments, start_timeout_s=900) as running:
        yield running


def core_arguments(models: Path, comfyui: Host) -> tuple[str, ...]:
    """For a ComfyUI that has these models, the nodes of probe/, and packs of others if a folder is named."""
    folders = {kind: str(models / kind) for kind in FOLDERS}
    allowed = ["wan-duet", comfyui.pack_name or "wan-duet", "probe"]
    folders["custom_nodes"] = str(HERE)
    if OTHER_PACKS is not None:
        folders["custom_nodes"] += f"\n{OTHER_PACKS}"
        allowed += sorted(folder.name for folder in Path(OTHER_PACKS).iterdir())
    config = models / "paths.yaml"
    config.write_text(json.dumps({"tests": folders}))  # JSON is YAML
    return ("--extra-model-paths-config", str(config), "--whitelist-custom-nodes", *allowed)


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
        save_file(scaled_int8(weights), models / "diffusion_models" / f"{expert} int8.safetensors")
        write_gguf(models / "diffusion_models" / f"{expert} q8.gguf", weights)
        (mine / component).mkdir()
        save_file(tiny.to_diffusers(weights), mine / component / "diffusion_pytorch_model.safetensors")
        (mine / component / "config.json").write_text(json.dumps(tiny.DIFFUSERS_CONFIG))
    write_image_model(models, tiny)
    write_small_model(models, tiny)
    write_text_encoder(mine / "text_encoder", tiny.TEXT_DIM)
    (mine / "model_index.json").write_text(json.dumps({"boundary_ratio": tiny.BOUNDARY}))
    (models / "diffusion_models" / "some.gguf").write_bytes(b"GGUF")
    write_lora(models / "loras" / "styles" / "toy high.safetensors")
    write_wan_loras(models / "loras", tiny.DIM)
    save_file(frame_nets.weights(RIFE.shapes()), models / "frame_interpolation" / "rife.safetensors")
    vae = load_file(toy / "vae" / "diffusion_pytorch_model.safetensors")
    save_file(original_vae_keys(vae), models / "vae" / "toy.safetensors")
    (models / "text_encoders" / "pieces.model").write_bytes(tiny_files.spiece_model())
    write_narrow_models(models)


def write_narrow_models(models: Path) -> None:
    """One head and one block each, so that requests run in the sizes that they have."""
    narrow = {"num_attention_heads": 1, "num_layers": 1, "text_dim": 4096}
    for name, seed, (channels, out), image in NARROW:
        made = tiny_files.transformer(seed, channels, out, image=1280 if image else None, **narrow, **image)
        save_file(tiny_files.wan_transformer_names(made), models / "diffusion_models" / f"{name}.safetensors")
    (template,) = (template for template in TEMPLATES if template.of_comfyui)
    assert template.files is not None
    for slot, of in {**dict(zip(("model", "low_model"), NARROW, strict=False)), "vae": None}.items():
        file = template.files.slots[slot]
        (models / file.folder / file.name).symlink_to(
            models / "vae" / "narrow.safetensors"
            if of is None
            else models / "diffusion_models" / f"{of[0]}.safetensors"
        )
    with torch.device("meta"):
        vae = AutoencoderKLWan.from_config({**tiny_files.VAES["2.1"], "base_dim": 2})
    save_file(tiny_files.wan_vae_names(tiny_files.randomise(vae, 0)), models / "vae" / "narrow.safetensors")


def write_gguf(file: Path, weights: dict[str, Tensor]) -> None:
    """The same matrices in Q8_0 and the rest in F32, as published files have it."""
    writer = gguf.GGUFWriter(file, "wan")
    for name, tensor in weights.items():
        matrix = name.startswith("blocks.") and tensor.ndim == 2
        kind = gguf.GGMLQuantizationType.Q8_0 if matrix else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def scaled_int8(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same matrices as 8-bit integers with a scale for each row, which ComfyUI 0.33 reads."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if not name.startswith("blocks.") or tensor.ndim != 2:
            found[name] = tensor
            continue
        scale = tensor.abs().amax(1, keepdim=True) / 127
        found[name] = (tensor / scale).round().to(torch.int8)
        layer = name.removesuffix("weight")
        found[f"{layer}weight_scale"] = scale
        found[f"{layer}comfy_quant"] = tiny_files.hint({"format": "int8_tensorwise"})
    return found


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


def write_small_model(models: Path, tiny: ModuleType) -> None:
    """Beside the first one. Its VAE gives the numbers that latents are normalised by, and nothing else."""
    mine, other, kind = models / "diffusers" / SMALL_MODEL, models / "diffusers" / MODEL, "ti2v-5b"
    weights, vae = tiny_kinds.KINDS[kind].weights(), models / "small vae.safetensors"
    save_file(weights, models / "diffusion_models" / "small.safetensors")
    save_file(tiny_files.wan_vae_names(tiny_files.vae("2.2")), vae)
    (mine / "transformer").mkdir(parents=True)
    save_file(tiny.to_diffusers(weights), mine / "transformer" / "diffusion_pytorch_model.safetensors")
    (mine / "transformer" / "config.json").write_text(json.dumps(tiny_kinds.config(tiny_kinds.KINDS[kind])))
    (mine / "vae").mkdir()
    save_file(tiny_files.vae("2.2"), mine / "vae" / "diffusion_pytorch_model.safetensors")
    (mine / "vae" / "config.json").write_text(json.dumps(dict(read_part(vae, "VAE", "vae").config)))
    for component in ("tokenizer", "text_encoder"):
        (mine / component).symlink_to(other / component)
    (mine / "model_index.json").write_text(json.dumps({"boundary_ratio": None}))


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

"""Tiny Wan models written in every layout that weight files have, with the keys of the real ones.

Everything comes from seeded generators. Names are spelled out here a second time on purpose: a slip in the
tables of the package must not find itself confirmed.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import gguf
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from sentencepiece import SentencePieceTrainer
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

Weights = dict[str, Tensor]

FP8 = {"e4m3fn": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
WIDTH, TEXT = 256, 128

_TRANSFORMER = [  # diffusers -> Wan
    (r"condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"condition_embedder\.time_proj\.", "time_projection.1."),
    (r"condition_embedder\.image_embedder\.pos_embed", "img_emb.emb_pos"),
    (r"condition_embedder\.image_embedder\.norm1\.", "img_emb.proj.0."),
    (r"condition_embedder\.image_embedder\.ff\.net\.0\.proj\.", "img_emb.proj.1."),
    (r"condition_embedder\.image_embedder\.ff\.net\.2\.", "img_emb.proj.3."),
    (r"condition_embedder\.image_embedder\.norm2\.", "img_emb.proj.4."),
    (r"^proj_out\.", "head.head."),
    (r"^scale_shift_table$", "head.modulation"),
    (r"\.scale_shift_table$", ".modulation"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.add_([kv])_proj\.", r".\1_img."),
    (r"\.norm_added_k\.", ".norm_k_img."),
    (r"\.norm2\.", ".norm3."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
]
_VAE = [  # diffusers -> Wan, before the rows of the levels are cut
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"\.conv_in\.", ".conv1."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"(blocks|middle)(.*)\.norm1\.", r"\1\2.residual.0."),
    (r"(blocks|middle)(.*)\.conv1\.", r"\1\2.residual.2."),
    (r"(blocks|middle)(.*)\.norm2\.", r"\1\2.residual.3."),
    (r"(blocks|middle)(.*)\.conv2\.", r"\1\2.residual.6."),
    (r"\.conv_shortcut\.", ".shortcut."),
]
_TEXT = [  # Hugging Face -> Wan
    (r"^shared\.", "token_embedding."),
    (r"^encoder\.final_layer_norm\.", "norm."),
    (r"^encoder\.block\.(\d+)\.layer\.[01]\.", r"blocks.\1."),
    (r"\.SelfAttention\.relative_attention_bias\.", ".pos_embedding.embedding."),
    (r"\.SelfAttention\.", ".attn."),
    (r"\.DenseReluDense\.wi_0\.", ".ffn.gate.0."),
    (r"\.DenseReluDense\.wi_1\.", ".ffn.fc1."),
    (r"\.DenseReluDense\.wo\.", ".ffn.fc2."),
]


def transformer(
    seed: int = 0, channels: int = 16, out: int = 16, image: int | None = None, **more: object
) -> Weights:
    """A random expert in diffusers' names: two heads, two blocks. `image`: width of a 2.1 image embedding."""
    config = {
        "num_attention_heads": 2,
        "in_channels": channels,
        "out_channels": out,
        "text_dim": TEXT,
        "ffn_dim": 512,
        "num_layers": 2,
        "image_dim": image,
        "added_kv_proj_dim": None if image is None else WIDTH,
        **more,
    }
    with torch.device("meta"):
        network = WanTransformer3DModel.from_config(config)
    return randomise(network, seed)


VAES: dict[str, dict[str, object]] = {
    "2.1": {"base_dim": 8, "z_dim": 16},
    "2.2": {
        "base_dim": 8,
        "decoder_base_dim": 12,
        "z_dim": 48,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
        "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
    },
}


def vae(version: str, seed: int = 0) -> Weights:
    """A random VAE in diffusers' names. `version`: 2.1 or 2.2."""
    with torch.device("meta"):
        network = AutoencoderKLWan.from_config(VAES[version])
    return randomise(network, seed)


def text_config(width: int = TEXT) -> UMT5Config:
    return UMT5Config(
        vocab_size=64, d_model=width, d_kv=16, d_ff=256, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", dropout_rate=0.0,
    )  # fmt: skip


def text_encoder(seed: int = 0, width: int = TEXT) -> Weights:
    """A random UMT5 as Hugging Face names it, without the second name of its table."""
    with torch.device("meta"):
        network = UMT5EncoderModel(text_config(width))
    weights = randomise(network, seed)
    weights.pop("encoder.embed_tokens.weight", None)
    return weights


def randomise(network: nn.Module, seed: int) -> Weights:
    """Normal weights that keep the size of what goes through them; norms around one."""
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for name, parameter in network.state_dict().items():
        shape = parameter.shape
        deviation = min(0.1, 1 / max(1, shape[1:].numel()) ** 0.5)
        weights[name] = torch.randn(shape, generator=generator) * deviation
        if "norm" in name and name.endswith(("weight", "gamma")):
            weights[name] += 1
    return weights


def wan_transformer_names(weights: Weights, prefix: str = "") -> Weights:
    return {prefix + _rename(_TRANSFORMER, name): tensor for name, tensor in weights.items()}


def wan_vae_names(weights: Weights) -> Weights:
    """Wan 2.1 puts the layers of all levels of the decoder into one row; Wan 2.2 nests them on both sides."""
    levels = {int(found[1]) for name in weights if (found := re.search(r"up_blocks\.(\d+)\.", name))}
    per_level = 1 + max(int(found[1]) for name in weights if (found := re.search(r"resnets\.(\d+)\.", name)))
    renamed: Weights = {}
    for name, tensor in weights.items():
        own = _rename(_VAE, name)
        if "sampler." in own or re.search(r"down_blocks\.\d+\.resnets", own):  # 2.2
            side = "down" if "down_blocks" in own else "up"
            last = per_level - 1 if side == "down" else per_level
            own = re.sub(rf"\.{side}sampler\.", f".{side}samples.{last}.", own)
            own = re.sub(r"\.resnets\.", f".{side}samples.", own)
        elif found := re.search(r"up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.", own):
            if any("upsampler." in key for key in weights):  # 2.2
                own = own.replace(".resnets.", ".upsamples.")
            else:
                row = int(found[1]) * (per_level + 1) + (
                    per_level if found[2] == "upsamplers" else int(found[3])
                )
                own = own.replace(found[0], f"upsamples.{row}.")
        own = own.replace("down_blocks.", "downsamples.").replace("up_blocks.", "upsamples.")
        renamed[own] = tensor
    assert len(renamed) == len(weights)
    assert levels == set(range(4))
    return renamed


def wan_text_names(weights: Weights) -> Weights:
    renamed = {}
    for name, tensor in weights.items():
        own = _rename(_TEXT, name)
        own = own.replace(".layer_norm.", ".norm1." if ".layer.0." in name else ".norm2.")
        renamed[own] = tensor
    return renamed


def _rename(table: list[tuple[str, str]], name: str) -> str:
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name


def save(file: Path, weights: Weights, **metadata: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, file, metadata=metadata or None
    )
    return file


def cast(weights: Weights, dtype: torch.dtype) -> Weights:
    return {name: tensor.to(dtype) for name, tensor in weights.items()}


def is_linear(name: str, tensor: Tensor) -> bool:
    """What the makers of fp8 files compress: matrices inside the blocks."""
    return (
        tensor.dim() == 2
        and "block" in name
        and name.endswith(".weight")
        and "bias" not in name
        and "pos_" not in name
    )


def scaled(
    weights: Weights, spelling: str, kind: str = "e4m3fn", per_row: bool = False
) -> tuple[Weights, Weights]:
    """(what the file holds, what it means in float32). `spelling`: scale_weight, weight_scale or metadata."""
    held: Weights = {}
    meant: Weights = {}
    for name, tensor in weights.items():
        if not is_linear(name, tensor):
            held[name], meant[name] = tensor.half(), tensor.half().float()
            continue
        largest = tensor.abs().amax(1, keepdim=True) if per_row else tensor.abs().max()
        scale = largest / torch.finfo(FP8[kind]).max
        held[name] = (tensor / scale).to(FP8[kind])
        meant[name] = held[name].float() * scale
        layer = name.removesuffix(".weight")
        if spelling == "scale_weight":
            held[f"{layer}.scale_weight"] = scale if per_row else scale.reshape(1)
            held[f"{layer}.scale_input"] = torch.ones(1)
        else:
            held[f"{layer}.weight_scale"] = scale
            held[f"{layer}.input_scale"] = torch.tensor(0.5)
        if spelling == "weight_scale":
            held[f"{layer}.comfy_quant"] = hint(
                {"format": f"float8_{kind}", "full_precision_matrix_mult": True}
            )
    if spelling == "scale_weight":
        prefix = re.match(r"(?:model\.)?(?:diffusion_model\.)?", next(iter(weights)))
        held[f"{prefix[0] if prefix else ''}scaled_fp8"] = torch.zeros(2, dtype=FP8[kind])
    return held, meant


def quantisation_metadata(weights: Weights, kind: str = "e4m3fn") -> str:
    layers = {
        name.removesuffix(".weight"): {"format": f"float8_{kind}"}
        for name, t in weights.items()
        if is_linear(name, t)
    }
    return json.dumps({"format_version": "1.0", "layers": layers})


def hint(content: dict[str, object]) -> Tensor:
    return torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)


def save_gguf(file: Path, weights: Weights, kind: str, *, architecture: str = "wan") -> tuple[Path, Weights]:
    """Write as ComfyUI-GGUF's converter does, and say what it means in float32.

    Vectors stay F32; what has rows that are no whole blocks is folded into rows of 256, its shape noted.
    """
    writer = gguf.GGUFWriter(file, architecture)
    meant: Weights = {}
    quantisation = gguf.GGMLQuantizationType[kind]
    block = gguf.GGML_QUANT_SIZES[quantisation][0]
    for name, tensor in weights.items():
        data = tensor.float().numpy()
        used = quantisation if data.ndim > 1 and data.size % block == 0 else gguf.GGMLQuantizationType.F32
        if used is quantisation and data.shape[-1] % block and data.size % 256 == 0:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", [int(side) for side in data.shape])
            data = data.reshape(-1, 256)
        elif data.shape[-1] % block:
            used = gguf.GGMLQuantizationType.F32
        packed = gguf.quants.quantize(data, used)
        writer.add_tensor(name, packed, raw_dtype=used)
        meant[name] = torch.from_numpy(gguf.quants.dequantize(packed, used)).reshape(tensor.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, meant


def spiece_model() -> bytes:
    """A small SentencePiece model with the special pieces of UMT5: <pad> 0, </s> 1, <s> 2, <unk> 3."""
    words = ["red", "blue", "green", "ball", "cube", "moves", "left", "slowly", "over", "the", "sea", "night"]
    sentences = [" ".join(words[(7 * i + j * j) % len(words)] for j in range(9)) for i in range(200)]
    made = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=made, vocab_size=60, model_type="unigram",
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, hard_vocab_limit=False, minloglevel=2, num_threads=1,
    )  # fmt: skip
    return made.getvalue()


def spiece_tensor(model: bytes) -> Tensor:
    return torch.tensor(list(model), dtype=torch.uint8)

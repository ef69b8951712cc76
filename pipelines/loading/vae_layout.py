"""Converts Wan VAEs in Wan's own names to recipes of diffusers' AutoencoderKLWan.

Wan 2.1 has one flat list of layers, Wan 2.2 nests them by level. diffusers does as Wan in the encoder, and
always nests in the decoder. The configuration follows from the decoder.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from ..errors import ModelError
from ..networks.shapes import Shapes, require_shapes, shape_of
from ..weights.checkpoint import Checkpoint
from ..weights.recipe import Recipe
from ..weights.stored_tensors import Source

__all__ = ["vae_recipe"]

# Wan-Video/Wan2.1 wan/modules/vae.py
_MEAN_21 = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
_STD_21 = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip
# Wan-Video/Wan2.2 wan/modules/vae2_2.py
_MEAN_22 = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
    -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825,
    -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230,
    -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748,
    0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)  # fmt: skip
_STD_22 = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
    0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
    0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
    0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
    0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)  # fmt: skip
_STATISTICS = {16: (_MEAN_21, _STD_21), 48: (_MEAN_22, _STD_22)}

_LAYER = re.compile(
    r"(encoder\.down|decoder\.up)samples\.(\d{1,3})\.(?:(?:down|up)samples\.(\d{1,3})\.)?(.+)"
)
_IN_LAYER = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
    "resample.1": "resample.1",
    "time_conv": "time_conv",
}
_ELSEWHERE = {
    "conv1": "quant_conv",
    "conv2": "post_quant_conv",
    **{
        f"{side}.{own}": f"{side}.{name}"
        for side in ("encoder", "decoder")
        for own, name in {
            "conv1": "conv_in",
            "middle.0.residual.0": "mid_block.resnets.0.norm1",
            "middle.0.residual.2": "mid_block.resnets.0.conv1",
            "middle.0.residual.3": "mid_block.resnets.0.norm2",
            "middle.0.residual.6": "mid_block.resnets.0.conv2",
            "middle.1.norm": "mid_block.attentions.0.norm",
            "middle.1.to_qkv": "mid_block.attentions.0.to_qkv",
            "middle.1.proj": "mid_block.attentions.0.proj",
            "middle.2.residual.0": "mid_block.resnets.1.norm1",
            "middle.2.residual.2": "mid_block.resnets.1.conv1",
            "middle.2.residual.3": "mid_block.resnets.1.norm2",
            "middle.2.residual.6": "mid_block.resnets.1.conv2",
            "head.0": "norm_out",
            "head.2": "conv_out",
        }.items()
    },
}


def vae_recipe(checkpoint: Checkpoint) -> Recipe:
    """Return the recipe of a Wan 2.1 or 2.2 VAE, in Wan's or diffusers' names.

    Raises ModelError if the file is not a Wan VAE or incomplete.
    """
    tensors = _in_diffusers_names(checkpoint)
    shapes = {name: source.shape for name, source in tensors.items()}
    config = _config(checkpoint, shapes)
    require_shapes(checkpoint.path, "this Wan VAE", tensors, _shapes_of(config))
    return Recipe.of(config, tensors)


def _in_diffusers_names(checkpoint: Checkpoint) -> dict[str, Source]:
    if "decoder.conv_in.weight" in checkpoint.tensors:
        return dict(checkpoint.tensors)
    resampling = {key.split(".")[2] for key in checkpoint.tensors if _ends_level(key)}
    tensors: dict[str, Source] = {}
    for key, source in checkpoint.tensors.items():
        name = _renamed(key, resampling)
        if name is None:
            raise ModelError(
                f"{checkpoint.path}: has the tensor {key}, which no Wan VAE has; choose a Wan VAE"
            )
        tensors[name] = source
    return tensors


def _ends_level(key: str) -> bool:
    """Return whether `key` is of a resampling layer in the flat decoder of Wan 2.1."""
    found = _LAYER.fullmatch(key)
    return bool(found and found[1] == "decoder.up" and not found[3] and found[4].startswith("resample."))


def _renamed(key: str, resampling: set[str]) -> str | None:
    module, _, leaf = key.rpartition(".")
    layer = _LAYER.fullmatch(module)
    if layer is None:
        fixed = _ELSEWHERE.get(module)
        return fixed and f"{fixed}.{leaf}"
    side, first, second, own = layer.groups()
    inner = _IN_LAYER.get(own)
    if inner is None:
        return None
    resamples = own in ("resample.1", "time_conv")
    if second is not None:  # Wan 2.2: level and place
        place = f"{first}.{side.split('.')[1]}sampler" if resamples else f"{first}.resnets.{second}"
    elif side == "encoder.down":
        place = first
    else:  # Wan 2.1: one row, to be cut after each resampling
        ends = [int(end) for end in resampling if int(end) < int(first)]
        index = int(first) - max(ends, default=-1) - 1
        place = f"{len(ends)}.upsamplers.0" if resamples else f"{len(ends)}.resnets.{index}"
    return f"{side}_blocks.{place}.{inner}.{leaf}"


def _config(checkpoint: Checkpoint, shapes: Shapes) -> dict[str, Any]:
    """Return the configuration of diffusers' AutoencoderKLWan with these shapes."""

    def shape(name: str) -> tuple[int, ...]:
        return shape_of(checkpoint.path, shapes, name, 5)

    base, pixels = shape("encoder.conv_in.weight")[:2]
    latents = shape("post_quant_conv.weight")[0]
    if latents not in _STATISTICS:
        raise ModelError(
            f"{checkpoint.path}: has {latents} latent channels; a Wan VAE has 16 (2.1 and the 14B models of "
            "2.2) or 48 (TI2V 5B)"
        )
    levels = [f"decoder.up_blocks.{level}" for level in range(16)]
    widths = [shape(f"{level}.resnets.0.conv1.weight")[0] for level in levels if _has(shapes, level)]
    resnets = sum(f"{levels[0]}.resnets.{index}.conv1.weight" in shapes for index in range(16))
    residual = _has(shapes, "encoder.down_blocks.0.resnets")
    sampler = "upsampler" if residual else "upsamplers.0"
    in_time = [_has(shapes, f"{level}.{sampler}.time_conv") for level in levels[: len(widths) - 1]]
    colours = shape("decoder.conv_out.weight")[0]
    if colours != pixels:
        raise ModelError(
            f"{checkpoint.path}: decodes to {colours} channels what was encoded from {pixels}; VAEs that "
            "enlarge the picture are not supported; use wan_2.1_vae.safetensors"
        )
    mean, std = _STATISTICS[latents]
    patch = 2 if pixels == 12 else 1  # Wan 2.2 folds 2 x 2 pixels of three channels into twelve
    return {
        "_class_name": "AutoencoderKLWan",
        "base_dim": base,
        "decoder_base_dim": widths[-1],
        "z_dim": latents,
        "dim_mult": [width // widths[-1] for width in reversed(widths)],
        "num_res_blocks": resnets - 1,
        "attn_scales": [],
        "temperal_downsample": in_time[::-1],
        "dropout": 0.0,
        "latents_mean": list(mean),
        "latents_std": list(std),
        "is_residual": residual,
        "in_channels": pixels,
        "out_channels": colours,
        "patch_size": None if patch == 1 else patch,
        "scale_factor_temporal": 2 ** sum(in_time),
        "scale_factor_spatial": 2 ** len(in_time) * patch,
    }


def _has(shapes: Shapes, part: str) -> bool:
    return any(name.startswith(f"{part}.") for name in shapes)


def _shapes_of(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every parameter of diffusers' AutoencoderKLWan with this configuration."""
    shapes: dict[str, tuple[int, ...]] = {}
    latents, residual, blocks = config["z_dim"], config["is_residual"], config["num_res_blocks"]
    last = len(config["dim_mult"]) - 1

    def conv(name: str, inputs: int, outputs: int, *kernel: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs, *kernel), (outputs,)

    def resnet(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.norm1.gamma"], shapes[f"{name}.norm2.gamma"] = (inputs, 1, 1, 1), (outputs, 1, 1, 1)
        conv(f"{name}.conv1", inputs, outputs, 3, 3, 3)
        conv(f"{name}.conv2", outputs, outputs, 3, 3, 3)
        if inputs != outputs:
            conv(f"{name}.conv_shortcut", inputs, outputs, 1, 1, 1)

    def ends(side: str, first: tuple[int, int], middle: int, final: tuple[int, int]) -> None:
        conv(f"{side}.conv_in", *first, 3, 3, 3)
        resnet(f"{side}.mid_block.resnets.0", middle, middle)
        shapes[f"{side}.mid_block.attentions.0.norm.gamma"] = (middle, 1, 1)
        conv(f"{side}.mid_block.attentions.0.to_qkv", middle, 3 * middle, 1, 1)
        conv(f"{side}.mid_block.attentions.0.proj", middle, middle, 1, 1)
        resnet(f"{side}.mid_block.resnets.1", middle, middle)
        shapes[f"{side}.norm_out.gamma"] = (final[0], 1, 1, 1)
        conv(f"{side}.conv_out", *final, 3, 3, 3)

    down = [config["base_dim"] * factor for factor in (1, *config["dim_mult"])]
    ends("encoder", (config["in_channels"], down[0]), down[-1], (down[-1], 2 * latents))
    row = 0
    for level, (inputs, outputs) in enumerate(pairwise(down)):
        block = f"encoder.down_blocks.{level}"
        for index in range(blocks):
            name = f"{block}.resnets.{index}" if residual else f"encoder.down_blocks.{row}"
            resnet(name, outputs if index else inputs, outputs)
            row += 1
        if level < last:
            name = f"{block}.downsampler" if residual else f"encoder.down_blocks.{row}"
            conv(f"{name}.resample.1", outputs, outputs, 3, 3)
            if config["temperal_downsample"][level]:
                conv(f"{name}.time_conv", outputs, outputs, 3, 1, 1)
            row += 1

    up = [
        config["decoder_base_dim"] * factor
        for factor in reversed((*config["dim_mult"], config["dim_mult"][-1]))
    ]
    ends("decoder", (latents, up[0]), up[0], (up[-1], config["out_channels"]))
    for level, (before, outputs) in enumerate(pairwise(up)):
        block = f"decoder.up_blocks.{level}"
        inputs = before // 2 if level and not residual else before  # the upsampling of 2.1 halves them
        for index in range(blocks + 1):
            resnet(f"{block}.resnets.{index}", outputs if index else inputs, outputs)
        if level < last:
            name = f"{block}.upsampler" if residual else f"{block}.upsamplers.0"
            conv(f"{name}.resample.1", outputs, outputs if residual else outputs // 2, 3, 3)
            if config["temperal_downsample"][last - 1 - level]:
                conv(f"{name}.time_conv", outputs, 2 * outputs, 3, 1, 1)
    conv("quant_conv", 2 * latents, 2 * latents, 1, 1, 1)
    conv("post_quant_conv", latents, latents, 1, 1, 1)
    return shapes

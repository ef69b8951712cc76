"""Matrices written in every quantised format that is read, with the names that real files have.

Each format is made from its definition, apart from the code of the package, and with other means: positions
by index arithmetic, rotations as whole matrices in float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]
CODEBOOK = torch.linspace(-1, 1, 16).sign() * torch.linspace(-1, 1, 16).abs() ** 1.3


class Written(NamedTuple):
    """beside: by what follows the layer's name. meant: float32, or float64 where a rotation was undone."""

    beside: Tensors
    meant: Tensor


def hint(**content: object) -> Tensor:
    return torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)


def hadamard(size: int) -> Tensor:
    four = torch.tensor([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]], dtype=torch.float64)
    made = four
    while len(made) < size:
        made = torch.kron(made, four)
    return made / size**0.5


def rotated(weight: Tensor, group: int) -> Tensor:
    """W times the transpose of a block-diagonal matrix, in float64."""
    blocks = torch.block_diag(*[hadamard(group)] * (weight.shape[1] // group))
    return weight.double() @ blocks.T


def unrotated(weight: Tensor, group: int) -> Tensor:
    blocks = torch.block_diag(*[hadamard(group)] * (weight.shape[1] // group))
    return weight.double() @ torch.linalg.inv(blocks).T


def padded(weight: Tensor, tile: int) -> Tensor:
    rows, columns = (-side % tile for side in weight.shape)
    return torch.nn.functional.pad(weight, (0, columns, 0, rows))


def swizzled(scales: Tensor) -> Tensor:
    """Each scale at its place in the tiles of 128 x 4 that matrix units read."""
    rows, columns = scales.shape
    down, across = -(-rows // 128), -(-columns // 4)
    row, column = torch.arange(rows)[:, None], torch.arange(columns)[None]
    tile = (row // 128) * across + column // 4
    place = tile * 512 + (row % 32) * 16 + (row % 128) // 32 * 4 + column % 4
    stored = torch.zeros(down * across * 512, dtype=scales.dtype)
    stored[place] = scales
    return stored.reshape(down * 128, across * 4)


def fp8_rows(weight: Tensor) -> Written:
    scale = weight.abs().amax(1, keepdim=True) / 448
    stored = (weight / scale).to(E4M3)
    said = hint(format="float8_e4m3fn", full_precision_matrix_mult=True)
    return Written({"weight": stored, "weight_scale": scale, "comfy_quant": said}, stored.float() * scale)


def fp8_blocks(weight: Tensor, side: int = 128) -> Written:
    """As DeepSeek and LightX2V store it: a scale per square of rows and columns, the last ones cut off."""
    down, across = (-(-length // side) for length in weight.shape)
    scale = torch.empty(down, across)
    grown = torch.empty_like(weight)
    for i in range(down):
        for j in range(across):
            area = slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)
            scale[i, j] = grown[area] = weight[area].abs().max() / 448
    stored = (weight / grown).to(E4M3)
    return Written({"weight": stored, "weight_scale_inv": scale}, stored.float() * grown)


def fp8_row_blocks(weight: Tensor, factor: float | None = None, side: int = 16) -> Written:
    """As musubi-tuner stores it: (out, blocks, 1), and one number for all scales."""
    blocks = weight.reshape(len(weight), -1, side)
    total = blocks.abs().amax(2, keepdim=True) / 448
    held = {} if factor is None else {"scale_weight_tensor": torch.tensor(factor)}
    scale = total if factor is None else total / factor
    used = scale if factor is None else scale * torch.tensor(factor)
    stored = (blocks / used).to(E4M3)
    meant = (stored.float() * used).reshape(weight.shape)
    return Written({"weight": stored.reshape(weight.shape), "scale_weight": scale, **held}, meant)


def int8_rows(weight: Tensor, said: Tensor | None = None, *, one: bool = False) -> Written:
    """As LightX2V stores it; with a hint, or with one scale for all, as ComfyUI does."""
    largest = weight.abs().max() if one else weight.abs().amax(1, keepdim=True)
    scale = largest.float() / 127
    stored = (weight / scale).round().to(torch.int8)
    more = {} if said is None else {"comfy_quant": said}
    return Written({"weight": stored, "weight_scale": scale, **more}, stored.float() * scale)


def int8_rotated(weight: Tensor, group: int, *, nested: bool = False) -> Written:
    options: dict[str, object] = {"convrot": True, "convrot_groupsize": group}
    said = hint(format="int8_tensorwise", **({"params": options} if nested else options))
    held, meant = int8_rows(rotated(weight, group).float(), said)
    return Written(held, unrotated(meant, group))


def quanto(weight: Tensor) -> Written:
    """Wan2GP: scales in bfloat16, and scales of inputs and outputs that nobody needs."""
    scale = (weight.abs().amax(1, keepdim=True) / 127).bfloat16()
    stored = (weight / scale.float()).round().clamp(-127, 127).to(torch.int8)
    one = torch.ones((), dtype=torch.bfloat16)
    held = {"weight._data": stored, "weight._scale": scale, "input_scale": one, "output_scale": one.clone()}
    return Written(held, stored.float() * scale.float())


def mxfp8(weight: Tensor) -> Written:
    blocks = padded(weight, 32)
    shape = blocks.shape
    blocks = blocks.reshape(shape[0], -1, 32)
    exponent = (blocks.abs().amax(2).clamp(min=2.0**-100) / 448).log2().ceil()
    stored = (blocks / 2.0 ** exponent[..., None]).to(E4M3)
    meant = (stored.float() * 2.0 ** exponent[..., None]).reshape(shape)
    scale = swizzled((exponent + 127).to(torch.uint8))
    held = {"weight": stored.reshape(shape), "weight_scale": scale, "comfy_quant": hint(format="mxfp8")}
    return Written(held, meant[: weight.shape[0], : weight.shape[1]])


def nvfp4(weight: Tensor, *, smooth: bool = False) -> Written:
    """smooth: the layer's input is multiplied by `pre_quant_scale`, and the weight divided by it before."""
    smoothing = torch.linspace(0.5, 2, weight.shape[1]) if smooth else torch.ones(weight.shape[1])
    blocks = padded(weight / smoothing, 16)
    shape = blocks.shape
    blocks = blocks.reshape(shape[0], -1, 16)
    factor = blocks.abs().max() / (448 * 6)
    scale = (blocks.abs().amax(2) / 6 / factor).to(E4M3)
    used = (factor * scale.float())[..., None]
    table = torch.tensor(E2M1)
    codes = (blocks[..., None] - table * used[..., None]).abs().argmin(3).reshape(shape).to(torch.uint8)
    meant = (table[codes.long()].reshape(blocks.shape) * used).reshape(shape)
    held = {
        "weight": (codes[:, 0::2] << 4) | codes[:, 1::2],
        "weight_scale": swizzled(scale.view(torch.uint8)).view(E4M3),
        "weight_scale_2": factor,
        "comfy_quant": hint(format="nvfp4"),
    }
    meant = meant[: weight.shape[0], : weight.shape[1]]
    return Written(held | ({"pre_quant_scale": smoothing} if smooth else {}), meant * smoothing)


def convrot_w4a4(weight: Tensor, group: int) -> Written:
    turned = rotated(weight, group).float()
    scale = turned.abs().amax(1) / 7
    codes = (turned / scale[:, None]).round().to(torch.int32)
    packed = (codes[:, 0::2] & 15) + 16 * (codes[:, 1::2] & 15)
    said = hint(format="convrot_w4a4", convrot_groupsize=group)
    held = {"weight": packed.to(torch.uint8).view(torch.int8), "weight_scale": scale, "comfy_quant": said}
    return Written(held, unrotated(codes * scale[:, None].double(), group))


def w4a8(weight: Tensor, group: int, *, codebook: bool = True, size: int = 16) -> Written:
    turned = rotated(weight, group).float().reshape(len(weight), -1, size)
    values = CODEBOOK if codebook else torch.arange(-8.0, 8.0)
    reach = float(values.abs().max())
    row_scale = turned.abs().amax((1, 2)) / 127
    scale = (turned.abs().amax(2) / reach / row_scale[:, None]).to(E4M3)
    levels = (values * scale.float()[..., None]).round().clamp(-127, 127)
    codes = (turned[..., None] - (levels * row_scale[:, None, None])[:, :, None]).abs().argmin(3)
    chosen = levels.gather(2, codes).reshape(weight.shape)
    codes = codes.reshape(weight.shape)
    held = {
        "weight": (codes[:, 0::2] + 16 * codes[:, 1::2]).to(torch.uint8).view(torch.int8),
        "weight_s_rel": scale.view(torch.uint8) if codebook else scale,
        "weight_s_channel": row_scale,
        "comfy_quant": hint(format="asym_w4a8_int8", params={"group_size": size, "convrot_groupsize": group}),
    } | ({"weight_codebook": CODEBOOK.clone()} if codebook else {})
    return Written(held, unrotated(chosen * row_scale[:, None].double(), group))


FORMATS: dict[str, Callable[[Tensor], Written]] = {
    "fp8 per row": fp8_rows,
    "fp8 in squares": fp8_blocks,
    "fp8 in squares of 64": lambda weight: fp8_blocks(weight, 64),
    "fp8 in blocks of a row": fp8_row_blocks,
    "fp8 in blocks of a row with a factor": lambda weight: fp8_row_blocks(weight, 0.37),
    "int8 per row": int8_rows,
    "int8_tensorwise per row": lambda weight: int8_rows(weight, hint(format="int8_tensorwise")),
    "int8_tensorwise": lambda weight: int8_rows(weight, hint(format="int8_tensorwise"), one=True),
    "int8_tensorwise rotated by 16": lambda weight: int8_rotated(weight, 16),
    "int8_tensorwise rotated by 256": lambda weight: int8_rotated(weight, 256, nested=True),
    "quanto": quanto,
    "mxfp8": mxfp8,
    "nvfp4": nvfp4,
    "nvfp4 smoothed": lambda weight: nvfp4(weight, smooth=True),
    "convrot_w4a4 by 16": lambda weight: convrot_w4a4(weight, 16),
    "convrot_w4a4 by 256": lambda weight: convrot_w4a4(weight, 256),
    "asym_w4a8_int8 by 16": lambda weight: w4a8(weight, 16),
    "asym_w4a8_int8 by 256": lambda weight: w4a8(weight, 256, size=32),
    "asym_w4a8_int8 without a codebook": lambda weight: w4a8(weight, 16, codebook=False),
}
ROTATED = {name for name in FORMATS if "rotated" in name or "w4a" in name}
# What ComfyUI 0.33 itself has a reader for.
OF_COMFYUI = [name for name in FORMATS if not name.startswith(("fp8 in", "int8 per row", "quanto"))]


def columns_of(kind: str, columns: int) -> bool:
    """Whether rows of that length can be stored in the format."""
    return (
        columns % (256 if "256" in kind else 16 if kind in ROTATED or "blocks of a row" in kind else 1) == 0
    )


def quantised(
    weights: Tensors, kind: str, linear: Callable[[str, Tensor], bool], *, in_metadata: bool = False
) -> tuple[Tensors, Tensors, dict[str, str]]:
    """(what a file holds, what it means, its metadata). Layers that do not fit the format stay as they are.

    in_metadata: say what ComfyUI has to know there, not beside each layer.
    """
    held: Tensors = {}
    meant: Tensors = {}
    layers = {}
    for name, tensor in weights.items():
        if not linear(name, tensor) or not columns_of(kind, tensor.shape[1]):
            held[name], meant[name] = tensor.half(), tensor.half().float()
            continue
        layer = name.removesuffix(".weight")
        beside, meant[name] = FORMATS[kind](tensor.float())
        if in_metadata and "comfy_quant" in beside:
            layers[layer] = json.loads(bytes(beside.pop("comfy_quant").tolist()))
        held |= {f"{layer}.{part}": stored for part, stored in beside.items()}
    said = json.dumps({"format_version": "1.0", "layers": layers})
    return held, meant, {"_quantization_metadata": said} if layers else {}


def largest_error(found: Tensor, meant: Tensor) -> float:
    """Relative to the largest value."""
    return float((found.double() - meant.double()).abs().max() / meant.abs().max())


def matrices(shapes: Iterable[tuple[int, int]], seed: int = 0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"layer{i}.weight": torch.randn(shape, generator=generator) * 0.02 for i, shape in enumerate(shapes)
    }

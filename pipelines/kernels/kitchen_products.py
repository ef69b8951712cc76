"""Multiplies on stored numbers with comfy-kitchen, which quantises tokens in one kernel.

comfy-kitchen chooses a backend for each function. Its eager one is plain torch and runs on a CPU too, but is
no faster than ours: `why_not_kitchen` asks for another. The package is imported when a function is called.

Source: comfy-kitchen 0.2.31 (__init__.py, registry.py, backends/cuda). Arguments are those of
`stored_products.Multiply`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..device.late_torch import F, torch
from .block_scales import per_token, scale_sides

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["INT8", "MXFP8", "NVFP4", "int8", "mxfp8", "nvfp4", "why_not_kitchen"]

# What must have a kernel for a product to be worth it. Every backend multiplies mxfp8 with torch.
INT8 = ("int8_linear",)
MXFP8 = ("quantize_mxfp8",)
NVFP4 = ("quantize_nvfp4", "scaled_mm_nvfp4")

_LARGEST_NVFP4 = 448.0 * 6.0  # of a scale in e4m3, and of a number in e2m1


def why_not_kitchen(functions: tuple[str, ...]) -> str | None:
    """Return why comfy-kitchen has no kernels for these functions here. None if it has them."""
    try:
        from comfy_kitchen import list_backends
    except ModuleNotFoundError:
        return "comfy-kitchen is not installed"
    kernels = {
        function
        for name, backend in list_backends().items()
        if name != "eager" and backend["available"] and not backend["disabled"]
        for function in backend["capabilities"]
    }
    missing = [function for function in functions if function not in kernels]
    return f"comfy-kitchen has no kernel for {', '.join(missing)} here" if missing else None


def int8(tokens: Tensor, numbers: Tensor, row_scale: Tensor) -> Tensor:
    from comfy_kitchen import int8_linear

    made: Tensor = int8_linear(tokens, numbers, row_scale, out_dtype=torch.float32)
    return made


def mxfp8(tokens: Tensor, numbers: Tensor, block_scale: Tensor) -> Tensor:
    from comfy_kitchen import quantize_mxfp8, scaled_mm_mxfp8

    rows, columns = numbers.shape
    left, ours = quantize_mxfp8(_wide(tokens, columns), pad_32x=True)
    theirs = block_scale.view(torch.float8_e8m0fnu).view(scale_sides(rows, columns // 32))
    made: Tensor = scaled_mm_mxfp8(left, numbers, ours, theirs, out_dtype=torch.bfloat16)
    return made[: len(tokens)]


def nvfp4(tokens: Tensor, numbers: Tensor, block_scale: Tensor, factor: Tensor) -> Tensor:
    """Scale each token outside of comfy-kitchen, which has one factor for all of them."""
    from comfy_kitchen import quantize_nvfp4, scaled_mm_nvfp4

    rows, columns = len(numbers), 2 * numbers.shape[1]
    scaled, of_token = per_token(tokens, _LARGEST_NVFP4)
    one = torch.ones((), device=tokens.device)
    left, ours = quantize_nvfp4(_wide(scaled, columns), one, pad_16x=True)
    theirs = block_scale.view(torch.float8_e4m3fn).view(scale_sides(rows, columns // 16))
    made = scaled_mm_nvfp4(left, numbers, one, factor, ours, theirs, out_dtype=torch.bfloat16)
    return made[: len(tokens)].float().mul_(of_token)  # type: ignore[no-any-return]


def _wide(tokens: Tensor, columns: int) -> Tensor:
    return F.pad(tokens, (0, columns - tokens.shape[1]))

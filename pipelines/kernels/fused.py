"""The operations of a block as triton kernels. Each reads and writes the hidden state once.

They are registered as torch operators, so that `torch.compile` and memory counters see each as one step. They
read in the dtype of the tensors, compute in float32 and round once.
"""

# No postponed annotations here: torch reads those of an operator, and its older versions only real types.
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor

from .operations import Operations, Project, Rope, gelu_linear, no_table

__all__ = ["fused_operations", "rms_silu", "triton_installed"]


@lru_cache(maxsize=1)
def triton_installed() -> bool:
    """Return whether triton is installed, and not a stub. Only a launch shows whether it runs on a device."""
    try:
        import triton.language  # noqa: F401
    except ImportError:
        return False
    return True


def fused_operations() -> Operations | None:
    """Return the triton operations. None if triton is not installed."""
    if not triton_installed():
        return None
    return Operations(
        "triton",
        _norm,
        _gated,
        _gated_norm,
        _turned,
        gelu_linear,
        no_table,
        _rms_silu,
        turns_in_place=True,
    )


def _norm(hidden: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    normed: Tensor = _norm_op(hidden.contiguous(), weight, bias, eps)
    return normed


def _gated(hidden: Tensor, update: Tensor, gate: Tensor | None) -> Tensor:
    return hidden + update if gate is None else _gated_op(hidden.contiguous(), update.contiguous(), gate)


def _gated_norm(
    hidden: Tensor, update: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    made: tuple[Tensor, Tensor] = _gated_norm_op(
        hidden.contiguous(), update.contiguous(), gate, weight, bias, eps
    )
    return made


def _turned(project: Project, weight: Tensor, eps: float, heads: int, rope: Rope) -> Tensor:
    projection = project()
    _turn_op(projection, weight, rope.cos, rope.sin, eps)
    return torch.unflatten(projection, 2, (heads, -1))


def _rms_silu(pixels: Tensor, gamma: Tensor, out: Tensor) -> None:
    for one, into in zip(pixels.contiguous(), out, strict=True):
        rms_silu(one, gamma, pixels.shape[-1] ** 0.5, into)


def rms_silu(pixels: Tensor, gamma: Tensor, scale: float, out: Tensor) -> None:
    """Write silu(x / |x| * scale * gamma) into `out`. Both (..., C), contiguous; gamma (C,)."""
    _rms_silu_op(pixels, gamma, scale, out)


@torch.library.custom_op("wan_duet::norm", mutates_args=())
def _norm_op(hidden: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    normed = torch.empty_like(hidden)
    _launch(hidden, None, None, hidden, normed, weight, bias, eps)
    return normed


@torch.library.custom_op("wan_duet::gated", mutates_args=())
def _gated_op(hidden: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    total = torch.empty_like(hidden)
    _launch(hidden, update, gate, total, None, gate, gate, 0.0)
    return total


@torch.library.custom_op("wan_duet::gated_norm", mutates_args=())
def _gated_norm_op(
    hidden: Tensor, update: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    total, normed = torch.empty_like(hidden), torch.empty_like(hidden)
    _launch(hidden, update, gate, total, normed, weight, bias, eps)
    return total, normed


@torch.library.custom_op("wan_duet::turn", mutates_args={"projection"})
def _turn_op(projection: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> None:
    from .triton_kernels import turn_kernel

    batch, tokens, width = projection.shape
    block = _power_of_two(width)
    with _on(projection):
        turn_kernel[(batch * tokens,)](
            projection, weight, cos, sin, tokens, width, cos.shape[-1], eps,
            BLOCK=block, num_warps=_warps(block),
        )  # fmt: skip


@torch.library.custom_op("wan_duet::rms_silu", mutates_args={"out"})
def _rms_silu_op(pixels: Tensor, gamma: Tensor, scale: float, out: Tensor) -> None:
    from .triton_kernels import rms_silu_kernel

    width = pixels.shape[-1]
    count, block = pixels.numel() // width, _power_of_two(width)
    rows = max(1, 2048 // block)
    with _on(pixels):
        rms_silu_kernel[(-(-count // rows),)](
            pixels, gamma, out, count, width, scale, ROWS=rows, BLOCK=block, num_warps=4
        )


@_norm_op.register_fake
def _(hidden: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    del weight, bias, eps
    return torch.empty_like(hidden)


@_gated_op.register_fake
def _(hidden: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    del update, gate
    return torch.empty_like(hidden)


@_gated_norm_op.register_fake
def _(
    hidden: Tensor, update: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    del update, gate, weight, bias, eps
    return torch.empty_like(hidden), torch.empty_like(hidden)


@_turn_op.register_fake
def _(projection: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, eps: float) -> None:
    del projection, weight, cos, sin, eps


@_rms_silu_op.register_fake
def _(pixels: Tensor, gamma: Tensor, scale: float, out: Tensor) -> None:
    del pixels, gamma, scale, out


def _launch(
    hidden: Tensor,
    update: Tensor | None,
    gate: Tensor | None,
    total: Tensor,
    normed: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
) -> None:
    """Launch the kernel of sum and norm.

    Without `update` it does not sum, without `normed` it does not norm.
    """
    from .triton_kernels import norm_kernel

    batch, tokens, width = hidden.shape
    block, factor = _power_of_two(width), weight if gate is None else gate
    with _on(hidden):
        norm_kernel[(batch * tokens,)](
            hidden, hidden if update is None else update, factor, weight, bias,
            total, total if normed is None else normed,
            tokens, width, tokens // factor.shape[-2], *_strides(factor),
            tokens // weight.shape[-2], *_strides(weight), *_strides(bias), eps,
            SUMS=update is not None, GATES=gate is not None, NORMS=normed is not None,
            BLOCK=block, num_warps=_warps(block),
        )  # fmt: skip


def _strides(rows: Tensor) -> tuple[int, int]:
    """Return the strides of batch and row."""
    return (rows.stride(0) if rows.shape[0] > 1 else 0), (rows.stride(1) if rows.shape[1] > 1 else 0)


def _power_of_two(width: int) -> int:
    return 1 << (width - 1).bit_length()


def _warps(block: int) -> int:
    return max(1, min(16, block // 512))


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    """Make the tensor's device current: triton launches on the current device."""
    return torch.cuda.device(tensor.device) if tensor.device.type == "cuda" else nullcontext()

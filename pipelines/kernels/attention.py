"""Attention without a mask, with the fastest kernel of the device.

Kernels are called by name. No process-wide switch of torch is read or changed, so two networks of a process
may use different kernels. All but Sage differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor

from ..errors import ModelError
from .kernel_names import ATTENTIONS, Attention
from .trial import DeviceFacts, facts_of, remembered

__all__ = [
    "Attend",
    "attend_with",
    "attention_candidates",
    "fills_tiles",
    "in_two_parts",
    "why_not",
]

# cuDNN's kernel for Hopper is 7 % slower where keys do not fill its last tile (H200, 32760 and 32768 keys).
_TILE = 128
_LONG = 8192  # keys from which two parts are quicker than one

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(query, key, value) -> all of (B, N, heads, head width)."""


def attend_with(name: Attention, device: torch.device | None = None) -> Attend:
    """Return the kernel of this name, in its fastest form for `device`. None for an unknown kernel.

    Raises ModelError if the package it needs is not installed.
    """
    if name not in _MAKERS:
        raise ModelError(f"attention: {name!r} is unknown; give one of {', '.join(ATTENTIONS)}")
    return _made(name, in_parts=device is not None and fills_tiles(name, facts_of(device)))


def fills_tiles(name: Attention, facts: DeviceFacts) -> bool:
    """Return whether the kernel is slower on this device when the keys do not fill its last tile."""
    return name == "cudnn" and facts.capability is not None and facts.capability[0] == 9


@lru_cache(maxsize=2 * len(ATTENTIONS))  # one function per kernel: a compiled block is made for it
def _made(name: Attention, *, in_parts: bool) -> Attend:
    try:
        return _cudnn_in_parts() if in_parts else _MAKERS[name]()
    except ImportError as error:
        raise ModelError(f"attention: {name} needs a missing package: {error}; use sdpa") from error


def attention_candidates(facts: DeviceFacts, dtype: torch.dtype) -> tuple[Attention, ...]:
    """Return the exact kernels that may be faster than sdpa on such a device, fastest first."""
    if facts.capability is None or dtype == torch.float32:
        return ()
    if facts.capability[0] == 9:
        return ("flash3", "cudnn", "flash2")
    if facts.capability[0] == 10:  # no FlashAttention 3 here, and cuDNN's kernel is the one made for it
        return ("cudnn", "flash2")
    return ("flash2",)


@remembered
def why_not(name: Attention, device: torch.device, dtype: torch.dtype, head_width: int = 128) -> str | None:
    """Return the error of a kernel that does not run on `device`, tried once. None if it runs."""
    sample = torch.ones(1, 256, 2, head_width, device=device, dtype=dtype)
    attended = attend_with(name, device)(sample, sample, sample)
    return None if torch.allclose(attended.float(), sample.float(), atol=0.05) else "gives wrong results"


def _heads_first(kernel: Attend) -> Attend:
    """Adapt a kernel that expects (B, heads, N, D / heads)."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return kernel(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).transpose(1, 2)

    return attend


def _sdpa() -> Attend:
    return _heads_first(F.scaled_dot_product_attention)


def _cudnn_kernel(query: Tensor, key: Tensor, value: Tensor, sums: bool = False) -> tuple[Tensor, Tensor]:
    found = torch.ops.aten._scaled_dot_product_cudnn_attention(
        query, key, value, None, sums, 0.0, False, False
    )
    return found[0], found[1]


def _cudnn() -> Attend:
    return _heads_first(lambda *qkv: _cudnn_kernel(*qkv)[0])


def _cudnn_in_parts() -> Attend:
    whole = _cudnn()
    parted = _heads_first(lambda *qkv: in_two_parts(partial(_cudnn_kernel, sums=True), *qkv))

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        tokens = key.shape[1]
        return (parted if tokens >= _LONG and tokens % _TILE else whole)(query, key, value)

    return attend


def in_two_parts(
    kernel: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    query: Tensor,
    key: Tensor,
    value: Tensor,
) -> Tensor:
    """Compute attention to the keys that fill tiles and to the rest, and join both; (B, heads, N, D / heads).

    kernel: also returns the log-sum-exp, (B, heads, N, 1) float32, which gives each part's share of the
            softmax.
    """
    tiles = key.shape[2] // _TILE * _TILE
    most, most_sum = kernel(query, key[:, :, :tiles], value[:, :, :tiles])
    few, few_sum = kernel(query, key[:, :, tiles:], value[:, :, tiles:])
    share = torch.sigmoid(few_sum - most_sum).to(most.dtype)
    return torch.lerp(most, few, share)


def _flash2() -> Attend:
    def kernel(*qkv: Tensor) -> Tensor:
        found: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(*qkv, 0.0, False, False)[0]
        return found

    return _heads_first(kernel)


def _flash3() -> Attend:
    from flash_attn_interface import flash_attn_func

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = flash_attn_func(query, key, value)
        found: Tensor = attended[0] if isinstance(attended, tuple) else attended
        return found

    return attend


def _sage() -> Attend:
    from sageattention import sageattn

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended: Tensor = sageattn(query, key, value, tensor_layout="NHD")
        return attended

    return attend


_MAKERS: dict[str, Callable[[], Attend]] = {
    "flash3": _flash3,
    "cudnn": _cudnn,
    "flash2": _flash2,
    "sdpa": _sdpa,
    "sage": _sage,
}

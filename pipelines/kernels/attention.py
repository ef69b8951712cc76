"""Attention without a mask, by the quickest kernel that the device has.

Every kernel is called by its own name, so none of torch's process-wide switches is read or changed, and two
networks of one process may use different ones. All but Sage are of the float class.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor

from ..errors import ModelError
from .names import ATTENTIONS, Attention

__all__ = ["Attend", "attend_with", "best_attention", "in_two_parts", "usable_attentions", "why_not"]

log = logging.getLogger(__name__)

# cuDNN's kernel for Hopper is 7 % slower where keys do not fill its last tile (H200, 32760 and 32768 keys).
_TILE = 128
_LONG = 8192  # keys from which two parts are quicker than one

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(query, key, value) -> all of (B, N, heads, head width)."""


@lru_cache(maxsize=len(ATTENTIONS))  # one function per kernel: a compiled block is made for it
def attend_with(name: Attention) -> Attend:
    """The kernel of that name. Raises ModelError when what it needs is not installed."""
    if name not in _MAKERS:
        raise ModelError(f"attention: {name!r}; one of {', '.join(ATTENTIONS)} works")
    try:
        return _MAKERS[name]()
    except ImportError as error:
        raise ModelError(f"attention: {name} needs a package that is missing: {error}; take sdpa") from error


def best_attention(device: torch.device, dtype: torch.dtype, head_width: int = 128) -> Attention:
    """The quickest exact kernel that runs on `device`; each candidate is tried once on a few numbers."""
    for name in _candidates(device, dtype):
        if why_not(name, device, dtype, head_width) is None:
            return name
    return "sdpa"


def usable_attentions(
    device: torch.device, dtype: torch.dtype, head_width: int = 128
) -> dict[str, str | None]:
    """Of every kernel, None where it runs, else why it does not."""
    return {name: why_not(name, device, dtype, head_width) for name in ATTENTIONS}


def _candidates(device: torch.device, dtype: torch.dtype) -> tuple[Attention, ...]:
    if device.type != "cuda" or dtype == torch.float32 or torch.version.hip:
        return ()
    capability = torch.cuda.get_device_capability(device)
    if capability[0] == 9:
        return ("flash3", "cudnn", "flash2")
    if capability[0] == 10:  # no FlashAttention 3 here, and cuDNN's kernel is the one made for it
        return ("cudnn", "flash2")
    return ("flash2",)


@lru_cache(maxsize=64)
def why_not(name: Attention, device: torch.device, dtype: torch.dtype, head_width: int = 128) -> str | None:
    """What a kernel says that does not run on `device`, tried once; None of one that does."""
    try:
        sample = torch.ones(1, 256, 2, head_width, device=device, dtype=dtype)
        attended = attend_with(name)(sample, sample, sample)
        if not torch.allclose(attended.float(), sample.float(), atol=0.05):
            return "gives wrong numbers"
    except (ModelError, RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        log.debug("attention %s does not run on %s: %s", name, device, reason)
        return reason
    return None


def _heads_first(kernel: Attend) -> Attend:
    """For kernels that want (B, heads, N, D / heads)."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return kernel(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).transpose(1, 2)

    return attend


def _sdpa() -> Attend:
    return _heads_first(F.scaled_dot_product_attention)


def _cudnn() -> Attend:
    def kernel(query: Tensor, key: Tensor, value: Tensor, sums: bool = False) -> tuple[Tensor, Tensor]:
        found = torch.ops.aten._scaled_dot_product_cudnn_attention(
            query, key, value, None, sums, 0.0, False, False
        )
        return found[0], found[1]

    whole = _heads_first(lambda *qkv: kernel(*qkv)[0])
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9:
        return whole
    parted = _heads_first(lambda *qkv: in_two_parts(partial(kernel, sums=True), *qkv))

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
    """Attention to as many keys as fill tiles, joined with that to the others; (B, heads, N, D / heads).

    kernel: also gives the logarithm of the sum of exponentials, (B, heads, N, 1) float32, in which a part's
            share of the whole softmax lies.
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

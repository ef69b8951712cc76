"""Our own forward for the Wan VAE, with the parameters and the calls of diffusers' classes.

The stock one moves ten times the data that its convolutions read and write: padded copies, concatenation with
past frames, norms in five float32 steps. Here the layout is channels-last. The norm writes its result
directly behind the two past frames, where the convolution reads it, and the convolution pads by itself.
Results differ by rounding only, and a stream gives the same result as a whole clip.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

from ..kernels.operations import Operations, plain_operations
from ..parallel.row_share import RowShare
from .layers import (
    WanAttentionBlock,
    WanDecoder3d,
    WanEncoder3d,
    WanResample,
    WanResidualBlock,
    WanResidualUpBlock,
)

__all__ = ["replace_vae_forward"]

_PAST = 2  # frames that a causal convolution of three looks back
_LAYOUT = torch.channels_last_3d


def replace_vae_forward(vae: Any, operations: Operations | None = None, rows: RowShare | None = None) -> None:
    """Make `vae`, ours or diffusers', compute with our forward. Names and values of its parameters stay.

    Weights on a device become channels-last. Those on the CPU keep their layout: they may be a mapped file.

    operations: the element-wise operations; None for plain torch.
    rows:       of the latents, which the decoder of this rank gets; None for all.
    """
    operations = operations or plain_operations()
    ours = (_Decoder, _Encoder, _Resample, _ResidualBlock, _ResidualUpBlock, _AttentionBlock)
    own: dict[str, Any] = {cls.__mro__[1].__name__: cls for cls in ours}
    in_decoder = set(vae.decoder.modules())
    for module in (*vae.encoder.modules(), *in_decoder):
        module.__class__ = own.get(type(module).__name__, type(module))
        if isinstance(module, ours):
            module.operations, module.rows = operations, rows if module in in_decoder else None
        if isinstance(module, nn.Conv3d) and module.weight.device.type not in ("cpu", "meta"):
            module.weight.data = module.weight.data.contiguous(memory_format=_LAYOUT)
        if isinstance(module, nn.Conv2d) and module.weight.device.type not in ("cpu", "meta"):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


class _CacheCursor:
    """The feature cache of a network, and the position of a forward in it.

    rows: those of this rank; the cached frames then have a row of the neighbours at each end.
    """

    def __init__(self, cache: list[Any] | None, index: list[int], rows: RowShare | None) -> None:
        self._cache, self._index, self._rows = cache, index, rows

    def convolve(
        self, convolution: Any, shape: torch.Size, write: Callable[[Tensor], object], like: Tensor
    ) -> Tensor:
        """Return the causal convolution of the cached frames and those that `write` fills in.

        shape: (B, C, T, H, W) of the new frames.
        """
        batch, channels, frames, height, width = shape
        height_padding, width_padding = convolution._padding[2], convolution._padding[0]
        rows = self._rows if height_padding else None
        whole = torch.empty(
            (batch, channels, _PAST + frames, height + 2 * (rows is not None), width),
            dtype=like.dtype,
            device=like.device,
            memory_format=_LAYOUT,
        )
        past = self._cache[self._index[0]] if self._cache is not None else None
        if isinstance(past, Tensor):
            whole[:, :, :_PAST].copy_(past)
        else:
            whole[:, :, :_PAST].zero_()
        if rows is None:
            write(whole[:, :, _PAST:])
        else:
            mine = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=_LAYOUT)
            write(mine)
            above, below = rows.around(mine)
            torch.cat((above, mine, below), -2, out=whole[:, :, _PAST:])
        if self._cache is not None:
            self._cache[self._index[0]] = whole[:, :, -_PAST:].clone(memory_format=torch.preserve_format)
            self._index[0] += 1
        padding = (0, 0 if rows else height_padding, width_padding)
        return F.conv3d(whole, convolution.weight, convolution.bias, padding=padding)

    def skips_first(self) -> bool:
        """Return whether this convolution has no cached frames yet.

        Then it is skipped, and marked as started.
        """
        if self._cache is None:
            return True
        if self._cache[self._index[0]] is not None:
            return False
        self._cache[self._index[0]] = "passed over"
        self._index[0] += 1
        return True


class _Decoder(WanDecoder3d):
    operations: Operations
    rows: RowShare | None

    def forward(
        self, x: Tensor, feat_cache: Any = None, feat_idx: Any = None, first_chunk: bool = False
    ) -> Tensor:
        index = [0] if feat_idx is None else feat_idx
        cursor = _CacheCursor(feat_cache, index, self.rows)
        x = cursor.convolve(self.conv_in, x.shape, lambda place: place.copy_(x), x)
        x = self.mid_block(x, feat_cache=feat_cache, feat_idx=index)
        for block in self.up_blocks:
            x = block(x, feat_cache=feat_cache, feat_idx=index, first_chunk=first_chunk)
        return _normed_convolution(self, cursor, self.norm_out, self.conv_out, x)


class _Encoder(WanEncoder3d):
    operations: Operations
    rows: RowShare | None

    def forward(self, x: Tensor, feat_cache: Any = None, feat_idx: Any = None) -> Tensor:
        index = [0] if feat_idx is None else feat_idx
        cursor = _CacheCursor(feat_cache, index, self.rows)
        x = cursor.convolve(self.conv_in, x.shape, lambda place: place.copy_(x), x)
        for layer in self.down_blocks:
            x = layer(x, feat_cache=feat_cache, feat_idx=index)
        x = self.mid_block(x, feat_cache=feat_cache, feat_idx=index)
        return _normed_convolution(self, cursor, self.norm_out, self.conv_out, x)


class _ResidualBlock(WanResidualBlock):
    operations: Operations
    rows: RowShare | None

    def forward(self, x: Tensor, feat_cache: Any = None, feat_idx: Any = None) -> Tensor:
        cursor = _CacheCursor(feat_cache, [0] if feat_idx is None else feat_idx, self.rows)
        result: Tensor = _normed_convolution(self, cursor, self.norm1, self.conv1, x)
        result = _normed_convolution(self, cursor, self.norm2, self.conv2, result)
        shortcut = self.conv_shortcut
        if not isinstance(shortcut, nn.Identity):
            x = F.conv3d(x, shortcut.weight, shortcut.bias)
        return result.add_(x)


class _Resample(WanResample):
    operations: Operations
    rows: RowShare | None

    def forward(self, x: Tensor, feat_cache: Any = None, feat_idx: Any = None) -> Any:
        if not self.mode.startswith("upsample"):
            return super().forward(x, feat_cache, [0] if feat_idx is None else feat_idx)
        cursor = _CacheCursor(feat_cache, [0] if feat_idx is None else feat_idx, self.rows)
        copies = 1
        if self.mode == "upsample3d" and not cursor.skips_first():
            x = cursor.convolve(self.time_conv, x.shape, lambda place, x=x: place.copy_(x), x)  # type: ignore[misc]
            copies = 2  # the convolution gives two frames for each, one half of its channels each
        if self.rows is None:
            return _upsampled(x, copies, self.resample[1])
        above, below = self.rows.around(x)
        return _upsampled(torch.cat((above, x, below), -2), copies, self.resample[1])[..., 2:-2, :]


class _AttentionBlock(WanAttentionBlock):
    operations: Operations
    rows: RowShare | None

    def whole_frames(self, own_keys: Tensor) -> Tensor:
        return own_keys if self.rows is None else self.rows.join(own_keys)


class _ResidualUpBlock(WanResidualUpBlock):
    operations: Operations
    rows: RowShare | None

    def forward(
        self, x: Tensor, feat_cache: Any = None, feat_idx: Any = None, first_chunk: bool = False
    ) -> Tensor:
        index, before = [0] if feat_idx is None else feat_idx, x
        for resnet in self.resnets:
            x = resnet(x, feat_cache=feat_cache, feat_idx=index)
        if self.upsampler is not None:
            x = self.upsampler(x, feat_cache=feat_cache, feat_idx=index)
        if self.avg_shortcut is not None:
            repeated = None if first_chunk else _repeated(before, self.avg_shortcut)
            if repeated is None:
                return x.add_(self.avg_shortcut(before, first_chunk=first_chunk))
            _blocks(x, self.avg_shortcut).add_(repeated)
        return x


def _normed_convolution(
    module: Any, cursor: _CacheCursor, norm: Any, convolution: nn.Conv3d, x: Tensor
) -> Tensor:
    """Return convolution(silu(norm(x))), with the RMS norm over the channels of WanRMS_norm."""

    def write(place: Tensor) -> None:
        pixels, out = x.permute(0, 2, 3, 4, 1), place.permute(0, 2, 3, 4, 1)
        module.operations.rms_silu(pixels, norm.gamma.view(-1), out)

    return cursor.convolve(convolution, x.shape, write, x)


def _upsampled(x: Tensor, copies: int, convolution: Any) -> Tensor:
    """Return `copies` T frames from (B, copies C, T, H, W): each pixel is repeated 2 x 2, then convolved."""
    batch, channels, frames, height, width = x.shape
    channels //= copies
    source = torch.unflatten(x.permute(0, 2, 3, 4, 1), -1, (copies, channels)).permute(0, 1, 4, 2, 3, 5)
    larger = x.new_empty(batch, frames, copies, height, 2, width, 2, channels)
    larger.copy_(source[:, :, :, :, None, :, None])
    images = larger.view(batch * frames * copies, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
    made = F.conv2d(images, convolution.weight, convolution.bias, padding=convolution.padding)
    return torch.unflatten(made, 0, (batch, frames * copies)).transpose(1, 2)


def _repeated(x: Tensor, shortcut: Any) -> Tensor | None:
    """Return what DupUp3D adds, as a view (B, T, ft, H, fs, W, fs, C) of `x`.

    None if a view is impossible.
    """
    factors = (shortcut.factor_t, shortcut.factor_s, shortcut.factor_s)
    groups, rest = divmod(x.shape[1], shortcut.out_channels)
    if rest:
        return None
    # Of the channels of a group, the leading bits of the place inside of a block of pixels choose one.
    for count in range(len(factors) + 1):
        if prod(factors[:count]) == groups:
            leading = (*factors[:count], *(1,) * (len(factors) - count))
            source = torch.unflatten(x.permute(0, 2, 3, 4, 1), -1, (shortcut.out_channels, *leading))
            return source.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return None


def _blocks(x: Tensor, shortcut: Any) -> Tensor:
    """View (B, C, T, H, W) as (B, T / ft, ft, H / fs, fs, W / fs, fs, C)."""
    spread = x.permute(0, 2, 3, 4, 1)
    spread = torch.unflatten(torch.unflatten(spread, 3, (-1, shortcut.factor_s)), 2, (-1, shortcut.factor_s))
    return torch.unflatten(spread, 1, (-1, shortcut.factor_t))

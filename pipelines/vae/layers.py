"""The layers of the Wan VAE, under the names that diffusers' classes and parameters have.

`forward.py` has the forward of most of them, for these and for diffusers' own; what it takes as it is has its
forward here. Features are (B, C, T, H, W). `feat_cache` and `feat_idx` are the cache of a stream and the
place in it, as in diffusers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

from ..networks.empty_layers import Conv2d, Conv3d
from .vae_config import VaeConfig

__all__ = [
    "WanCausalConv3d",
    "WanDecoder3d",
    "WanEncoder3d",
    "WanResample",
    "WanResidualBlock",
    "WanResidualUpBlock",
]


class WanCausalConv3d(Conv3d):
    """A convolution that pads in time before the first frame only. `_padding` is as for `F.pad`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int, int],
        stride: int | tuple[int, int, int] = 1,
        padding: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride)
        time, height, width = padding
        self._padding = (width, width, height, height, 2 * time, 0)


def _conv_of_three(inputs: int, outputs: int) -> WanCausalConv3d:
    return WanCausalConv3d(inputs, outputs, 3, padding=(1, 1, 1))


class WanRMS_norm(nn.Module):  # noqa: N801  diffusers' name
    """RMS norm over the channels of images (N, C, H, W), or of features."""

    def __init__(self, channels: int, *, images: bool) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *(1,) * (2 if images else 3)))

    def forward(self, images: Tensor) -> Tensor:
        exact = images.float() if images.dtype.itemsize < 4 else images
        normed = F.normalize(exact, dim=1).to(images.dtype)
        scaled: Tensor = normed * images.shape[1] ** 0.5 * self.gamma
        return scaled


class WanResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = WanRMS_norm(inputs, images=False), WanRMS_norm(outputs, images=False)
        self.conv1, self.conv2 = _conv_of_three(inputs, outputs), _conv_of_three(outputs, outputs)
        same = inputs == outputs
        self.conv_shortcut = nn.Identity() if same else WanCausalConv3d(inputs, outputs, 1)


class WanResample(nn.Module):
    """Doubles or halves height and width, and with "3d" the frames too: upsample2d, downsample3d, ..."""

    def __init__(self, channels: int, mode: str, outputs: int) -> None:
        super().__init__()
        self.mode = mode
        if mode.startswith("upsample"):
            self.resample = nn.Sequential(nn.Identity(), Conv2d(channels, outputs, 3, padding=1))
        else:
            self.resample = nn.Sequential(
                nn.ZeroPad2d((0, 1, 0, 1)), Conv2d(channels, outputs, 3, stride=(2, 2))
            )
        if mode == "upsample3d":
            self.time_conv = WanCausalConv3d(channels, 2 * channels, (3, 1, 1), padding=(1, 0, 0))
        elif mode == "downsample3d":
            self.time_conv = WanCausalConv3d(channels, channels, (3, 1, 1), (2, 1, 1))

    def forward(self, x: Tensor, feat_cache: Any, feat_idx: list[int]) -> Tensor:
        """Halve height and width of each frame, then the frames. The first of a stream has none before it."""
        smaller: Tensor = self.resample(x.transpose(1, 2).flatten(0, 1))
        x = torch.unflatten(smaller, 0, (x.shape[0], -1)).transpose(1, 2)
        if self.mode == "downsample3d" and feat_cache is not None:
            before = feat_cache[feat_idx[0]]
            feat_cache[feat_idx[0]] = x[:, :, -1:].clone()
            feat_idx[0] += 1
            if before is not None:
                x = self.time_conv(torch.cat([before, x], 2))
        return x


class WanAttentionBlock(nn.Module):
    """Attention with one head, within each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = WanRMS_norm(channels, images=True)
        self.to_qkv, self.proj = Conv2d(channels, 3 * channels, 1), Conv2d(channels, channels, 1)

    def whole_frames(self, own_keys: Tensor) -> Tensor:
        """Return the keys and values (N, 2 C, h, w) of whole frames."""
        return own_keys

    def forward(self, x: Tensor) -> Tensor:
        images = x.transpose(1, 2).flatten(0, 1)
        query, own_keys = self.to_qkv(self.norm(images)).tensor_split([images.shape[1]], dim=1)
        made = (query, *self.whole_frames(own_keys).chunk(2, dim=1))
        tokens = [each.flatten(2).transpose(1, 2)[:, None].contiguous() for each in made]
        attended = F.scaled_dot_product_attention(*tokens)[:, 0].transpose(1, 2)
        update = self.proj(attended.reshape(images.shape))
        return torch.unflatten(update, 0, (x.shape[0], -1)).transpose(1, 2) + x


class WanMidBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([WanAttentionBlock(channels)])
        self.resnets = nn.ModuleList(WanResidualBlock(channels, channels) for _ in range(2))

    def forward(self, x: Tensor, feat_cache: Any, feat_idx: list[int]) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, feat_cache, feat_idx))
        result: Tensor = self.resnets[1](x, feat_cache, feat_idx)
        return result


class AvgDown3D(nn.Module):
    """Makes the frames of a shortcut smaller: a mean over groups of what was folded into channels."""

    def __init__(self, inputs: int, outputs: int, factor_t: int, factor_s: int) -> None:
        super().__init__()
        self.outputs, self.factor_t, self.factor_s = outputs, factor_t, factor_s
        if inputs * factor_t * factor_s**2 % outputs:
            raise ValueError(f"{inputs} channels cannot become {outputs} in a shortcut")

    def forward(self, x: Tensor) -> Tensor:
        time, side = self.factor_t, self.factor_s
        x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % time, 0))
        blocks = torch.unflatten(torch.unflatten(x, 4, (-1, side)), 3, (-1, side))
        blocks = torch.unflatten(blocks, 2, (-1, time)).permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)
        return torch.unflatten(blocks, 1, (self.outputs, -1)).mean(2)


class DupUp3D(nn.Module):
    """Makes the frames of a shortcut larger: channels are repeated, and unfolded into pixels."""

    def __init__(self, inputs: int, outputs: int, factor_t: int, factor_s: int) -> None:
        super().__init__()
        self.out_channels, self.factor_t, self.factor_s = outputs, factor_t, factor_s
        self.repeats, rest = divmod(outputs * factor_t * factor_s**2, inputs)
        if rest:
            raise ValueError(f"{inputs} channels cannot become {outputs} in a shortcut")

    def forward(self, x: Tensor, first_chunk: bool) -> Tensor:
        time, side = self.factor_t, self.factor_s
        blocks = torch.unflatten(x.repeat_interleave(self.repeats, 1), 1, (-1, time, side, side))
        spread = blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return spread[:, :, time - 1 :] if first_chunk else spread


class WanResidualDownBlock(nn.Module):
    """A level of layout 2.2. halved: whether it ends smaller; in_time: in frames too."""

    def __init__(self, inputs: int, outputs: int, layers: int, *, halved: bool, in_time: bool) -> None:
        super().__init__()
        self.avg_shortcut = AvgDown3D(inputs, outputs, 2 if in_time else 1, 2 if halved else 1)
        self.resnets = _row_of_blocks(inputs, outputs, layers)
        mode = "downsample3d" if in_time else "downsample2d"
        self.downsampler = WanResample(outputs, mode, outputs) if halved else None

    def forward(self, x: Tensor, feat_cache: Any, feat_idx: list[int]) -> Tensor:
        before = x.clone()
        for resnet in self.resnets:
            x = resnet(x, feat_cache, feat_idx)
        if self.downsampler is not None:
            x = self.downsampler(x, feat_cache, feat_idx)
        result: Tensor = x + self.avg_shortcut(before)
        return result


class WanResidualUpBlock(nn.Module):
    """A level of layout 2.2. doubled: whether it ends larger; in_time: in frames too."""

    def __init__(self, inputs: int, outputs: int, layers: int, *, doubled: bool, in_time: bool) -> None:
        super().__init__()
        self.avg_shortcut = DupUp3D(inputs, outputs, 2 if in_time else 1, 2) if doubled else None
        self.resnets = _row_of_blocks(inputs, outputs, layers + 1)
        mode = "upsample3d" if in_time else "upsample2d"
        self.upsampler = WanResample(outputs, mode, outputs) if doubled else None


class WanUpBlock(nn.Module):
    """A level of layout 2.1, which halves the channels where it doubles the pixels."""

    def __init__(self, inputs: int, outputs: int, layers: int, *, doubled: bool, in_time: bool) -> None:
        super().__init__()
        self.resnets = _row_of_blocks(inputs, outputs, layers + 1)
        mode = "upsample3d" if in_time else "upsample2d"
        ends = [WanResample(outputs, mode, outputs // 2)] if doubled else []
        self.upsamplers = nn.ModuleList(ends)

    def forward(self, x: Tensor, feat_cache: Any, feat_idx: list[int], first_chunk: bool) -> Tensor:
        del first_chunk
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x, feat_cache, feat_idx)
        return x


def _row_of_blocks(inputs: int, outputs: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(WanResidualBlock(outputs if index else inputs, outputs) for index in range(count))


class WanEncoder3d(nn.Module):
    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths = [config.base_dim * multiple for multiple in (1, *config.dim_mult)]
        layers = config.num_res_blocks
        self.conv_in = _conv_of_three(config.in_channels, widths[0])
        self.down_blocks = nn.ModuleList()
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            halved = level < len(config.dim_mult) - 1
            time = halved and config.temperal_downsample[level]
            if config.is_residual:
                self.down_blocks.append(
                    WanResidualDownBlock(inputs, outputs, layers, halved=halved, in_time=time)
                )
                continue
            self.down_blocks.extend(_row_of_blocks(inputs, outputs, layers))
            if halved:
                mode = "downsample3d" if time else "downsample2d"
                self.down_blocks.append(WanResample(outputs, mode, outputs))
        self.mid_block = WanMidBlock(widths[-1])
        self.norm_out = WanRMS_norm(widths[-1], images=False)
        self.conv_out = _conv_of_three(widths[-1], 2 * config.z_dim)  # mean and variance


class WanDecoder3d(nn.Module):
    """As the encoder, from the other end."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        width = config.base_dim if config.decoder_base_dim is None else config.decoder_base_dim
        widths = [width * multiple for multiple in (config.dim_mult[-1], *reversed(config.dim_mult))]
        in_time = config.temperal_downsample[::-1]
        self.conv_in = _conv_of_three(config.z_dim, widths[0])
        self.mid_block = WanMidBlock(widths[0])
        self.up_blocks = nn.ModuleList()
        kind = WanResidualUpBlock if config.is_residual else WanUpBlock
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            doubled = level < len(config.dim_mult) - 1
            entering = inputs if config.is_residual or not level else inputs // 2
            time = doubled and in_time[level]
            self.up_blocks.append(
                kind(entering, outputs, config.num_res_blocks, doubled=doubled, in_time=time)
            )
        self.norm_out = WanRMS_norm(widths[-1], images=False)
        self.conv_out = _conv_of_three(widths[-1], config.out_channels)

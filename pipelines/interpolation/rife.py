"""The network of RIFE 4.0 and later: Huang et al., ECCV 2022, as Practical-RIFE trains it.

Both frames are brought towards time t by a flow that a few blocks refine, coarse to fine, and blended by a
mask. The versions differ in the number, width, scale and layers of the blocks, in the head that looks at each
frame once, and in what one block tells the next; tensor names and shapes say which it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ModelError
from .warp import warp

__all__ = ["RifeLayout", "RifeNet", "is_rife", "rife_keys", "rife_layout"]

_Layers: TypeAlias = Literal["prelu", "leaky", "residual"]

_DEPTH = 8  # convolutions between the ends of a block, in every version
_FLOW_AND_MASK = 5  # channels of a block's answer: two flows of two, one mask
_FOUR_SCALES, _FIVE_SCALES, _LITE_SCALES = (8, 4, 2, 1), (16, 8, 4, 2, 1), (32, 16, 8, 4, 1)
_LITE_LAST_WIDTH = 24  # only 4.25.lite has it, and only 4.25.lite has those scales
_HEAD = r"^encode\.(?:cnn)?(\d+)\."
# The last two draw details over the result of 4.0 to 4.4 in the mode that their authors turn off by default.
_NOT_NEEDED = ("teacher.", "caltime.", "block_tea.", "contextnet.", "unet.")
_FAST_PX = 32  # change of both flows by the second block from which 4.0 starts again at half the size


@dataclass(frozen=True)
class RifeLayout:
    """What differs between the versions.

    widths:  channels of each block, coarse to fine.
    scales:  how many times smaller than the frame each block sees it.
    head:    channels of each convolution of the head; the last is what it says about every pixel of a frame.
             Empty before 4.7: there is no head, and every block adds to the mask instead of replacing it.
    answer:  output channels of a block: flow, mask and what it hands to the next block.
    groups:  of the convolutions inside the blocks.
    layers:  "prelu" in 4.0 and 4.1, "leaky" in 4.2 to 4.4, "residual" since.
    """

    widths: tuple[int, ...]
    scales: tuple[int, ...]
    head: tuple[int, ...]
    answer: int
    groups: int
    layers: _Layers = "residual"

    @property
    def features(self) -> int:
        """The number of channels that the head says about every pixel."""
        return self.head[-1] if self.head else 0

    @property
    def carried(self) -> int:
        """The number of channels that a block hands to the next beside flow and mask; none before 4.21.

        4.6 to 4.20 have one channel that is not used.
        """
        return self.answer - _FLOW_AND_MASK if self.answer > _FLOW_AND_MASK + 1 else 0

    @property
    def order(self) -> tuple[int, ...]:
        """A key that sorts newer layouts behind older ones."""
        return (
            len(self.widths),
            bool(self.head),
            ("prelu", "leaky", "residual").index(self.layers),
            self.answer,
        )


def rife_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return {key of a file: name in `RifeNet`} for a raw checkpoint, its parts, or ComfyUI's format."""
    bare = {key: re.sub(r"^(module\.|flownet\.)+", "", key) for key in keys}
    bare = {key: name for key, name in bare.items() if not name.startswith(_NOT_NEEDED)}
    # The head is encode.0, encode.2, ... or encode.cnn0, encode.cnn1, ...: its convolutions, in their order.
    found = (re.match(_HEAD, name) for name in bare.values())
    heads = sorted({int(match[1]) for match in found if match})

    def own(name: str) -> str:
        name = re.sub(r"^block(\d)\.", r"blocks.\1.", name)
        return re.sub(_HEAD, lambda match: f"encode.{heads.index(int(match[1]))}.", name)

    return {key: own(name) for key, name in bare.items()}


def is_rife(names: Sequence[str]) -> bool:
    """Return whether names, from `rife_keys`, are of any RIFE version 4."""
    return any(re.match(r"blocks\.0\.conv0\.0\.[01]\.weight$", name) for name in names)


def rife_layout(shapes: Mapping[str, Sequence[int]]) -> RifeLayout:
    """Return the layout of a file from the shapes of its tensors, by their names in `RifeNet`.

    Raises ModelError if it is an unknown RIFE.
    """
    try:
        widths: list[int] = []
        while (key := f"blocks.{len(widths)}.conv0.1.0.weight") in shapes:
            widths.append(shapes[key][0])
        convs = sum(name.startswith("encode.") and name.endswith(".weight") for name in shapes)
        head = [shapes[f"encode.{i}.weight"][0] for i in range(convs - 1)]
        if convs:
            head.append(shapes[f"encode.{convs - 1}.weight"][1])  # transposed: (in, out, 4, 4)
        layers = _layers(shapes)
        if layers == "residual":
            answer = shapes["blocks.0.lastconv.0.weight"][1] // 4
            groups = widths[0] // shapes["blocks.0.convblock.0.conv.weight"][1]
        else:
            answer, groups = shapes["blocks.0.lastconv.weight"][1], 1
    except (LookupError, ZeroDivisionError) as error:
        raise ModelError(f"a RIFE of an unknown version ({error}); 3.9 and 4.0 to 4.26 work") from error
    scales = {4: _FOUR_SCALES, 5: _LITE_SCALES if widths[-1] == _LITE_LAST_WIDTH else _FIVE_SCALES}
    if len(widths) not in scales:
        raise ModelError(f"a RIFE of an unknown version ({len(widths)} blocks); 4.0 to 4.26 have 4 or 5")
    return RifeLayout(tuple(widths), scales[len(widths)], tuple(head), answer, groups, layers)


def _layers(shapes: Mapping[str, Sequence[int]]) -> _Layers:
    if "blocks.0.convblock.0.0.weight" not in shapes:
        return "residual"
    return "prelu" if "blocks.0.convblock.0.1.weight" in shapes else "leaky"


class RifeNet(nn.Module):
    """Names of the tensors are those of Practical-RIFE's files, with lists for what those number by hand.

    The convolutions work in the dtype of the weights; frames, flow and mask stay float32, because the flow
    is a sum of up to five answers and ends as positions in an image.

    scale: below 1 lets the blocks see smaller images: faster, and larger motion is found, in less detail.
           Practical-RIFE advises 0.5 for 4K.
    """

    def __init__(self, layout: RifeLayout, scale: float = 1.0) -> None:
        super().__init__()
        self.layout = layout
        self.scales = [coarse / scale for coarse in layout.scales]
        self.encode = nn.ModuleList(_head(layout.head))
        first = 2 * (3 + layout.features) + 1
        later = first + _FLOW_AND_MASK + layout.carried
        self.blocks = nn.ModuleList(
            _Block(later if i else first, width, layout) for i, width in enumerate(layout.widths)
        )

    @property
    def alignment(self) -> int:
        """Width and height of a frame must be multiples of this, in pixels."""
        coarsest = self.scales[0] * (2 if self._looks_again else 1)
        return max(round(4 * coarsest), 1)  # a block halves what it sees twice

    @property
    def _looks_again(self) -> bool:
        """Whether the blocks look again at half the size where motion is fast: 4.0 and 4.1."""
        return self.layout.layers == "prelu"

    def prepare(self, image: Tensor) -> Tensor:
        """Return a frame (1, 3, H, W) in [0, 1] with its features: (1, 3 + C, H, W), float32."""
        if not self.encode:
            return image.float()
        x = image.to(next(self.parameters()).dtype)
        for conv in self.encode[:-1]:
            x = conv(x)
            if len(self.encode) > 2:  # the short head of 4.7 to 4.9 is linear
                x = functional.leaky_relu(x, 0.2)
        return torch.cat((image.float(), self.encode[-1](x).float()), 1)

    def interpolate(self, before: Tensor, after: Tensor, times: Sequence[float]) -> Iterator[Tensor]:
        """Return the frames at `times` between two prepared frames: (1, 3, H, W) each, float32."""
        return (self(before, after, t) for t in times)

    def forward(self, before: Tensor, after: Tensor, t: float) -> Tensor:
        pair = torch.cat((before, after))  # (2, 3 + C, H, W), and both flows likewise (2, 2, H, W)
        time = pair.new_full((1, 1, *pair.shape[-2:]), t)
        flow, mask = self._estimate(pair, time, self.scales, self._looks_again)
        moved = warp(pair[:, :3], flow)
        return torch.lerp(moved[1:], moved[:1], torch.sigmoid(mask))

    def _estimate(
        self, pair: Tensor, time: Tensor, scales: Sequence[float], again: bool
    ) -> tuple[Tensor, Tensor]:
        """Return both flows and the mask. again: start again at half the size if motion is fast."""
        flow, mask, carried = self.blocks[0](torch.cat((*_side_by_side(pair), time), 1), scales[0])
        for index, (block, scale) in enumerate(zip(self.blocks[1:], scales[1:], strict=True)):
            seen = _side_by_side(warp(pair, flow))
            shorter = flow.reshape(1, 4, *flow.shape[-2:]) / scale
            change, told, carried = block(torch.cat((*seen, time, mask, carried, shorter), 1), scale)
            if again and index == 0 and float(change.abs().amax((1, 2, 3)).min()) > _FAST_PX:
                return self._estimate(pair, time, [2 * each for each in scales], again=False)
            flow, mask = flow + change, told if self.layout.head else mask + told
        return flow, mask


def _side_by_side(pair: Tensor) -> tuple[Tensor, Tensor]:
    """Convert (2, 3 + C, H, W) to both images (1, 6, H, W) and their features (1, 2C, H, W)."""
    return pair[:, :3].flatten(0, 1)[None], pair[:, 3:].flatten(0, 1)[None]


class _Block(nn.Module):
    """One refinement of flow and mask."""

    def __init__(self, channels: int, width: int, layout: RifeLayout) -> None:
        super().__init__()
        self.carried, self.skips = layout.carried, layout.layers == "prelu"
        self.reduction = 1 if layout.layers == "residual" else 2  # of the answer against what the block sees
        self.conv0 = nn.Sequential(
            _conv(channels, width // 2, 2, layout.layers), _conv(width // 2, width, 2, layout.layers)
        )
        self.lastconv: nn.Module
        if layout.layers == "residual":
            self.convblock = nn.Sequential(*(_Residual(width, layout.groups) for _ in range(_DEPTH)))
            self.lastconv = nn.Sequential(
                nn.ConvTranspose2d(width, 4 * layout.answer, 4, 2, 1), nn.PixelShuffle(2)
            )
        else:
            self.convblock = nn.Sequential(*(_conv(width, width, 1, layout.layers) for _ in range(_DEPTH)))
            self.lastconv = nn.ConvTranspose2d(width, layout.answer, 4, 2, 1)

    def forward(self, seen: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the change of the flow (2, 2, H, W) in pixels, the mask, and the input of the next block.

        seen: (1, C, H, W).
        """
        height, width = seen.shape[-2:]
        smaller = _resized(seen, round(height / scale), round(width / scale))
        x = self.conv0(smaller.to(next(self.parameters()).dtype))
        x = self.convblock(x) + x if self.skips else self.convblock(x)
        answer = _resized(self.lastconv(x).float(), height, width)
        flow, mask, carried = answer[:, :4], answer[:, 4:5], answer[:, 5 : 5 + self.carried]
        return flow.reshape(2, 2, height, width) * (scale * self.reduction), mask, carried


class _Residual(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(torch.addcmul(x, self.conv(x), self.beta), 0.2)


def _conv(ins: int, outs: int, stride: int, layers: _Layers) -> nn.Sequential:
    bend = nn.PReLU(outs) if layers == "prelu" else nn.LeakyReLU(0.2)
    return nn.Sequential(nn.Conv2d(ins, outs, 3, stride, 1), bend)


def _head(channels: Sequence[int]) -> list[nn.Module]:
    """Return the layers of a head: it halves the size once, and its last layer doubles it again."""
    if not channels:
        return []
    ins = (3, *channels[:-1])
    convs = [nn.Conv2d(*sides, 3, 1 if i else 2, 1) for i, sides in enumerate(pairwise(ins))]
    return [*convs, nn.ConvTranspose2d(ins[-1], channels[-1], 4, 2, 1)]


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(x, (height, width), mode="bilinear", align_corners=False)

"""The network of FILM: Reda et al., "Frame Interpolation for Large Motion", ECCV 2022.

Each frame becomes a pyramid of features that mean the same at every level, so that one small network can find
the flow at the coarse levels and three more refine it at the fine ones. Frames and features are brought to
the wanted time by the flow of both directions and fused, coarse to fine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ModelError
from .warp import warp

__all__ = ["FilmLayout", "FilmNet", "film_keys", "film_layout", "is_film"]

_LEVELS = 7  # of the pyramids, as in google-research/frame-interpolation, training/config/film_net-Style.gin
_FUSED = 5  # the finest of them, which are fused
_DEPTH = 4  # levels that one walk of the feature extractor covers
_OWN_FLOW = 3  # finest levels with a flow network of their own
_FLOW_CONVS = 3
_MIDDLE = 0.5
_FIRST = "extract.extract_sublevels.convs.0.0.weight"
_CONV = re.compile(
    r"(extract\.extract_sublevels\.convs\.\d\.\d|predict_flow\._predictors?(?:\.\d)?\._convs\.\d|fuse\.convs\.\d\.\d)"
    r"(?:\.conv|\.0)?\.(weight|bias)"
)


@dataclass(frozen=True)
class FilmLayout:
    """Widths, which are the same in every published file: 64 and (32, 64, 128, 256).

    filters: channels of the finest level; each coarser one doubles them.
    flow:    channels of the flow networks, finest first; the last serves all coarse levels.
    """

    filters: int
    flow: tuple[int, ...]

    def features(self, level: int) -> int:
        """Return the channels of the features at `level` of a pyramid; 0 is the finest."""
        return sum(self.filters << depth for depth in range(min(level + 1, _DEPTH)))

    def aligned(self, level: int) -> int:
        """Return the channels fused at `level`: image, features and flow of both frames."""
        return 2 * (3 + self.features(level) + 2)


_Flows: TypeAlias = list[Tensor]
"""(1, 2, h, w) in pixels right, down, float32; the finest level first, only those that are fused."""


class _Prepared(NamedTuple):
    """The pyramids of one frame: images (1, 3, h, w) and features (1, C, h, w), finest level first."""

    images: Sequence[Tensor]
    features: Sequence[Tensor]


def film_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return {key of a file: name in `FilmNet`}.

    ComfyUI's file names a convolution .conv, the PyTorch port .0.
    """
    return {key: f"{match[1]}.{match[2]}" if (match := _CONV.fullmatch(key)) else key for key in keys}


def is_film(names: Sequence[str]) -> bool:
    """Return whether names, from `film_keys`, are of FILM."""
    return _FIRST in names


def film_layout(shapes: Mapping[str, Sequence[int]]) -> FilmLayout:
    """Return the layout of a file from the shapes of its tensors, by their names in `FilmNet`.

    Raises ModelError if a flow network is missing.
    """
    names = [f"predict_flow._predictors.{index}" for index in reversed(range(_OWN_FLOW))]
    try:
        flow = tuple(shapes[f"{name}._convs.0.weight"][0] for name in (*names, "predict_flow._predictor"))
    except KeyError as error:
        raise ModelError(
            f"an incomplete FILM ({error} is missing); take the file from its source again"
        ) from error
    return FilmLayout(shapes[_FIRST][0], flow)


class FilmNet(nn.Module):
    """The network. Its tensors have the names of the published files, without the part for the activation.

    The convolutions compute in the dtype of the weights; images and flow stay float32.
    """

    def __init__(self, layout: FilmLayout) -> None:
        super().__init__()
        self.extract = nn.ModuleDict({"extract_sublevels": _Extractor(layout.filters)})
        self.predict_flow = _Flow(layout)
        self.fuse = _Fusion(layout)

    @property
    def alignment(self) -> int:
        """Width and height of a frame must be multiples of this, in pixels."""
        return 1 << (_LEVELS - 1)

    def prepare(self, image: Tensor) -> _Prepared:
        """Compute the pyramids of a frame (1, 3, H, W) in [0, 1]."""
        images = [image.float()]
        while len(images) < _LEVELS:
            images.append(functional.avg_pool2d(images[-1], 2))
        return _Prepared(images, self.extract["extract_sublevels"](images))

    def interpolate(self, before: _Prepared, after: _Prepared, times: Sequence[float]) -> Iterator[Tensor]:
        """Return the frames at `times` between two prepared frames: (1, 3, H, W) each, float32.

        The network was trained for the middle. If the middle is requested, it is generated first, and the
        others between it and an end: three frames are three middles. Other times use a shortened flow.
        """
        if not times:
            return
        there = self.predict_flow(before.features, after.features)
        flows = there, self.predict_flow(after.features, before.features)
        if _MIDDLE not in times or len(times) == 1:
            yield from (self(before, after, flows, t) for t in times)
            return
        image = self(before, after, flows, _MIDDLE)
        del there, flows
        middle = self.prepare(image.clamp(0, 1))
        yield from self.interpolate(before, middle, [2 * t for t in times if t < _MIDDLE])
        yield image
        yield from self.interpolate(middle, after, [2 * t - 1 for t in times if t > _MIDDLE])

    def forward(self, before: _Prepared, after: _Prepared, flows: tuple[_Flows, _Flows], t: float) -> Tensor:
        """Generate a frame.

        `flows`: from before to after on the grid of before, and the reverse on that of after.
        """
        dtype, aligned = self.fuse.output_conv.weight.dtype, []
        for level, (there, back) in enumerate(zip(*flows, strict=True)):
            ways = (before, t * back), (after, (1 - t) * there)
            parts = [warp(x, flow) for look, flow in ways for x in (look.images[level], look.features[level])]
            aligned.append(torch.cat([x.to(dtype) for x in (*parts, *(flow for _, flow in ways))], 1))
        image: Tensor = self.fuse(aligned).float()
        return image


class _Extractor(nn.Module):
    """A small feature network that is applied downwards from every level of the pyramid."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        widths = [filters << depth for depth in range(_DEPTH)]
        self.convs = nn.ModuleList(
            nn.Sequential(_Active(ins, outs, 3), _Active(outs, outs, 3))
            for ins, outs in pairwise((3, *widths))
        )

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:
        # A level collects what is seen there by the walks from itself, from one level finer, from two, ...
        seen: list[list[Tensor]] = [[] for _ in images]
        dtype = next(self.parameters()).dtype
        for start, image in enumerate(images):
            x = image.to(dtype)
            for depth, convs in enumerate(self.convs[: len(images) - start]):
                x = convs(functional.avg_pool2d(x, 2) if depth else x)
                seen[start + depth].insert(0, x)
        return [torch.cat(parts, 1) for parts in seen]


class _Flow(nn.Module):
    """Estimates flow from coarse to fine: every level corrects the flow of the coarser one."""

    def __init__(self, layout: FilmLayout) -> None:
        super().__init__()
        nets = [_FlowNet(2 * layout.features(level), width) for level, width in enumerate(layout.flow)]
        self._predictor = nets.pop()
        self._predictors = nn.ModuleList(reversed(nets))

    def forward(self, here: Sequence[Tensor], there: Sequence[Tensor]) -> _Flows:
        """Return the motion from the first to the second frame, on the grid of the first.

        The inputs are the features of both frames.
        """
        flow: Tensor | None = None
        flows: list[Tensor] = []
        for level in reversed(range(len(here))):
            seen = there[level]
            if flow is not None:
                flow = 2 * _resized(flow, seen, "bilinear")
                seen = warp(seen, flow).to(seen.dtype)
            net = self._predictors[_OWN_FLOW - 1 - level] if level < _OWN_FLOW else self._predictor
            change = net(torch.cat((here[level], seen), 1)).float()
            flow = change if flow is None else flow + change
            flows.insert(0, flow)
        return flows[:_FUSED]


class _FlowNet(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        wide = [_Active(ins, width, 3) for ins in (channels, *[width] * (_FLOW_CONVS - 1))]
        self._convs = nn.Sequential(*wide, _Active(width, width // 2, 1), nn.Conv2d(width // 2, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        flow: Tensor = self._convs(x)
        return flow


class _Fusion(nn.Module):
    """Generates a frame from coarse to fine.

    Each level joins the enlarged coarser result with its own aligned inputs.
    """

    def __init__(self, layout: FilmLayout) -> None:
        super().__init__()
        levels = [*reversed(range(_FUSED - 1))]
        widths = [layout.filters << min(level, _OWN_FLOW) for level in levels]
        below = [layout.aligned(_FUSED - 1), *widths]
        self.convs = nn.ModuleList(
            _Join(*sizes, layout.aligned(level)) for level, sizes in zip(levels, pairwise(below), strict=True)
        )
        self.output_conv = nn.Conv2d(layout.filters, 3, 1)

    def forward(self, aligned: Sequence[Tensor]) -> Tensor:
        x = aligned[-1]
        for here, join in zip(reversed(aligned[:-1]), self.convs, strict=True):
            x = join(x, here)
        image: Tensor = self.output_conv(x)
        return image


class _Join(nn.ModuleList):
    """One level of the fusion."""

    def __init__(self, below: int, width: int, here: int) -> None:
        smooth = _Active(width, width, 3)
        super().__init__([nn.Conv2d(below, width, 2), _Active(here + width, width, 3), smooth])

    def forward(self, below: Tensor, here: Tensor) -> Tensor:
        # Two pixels wide, the first convolution needs one more to the right and below.
        enlarged = self[0](functional.pad(_resized(below, here, "nearest"), (0, 1, 0, 1)))
        joined: Tensor = self[2](self[1](torch.cat((here, enlarged), 1)))
        return joined


class _Active(nn.Conv2d):
    """A convolution that keeps the size, and its activation."""

    def __init__(self, ins: int, outs: int, size: int) -> None:
        super().__init__(ins, outs, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(super().forward(x), 0.2)


def _resized(x: Tensor, like: Tensor, mode: str) -> Tensor:
    return functional.interpolate(x, like.shape[-2:], mode=mode)

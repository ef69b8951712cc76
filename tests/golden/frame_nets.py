"""RIFE and FILM files as they are published, in names and shapes, with seeded numbers in them.

Every number comes from a seeded CPU generator, so makers and tests build the same files without storing them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

T = 0.3


@dataclass(frozen=True)
class Rife:
    """head: how its tensors are called; "" before 4.7, which had none. last: channels of a block's answer.

    layers: of a block, as in `RifeLayout`.
    """

    widths: tuple[int, ...]
    head: str = "cnn"
    hidden: int = 32
    seen: int = 8
    last: int = 24
    groups: int = 1
    size: tuple[int, int] = (32, 64)
    layers: str = "residual"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of flownet.pkl."""
        shapes: dict[str, tuple[int, ...]] = {}

        def tensor(name: str, *shape: int, out: int = 0) -> None:
            shapes[f"module.{name}.weight"], shapes[f"module.{name}.bias"] = shape, (out or shape[0],)

        def conv(name: str, *shape: int) -> None:
            tensor(f"{name}.0", *shape)
            if self.layers == "prelu":
                shapes[f"module.{name}.1.weight"] = shape[:1]

        carried = 8 if self.last == 52 else 0
        seen = 2 * self.seen if self.head else 0
        for i, width in enumerate(self.widths):
            conv(f"block{i}.conv0.0", width // 2, seen + (12 + carried if i else 7), 3, 3)
            conv(f"block{i}.conv0.1", width, width // 2, 3, 3)
            for j in range(8):
                if self.layers != "residual":
                    conv(f"block{i}.convblock.{j}", width, width, 3, 3)
                    continue
                shapes[f"module.block{i}.convblock.{j}.beta"] = (1, width, 1, 1)
                tensor(f"block{i}.convblock.{j}.conv", width, width // self.groups, 3, 3)
            last = f"block{i}.lastconv" + (".0" if self.layers == "residual" else "")
            tensor(last, width, self.last, 4, 4, out=self.last)
        if not self.head:
            return shapes
        names = {"two": ("0", "1"), "even": ("0", "2", "4", "6"), "cnn": ("cnn0", "cnn1", "cnn2", "cnn3")}
        first, *middle, final = names[self.head]
        tensor(f"encode.{first}", self.hidden, 3, 3, 3)
        for name in middle:
            tensor(f"encode.{name}", self.hidden, self.hidden, 3, 3)
        tensor(f"encode.{final}", self.hidden, self.seen, 4, 4, out=self.seen)
        return shapes


FOUR, FIVE, WIDE, LITE = (192, 128, 96, 64), (192, 128, 96, 64, 32), (256, 192, 96, 48), (128, 96, 64, 48)
RIFE = {
    "4.0": Rife(FOUR, head="", last=5, layers="prelu", size=(64, 64)),
    "4.2": Rife(FOUR, head="", last=5, layers="leaky"),
    "4.5": Rife(FOUR, head="", last=20),
    "4.6": Rife(FOUR, head=""),
    "4.7": Rife(FOUR, head="two", hidden=16, seen=4),
    "4.10": Rife(FOUR, head="even"),
    "4.12.lite": Rife(LITE, head="even", seen=4),
    "4.14": Rife(FOUR),
    "4.14.lite": Rife(FOUR, groups=2),
    "4.15.lite": Rife(LITE, hidden=16, seen=4),
    "4.20": Rife((384, 192, 96, 48)),
    "4.21": Rife(WIDE, last=52),
    "4.22.lite": Rife((192, 128, 64, 32), hidden=16, seen=4, last=52),
    "4.25": Rife(FIVE, hidden=16, seen=4, last=52, size=(64, 128)),
    "4.25.lite": Rife((192, 128, 96, 64, 24), hidden=16, seen=4, last=52, size=(128, 128)),
    "4.25.heavy": Rife((384, 256, 192, 128, 64), hidden=16, seen=4, last=52, size=(64, 64)),
    "4.26.heavy": Rife(FIVE, hidden=16, seen=16, last=52, size=(64, 64)),
}
"""Every layout from 4.0 on, by the first version that has it."""


def rife_3_shapes(width: int = 90) -> dict[str, tuple[int, ...]]:
    """The tensors of flownet.pkl of RIFE 3.9; the published one has the width that is the default."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, ins: int) -> None:
        shapes[f"module.{name}.0.weight"], shapes[f"module.{name}.0.bias"] = (out, ins, 3, 3), (out,)
        shapes[f"module.{name}.1.weight"] = (out,)

    for block in ("block0", "block1", "block2"):
        conv(f"{block}.conv0.0", width // 2, 11)
        conv(f"{block}.conv0.1", width, width // 2)
        for stage in range(4):
            conv(f"{block}.convblock{stage}.0", width, width)
            conv(f"{block}.convblock{stage}.1", width, width)
        for last, channels in (("conv1", 4), ("conv2", 1)):
            shapes[f"module.{block}.{last}.0.weight"] = (width, width // 2, 4, 4)
            shapes[f"module.{block}.{last}.0.bias"] = (width // 2,)
            shapes[f"module.{block}.{last}.1.weight"] = (width // 2,)
            shapes[f"module.{block}.{last}.2.weight"] = (width // 2, channels, 4, 4)
            shapes[f"module.{block}.{last}.2.bias"] = (channels,)
    return shapes


RIFE_3_SIZE = (32, 64)

FILM_SIZE = (64, 128)


def film_shapes(filters: int = 64, flow: tuple[int, ...] = (32, 64, 128, 256)) -> dict[str, tuple[int, ...]]:
    """The tensors of ComfyUI's film_net file; the published one has the widths that are the defaults."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, ins: int, size: int, inner: str = ".conv") -> None:
        shapes[f"{name}{inner}.weight"], shapes[f"{name}{inner}.bias"] = (out, ins, size, size), (out,)

    features = [filters * (2 ** min(level + 1, 4) - 1) for level in range(5)]
    aligned = [2 * (channels + 3 + 2) for channels in features]
    for depth in range(4):
        conv(
            f"extract.extract_sublevels.convs.{depth}.0",
            filters << depth,
            filters << depth >> 1 if depth else 3,
            3,
        )
        conv(f"extract.extract_sublevels.convs.{depth}.1", filters << depth, filters << depth, 3)
    for level, width in enumerate(flow):
        net = "predict_flow._predictor" if level == 3 else f"predict_flow._predictors.{2 - level}"
        for index, ins in enumerate((2 * features[level], width, width)):
            conv(f"{net}._convs.{index}", width, ins, 3)
        conv(f"{net}._convs.3", width // 2, width, 1)
        conv(f"{net}._convs.4", 2, width // 2, 1)
    below = aligned[4]
    for index, level in enumerate((3, 2, 1, 0)):
        width = filters << level
        conv(f"fuse.convs.{index}.0", width, below, 2)
        conv(f"fuse.convs.{index}.1", width, aligned[level] + width, 3)
        conv(f"fuse.convs.{index}.2", width, width, 3)
        below = width
    conv("fuse.output_conv", 3, filters, 1, inner="")
    return shapes


TINY_FILM = film_shapes(4, (4, 6, 8, 10))


def weights(shapes: dict[str, tuple[int, ...]], seed: int = 7) -> dict[str, Tensor]:
    """Numbers that keep activations about even and make motion of some pixels."""
    generator = torch.Generator("cpu").manual_seed(seed)

    def numbers(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(shape, generator=generator)
        if name.endswith(".beta"):
            return 1 + 0.2 * noise
        if name.endswith(".weight") and len(shape) == 1:  # slopes of PReLU
            return 0.25 + 0.1 * noise
        gain = 2.0 if "lastconv" in name else 0.8
        return noise * (gain / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.02)

    return {name: numbers(name, shape) for name, shape in shapes.items()}


def fast(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with a second block that changes every flow by more than 32 pixels somewhere."""
    return {name: 20 * value if "block1.lastconv" in name else value for name, value in tensors.items()}


def pictures(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Two smooth frames (1, 3, H, W) in [0, 1], the second moved by some pixels."""
    x, y = torch.arange(width) / 9, torch.arange(height)[:, None] / 7

    def frame(dx: float, dy: float) -> Tensor:
        waves = [torch.sin((1 + c / 3) * (x + dx)) * torch.cos((1.3 - c / 4) * (y + dy)) for c in range(3)]
        return torch.stack(waves)[None] * 0.5 + 0.5

    return frame(0.0, 0.0), frame(0.4, -0.3)


def sampled(picture: Tensor) -> Tensor:
    """Every fourth pixel: a mistake anywhere shows there too, and the fixture stays small."""
    return picture[..., 1::4, 2::4].contiguous()

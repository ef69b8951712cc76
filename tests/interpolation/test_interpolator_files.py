from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import frame_nets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.interpolation.interpolator_files import (
    find_interpolators,
    folders_of_other_packs,
    load_interpolator,
    make_interpolator,
)
from wan_duet.pipelines.interpolation.optical_flow import FlowInterpolator
from wan_duet.pipelines.video.frames import to_uint8

CPU = torch.device("cpu")
SMALL = frame_nets.Rife((8, 8, 8, 8), hidden=4, seen=4)
NEWER = frame_nets.Rife((8, 8, 8, 8, 8), hidden=4, seen=4, last=52)

Write = Callable[[dict[str, Tensor], Path], object]
safely: Write = save_file
pickled: Write = torch.save


def rife(file: Path, write: Write = safely, layout: frame_nets.Rife = SMALL) -> Path:
    write(frame_nets.weights(layout.shapes()), file)
    return file


def rife_4_0(file: Path, write: Write = safely) -> Path:
    return rife(file, write, frame_nets.Rife((8, 8, 8, 8), head="", last=5, layers="prelu"))


def rife_3(file: Path, write: Write = safely) -> Path:
    write(frame_nets.weights(frame_nets.rife_3_shapes(8)), file)
    return file


def film(file: Path, write: Write = safely) -> Path:
    write(frame_nets.weights(frame_nets.TINY_FILM), file)
    return file


@pytest.mark.parametrize(
    ("name", "write"), [("a.safetensors", safely), ("a.pth", pickled), ("a.pkl", pickled)]
)
@pytest.mark.parametrize(
    ("kind", "make"), [("rife", rife), ("rife", rife_4_0), ("rife", rife_3), ("film", film)]
)
def test_a_file_is_known_by_its_tensors_and_draws(
    tmp_path: Path, name: str, write: Write, kind: str, make: Callable[..., Path]
) -> None:
    file = make(tmp_path / name, write)
    assert find_interpolators([tmp_path]).files == {kind: file}
    a, b = (to_uint8(picture[0], low=0.0) for picture in frame_nets.pictures(50, 70))
    drawn = load_interpolator(file, CPU).between(a, b, [0.25, 0.5])
    assert [frame.shape for frame in drawn] == [a.shape] * 2
    assert not np.array_equal(drawn[0], drawn[1])


def test_the_bits_do_not_depend_on_the_file_format(tmp_path: Path) -> None:
    a, b = (to_uint8(picture[0], low=0.0) for picture in frame_nets.pictures(32, 32))
    one, other = (
        load_interpolator(file, CPU).between(a, b, [0.5])[0]
        for file in (rife(tmp_path / "a.safetensors"), rife(tmp_path / "b.pth", pickled))
    )
    assert np.array_equal(one, other)


@pytest.mark.parametrize(("width", "scale"), [(1280, 1.0), (3840, 0.5)])
def test_on_large_pictures_rife_looks_for_motion_at_half_the_scale(
    tmp_path: Path, width: int, scale: float
) -> None:
    file = rife(tmp_path / "a.safetensors")
    found = find_interpolators([tmp_path])
    chosen = make_interpolator("rife", found, DeviceMemory("cpu"), width=width, height=width * 9 // 16)
    a, b = (to_uint8(picture[0], low=0.0) for picture in frame_nets.pictures(64, 128))
    drawn, wanted, other = (
        net.between(a, b, [0.3])[0]
        for net in (chosen, *(load_interpolator(file, CPU, scale=s) for s in (scale, 1.5 - scale)))
    )
    assert np.array_equal(drawn, wanted)
    assert not np.array_equal(drawn, other)


class Asked(Exception):  # noqa: N818
    """So many bytes to work in were asked for."""


class Device:
    """A device of any kind that nothing is ever loaded on."""

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind)

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        raise Asked(working_bytes)


@pytest.mark.parametrize(
    ("device", "kind", "item_bytes"),
    [("cpu", "rife", 4), ("cpu", "film", 4), ("cuda", "rife", 4), ("cuda", "film", 2), ("mps", "film", 4)],
)
def test_room_is_made_for_what_the_published_network_was_measured_to_take(
    tmp_path: Path, device: str, kind: str, item_bytes: int
) -> None:
    measured = {"rife": 260, "film": 1510}[kind]  # bytes at the peak per pixel and byte of a number
    {"rife": rife, "film": film}[kind](tmp_path / "a.safetensors")
    with pytest.raises(Asked) as asked:
        make_interpolator(kind, find_interpolators([tmp_path]), Device(device), width=320, height=176)
    assert measured <= asked.value.args[0] / (320 * 176 * item_bytes) <= 1.5 * measured


@pytest.mark.parametrize(
    ("device", "runs_on"), [("cpu", "cpu"), ("cuda", "cuda"), ("xpu", "xpu"), ("mps", "cpu")]
)
def test_frames_are_computed_on_the_device_unless_it_is_metal(
    tmp_path: Path, device: str, runs_on: str
) -> None:
    made = make_interpolator("flow", find_interpolators([tmp_path]), Device(device), width=320, height=176)
    assert isinstance(made, FlowInterpolator)
    assert torch.device(made.device) == torch.device(runs_on)


def test_the_first_folder_decides_then_the_newest_layout_then_the_last_name(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "deeper").mkdir(parents=True)
    second.mkdir()
    rife(first / "rife_v4.9.safetensors")
    newest = rife(first / "deeper" / "rife_v4.19.safetensors")
    rife(second / "rife_v4.25.safetensors", layout=NEWER)
    only = film(second / "film.safetensors")
    assert find_interpolators([first, second]).files == {"rife": newest, "film": only}
    rife_3(first / "rife_v5.safetensors")
    rife_4_0(first / "rife_v6.safetensors")
    assert find_interpolators([first, second]).files["rife"] == newest
    five_blocks = rife(first / "a.safetensors", layout=NEWER)
    assert find_interpolators([first, second]).files["rife"] == five_blocks


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    save_file({"model.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "readme.txt").write_text("rife")
    found = find_interpolators([tmp_path, tmp_path / "missing"])
    assert (found.files, found.refused) == ({}, ())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_refused_with_how_to_convert_it(tmp_path: Path) -> None:
    file = tmp_path / "film_net_fp32.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(file)
    found = find_interpolators([tmp_path])
    assert found.files == {}
    (line,) = found.refused
    assert line.startswith(f"{tmp_path.name}/film_net_fp32.pt: ")
    assert "torch.jit.load" in line
    with pytest.raises(ModelError, match="TorchScript"):
        load_interpolator(file, CPU)


class Surprise:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this ran",)


def test_a_checkpoint_that_would_run_code_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a": Surprise()}, tmp_path / "flownet.pkl")
    (line,) = find_interpolators([tmp_path]).refused
    assert "weights only" in line
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"\0" * 99])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_damaged_file_is_named_and_skipped(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    found = find_interpolators([tmp_path])
    assert found.files == {}
    assert name in found.refused[0]
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load_interpolator(tmp_path / name, CPU)


@pytest.mark.parametrize("spoil", ["missing", "extra", "shape"])
def test_a_file_with_other_tensors_than_its_version_has_is_refused_before_it_is_needed(
    tmp_path: Path, spoil: str
) -> None:
    tensors, key = frame_nets.weights(SMALL.shapes()), "module.block2.convblock.3.conv.bias"
    if spoil == "missing":
        del tensors[key]
    else:
        tensors["module.block2.new" if spoil == "extra" else key] = torch.zeros(3)
    save_file(tensors, tmp_path / "a.safetensors")
    (line,) = find_interpolators([tmp_path]).refused
    assert "blocks.2" in line


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@given(
    key=st.sampled_from(sorted(SMALL.shapes())),
    shape=st.lists(st.integers(0, 9), max_size=4).map(tuple),
)
def test_whatever_shape_a_tensor_has_it_is_refused_and_not_a_crash(key: str, shape: tuple[int, ...]) -> None:
    shapes = {**SMALL.shapes(), key: shape}
    with TemporaryDirectory() as folder:
        save_file({name: torch.zeros(each) for name, each in shapes.items()}, Path(folder) / "a.safetensors")
        found = find_interpolators([Path(folder)])
    assert len(found.files) + len(found.refused) == 1


def test_an_unknown_rife_is_told_which_versions_work(tmp_path: Path) -> None:
    tensors = {"module.block0.conv0.0.0.weight": torch.zeros(4, 7, 3, 3)}
    save_file(tensors, tmp_path / "rife31.safetensors")
    (line,) = find_interpolators([tmp_path]).refused
    assert "3.9 and 4.0 to 4.26 work" in line


def test_folders_of_another_pack_are_found_below_custom_nodes(tmp_path: Path) -> None:
    theirs = tmp_path / "comfyui-frame-interpolation" / "ckpts"
    for name in ("rife", "film", "gmfss_fortuna"):
        (theirs / name).mkdir(parents=True)
    (tmp_path / "a_file.py").touch()
    assert folders_of_other_packs([tmp_path, tmp_path / "none"]) == [theirs / "rife", theirs / "film"]

"""Finds the files of interpolation networks, and loads them.

A file is identified by the names and shapes of its tensors; its name only decides the order among equals.
Nothing is executed: files are safetensors, or checkpoints read with weights only.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import safe_open
from torch import Tensor

from ..device.memory import Memory
from ..errors import ModelError
from ..request.local_rules import INTERPOLATION_FILES
from ..video.more_frames import Interpolator
from ..weights.hashing import file_hash
from .film import FilmLayout, FilmNet, film_keys, film_layout, is_film
from .found_interpolators import Interpolators
from .network_interpolator import NetworkInterpolator
from .optical_flow import FlowInterpolator, motion_on
from .rife import RifeLayout, RifeNet, is_rife, rife_keys, rife_layout
from .rife_3 import Rife3Layout, Rife3Net, is_rife_3, rife_3_layout

__all__ = [
    "find_interpolators",
    "folders_of_other_packs",
    "interpolator_record",
    "load_interpolator",
    "make_interpolator",
]

log = logging.getLogger(__name__)

_SAFE = (".safetensors", ".sft")
_CHECKPOINTS = (".pth", ".pkl", ".pt", ".ckpt", ".bin")
_OTHER_PACKS = ("ckpts/rife", "ckpts/film")  # of ComfyUI-Frame-Interpolation, in its own folder

# Times pixels and bytes per number, as ComfyUI 0.25 reckons; 260 and 1510 were measured on a CPU in float32.
_WORKING_BYTES = {"rife": 300, "film": 1700}

_LARGE = 3000  # pixels on the long side; Practical-RIFE advises half the scale for 4K

_Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Network:
    """The layout of a file, and the name in our network of each tensor that is needed."""

    layout: FilmLayout | RifeLayout | Rife3Layout
    names: Mapping[str, str]

    @property
    def kind(self) -> Literal["film", "rife"]:
        return "film" if isinstance(self.layout, FilmLayout) else "rife"

    def build(self, scale: float = 1.0) -> FilmNet | RifeNet | Rife3Net:
        """Build the network without weights."""
        with torch.device("meta"):
            if isinstance(self.layout, FilmLayout):
                return FilmNet(self.layout)
            if isinstance(self.layout, Rife3Layout):
                return Rife3Net(self.layout, scale)
            return RifeNet(self.layout, scale)


def find_interpolators(folders: Iterable[Path]) -> Interpolators:
    """Find the interpolation files in `folders` and their subfolders. Reads headers only.

    The first folder that has a kind is used. Of several RIFE files there, the one with the newest layout is
    used, and among equals the last by name, in natural order: the newest version.
    """
    files: dict[str, Path] = {}
    refused: list[str] = []
    for folder in folders:
        here: dict[str, tuple[Any, Path]] = {}
        for file in sorted(folder.rglob("*")):
            if not file.name.lower().endswith((*_SAFE, *_CHECKPOINTS)) or not file.is_file():
                continue
            try:
                network = _recognised(_shapes(file))
            except ModelError as error:
                # Not the whole path: this goes into receipts, and those are shared.
                refused.append(f"{folder.name}/{file.relative_to(folder).as_posix()}: {error}")
                continue
            if network is not None:
                here[network.kind] = max(
                    here.get(network.kind, (((-1,), []), file)), (_rank(network, file), file)
                )
        files = {**{kind: file for kind, (_, file) in here.items()}, **files}
    return Interpolators(files, tuple(refused))


def make_interpolator(
    name: str, available: Interpolators, memory: Memory, *, width: int, height: int
) -> Interpolator:
    """Return the "flow" interpolator, or "film" or "rife" from its file, with memory for frames of this size.

    Raises ModelError if there is no file for it; the message names a suitable file.
    """
    if name in available.loaded:
        return available.loaded[name]
    device = _interpolation_device(memory)
    if name == "flow":
        return FlowInterpolator(device)
    if name not in available.files:
        unusable = "".join(f"; what lies there does not work: {line}" for line in available.refused)
        raise ModelError(f"{name} needs {INTERPOLATION_FILES[name]}{unusable}; or choose flow")
    # The published FILM is half precision already, and large; RIFE is small, and its flow gains by more.
    dtype = torch.float16 if name == "film" and device.type == "cuda" else torch.float32
    file, scale = available.files[name], _rife_scale(width, height)
    memory.reserve(file.stat().st_size, file.name, _WORKING_BYTES[name] * width * height * dtype.itemsize)
    return load_interpolator(file, device, dtype, scale)


def _rife_scale(width: int, height: int) -> float:
    """Return the scale at which RIFE estimates motion: smaller for 4K, where motion exceeds its range."""
    return 0.5 if max(width, height) >= _LARGE else 1.0


def interpolator_record(name: str, available: Interpolators, memory: Memory) -> dict[str, str]:
    """Return the record for the receipt of the interpolator that `make_interpolator` would return."""
    if name in available.loaded:
        return {"name": name, "file": "not known, the model was loaded by another node"}
    file = available.files.get(name)
    if file is not None:
        return {"name": name, "file": file.name, "hash": file_hash(file)}
    return {"name": name, "motion": motion_on(_interpolation_device(memory))}


def _interpolation_device(memory: Memory) -> torch.device:
    # Before torch 2.13, MPS cannot sample beyond the border of an image.
    return torch.device("cpu") if memory.device.type == "mps" else memory.device


def folders_of_other_packs(custom_nodes: Iterable[Path]) -> list[Path]:
    """Return the folders of ComfyUI-Frame-Interpolation's files in ComfyUI's custom nodes."""
    packs = (pack for root in custom_nodes if root.is_dir() for pack in sorted(root.iterdir()))
    places = (pack / place for pack in packs for place in _OTHER_PACKS)
    return [place for place in places if place.is_dir()]


def load_interpolator(
    file: Path, device: torch.device, dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> NetworkInterpolator:
    """Load the interpolator in `file`; its convolutions compute in `dtype` on `device`.

    scale: for RIFE; below 1 the motion is estimated on smaller images.

    Raises ModelError that names the file if it is not supported or damaged.
    """
    try:
        tensors = _tensors(file)
        network = _recognised({key: tuple(tensor.shape) for key, tensor in tensors.items()})
        if network is None:
            raise ModelError("neither RIFE nor FILM: it has none of their tensors")
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error
    net = network.build(scale)
    net.load_state_dict({name: tensors[key] for key, name in network.names.items()}, assign=True)
    at = "" if scale == 1 or network.kind == "film" else f" at scale {scale:g}"
    log.info("interpolation: %s, %s on %s in %s%s", network.kind, file.name, device, dtype, at)
    return NetworkInterpolator(net.to(device, dtype).eval().requires_grad_(False), device)


def _recognised(shapes: _Shapes) -> _Network | None:
    """Return the network of a file, or None if it is something else.

    Raises ModelError for an unsupported RIFE or FILM.
    """
    names = film_keys([*shapes])
    if is_film([*names.values()]):
        network = _Network(film_layout({name: shapes[key] for key, name in names.items()}), names)
    else:
        names = rife_keys([*shapes])
        if not is_rife([*names.values()]):
            return None
        network = _Network(_any_rife_layout({name: shapes[key] for key, name in names.items()}), names)
    try:
        wanted = {name: tuple(tensor.shape) for name, tensor in network.build().state_dict().items()}
    except (RuntimeError, ValueError) as error:  # widths that no network can have
        raise ModelError(f"a {network.kind.upper()} that is damaged: {error}") from error
    given = {name: shapes[key] for key, name in names.items()}
    odd = sorted(name for name in {*wanted, *given} if wanted.get(name) != given.get(name))
    if odd:
        name = odd[0]
        raise ModelError(
            f"a {network.kind.upper()} that is damaged or of an unknown version: {len(odd)} tensors differ, "
            f"the first is {name}: {given.get(name, 'missing')} instead of {wanted.get(name, 'nothing')}"
        )
    return network


def _any_rife_layout(shapes: _Shapes) -> RifeLayout | Rife3Layout:
    return rife_3_layout(shapes) if is_rife_3([*shapes]) else rife_layout(shapes)


def _rank(network: _Network, file: Path) -> tuple[Any, ...]:
    order = () if isinstance(network.layout, FilmLayout) else network.layout.order
    # re.split alternates text and digits, so that numbers are only ever compared with numbers.
    return order, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.stem.lower())]


def _shapes(file: Path) -> _Shapes:
    """Return the shapes of all tensors.

    Raises ModelError if the file cannot be read without executing code.
    """
    if file.suffix.lower() not in _SAFE:
        return {key: tuple(tensor.shape) for key, tensor in _checkpoint(file, "meta").items()}
    with _opened(file) as opened:
        return {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118


def _tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix.lower() not in _SAFE:
        return _checkpoint(file, "cpu")
    with _opened(file) as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except Exception as error:  # safetensors raises its own type, OSError or RuntimeError
        raise ModelError(f"not a readable safetensors file: {error}") from error


def _checkpoint(file: Path, device: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint on `device`; "meta" reads no tensor data."""
    if _is_program(file):
        raise ModelError(
            "TorchScript, a program that would run when it is loaded. If you trust its source, convert it "
            'once: python -c "import torch, safetensors.torch as s; '
            "s.save_file({k: v.contiguous() for k, v in torch.jit.load('IN.pt', map_location='cpu')"
            ".state_dict().items()}, 'OUT.safetensors')\""
        )
    try:
        content = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # pickle, zip and torch each raise their own types
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(f"cannot be read as weights only: {reason}") from error
    if not isinstance(content, dict):
        return {}
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _is_program(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False  # an older checkpoint, or a damaged one, which loading will tell

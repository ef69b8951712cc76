"""Finds the frame interpolators of this ComfyUI: model files, or a model from its own loader."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import folder_paths
from comfy import model_management

from ..pipelines.errors import ModelError
from .comfy_interface import io

if TYPE_CHECKING:
    from torch import Tensor

    from ..pipelines.interpolation.found_interpolators import Interpolators
    from ..pipelines.video.edit import Edit
    from ..pipelines.video.more_frames import Interpolator
    from .host_memory import HostMemory

__all__ = ["chosen_interpolator", "interp_model_input", "interpolator_name", "interpolators"]

_CORE_NAMES = ("INTERP_MODEL", "FRAME_INTERPOLATION_MODEL")  # the socket of core's loader, in 0.25 and later
_LITE_WIDTH, _LITE_SCALES, _LITE_ALIGNMENT = 24, [32, 16, 8, 4, 1], 128  # RIFE 4.25.lite, as vs-rife has them
_FILM_ALIGNMENT = 64


def interp_model_input() -> io.Input:
    return io.MultiType.Input(
        "interp_model",
        types=[io.Custom(name) for name in _CORE_NAMES],
        optional=True,
        tooltip="A model from ComfyUI's Load Frame Interpolation Model, used instead of interpolator.",
    )


def interpolators(interp_model: Any | None = None) -> Interpolators:
    """Return `interp_model` if connected, else the files in models/frame_interpolation and of
    ComfyUI-Frame-Interpolation.

    Raises ModelError for an `interp_model` that this version does not support.
    """
    from ..pipelines.interpolation.found_interpolators import Interpolators
    from ..pipelines.interpolation.interpolator_files import (
        find_interpolators,
        folders_of_other_packs,
    )
    from ..pipelines.interpolation.network_interpolator import NetworkInterpolator

    if interp_model is not None:
        loaded = NetworkInterpolator(_CoreNet(interp_model), interp_model.load_device)
        return Interpolators(loaded={interpolator_name("", interp_model): loaded})
    own = [Path(folder) for folder in folder_paths.get_folder_paths("frame_interpolation")]
    packs = [Path(folder) for folder in folder_paths.get_folder_paths("custom_nodes")]
    return find_interpolators([*own, *folders_of_other_packs(packs)])


def interpolator_name(chosen: str, interp_model: Any | None) -> str:
    """Return the name of the connected `interp_model`, else `chosen`."""
    if interp_model is None:
        return chosen
    return "film" if _makes_several(interp_model.model) else "rife"


def chosen_interpolator(
    edit: Edit, interp_model: Any | None, memory: HostMemory, width: int, height: int
) -> Interpolator | None:
    """Return the interpolator of `edit`, None if no frames are added.

    width, height: of the frames, in pixels. Raises ModelError if its file is missing.
    """
    from ..pipelines.interpolation.interpolator_files import make_interpolator

    if not edit.between:
        return None
    found = interpolators(interp_model)
    return make_interpolator(edit.interpolator, found, memory, width=width, height=height)


class _Prepared(NamedTuple):
    frame: Tensor
    features: Any


class _CoreNet:
    """A FILM or RIFE network that core loaded, as `learned.FrameNet`. Core moves it to the device."""

    def __init__(self, patcher: Any) -> None:
        self._patcher, self._model = patcher, _with_own_scales(patcher.model)
        missing = [
            name for name in ("extract_features", "memory_used_forward") if not hasattr(self._model, name)
        ]
        if missing:
            raise ModelError(
                f"interp_model: {type(self._model).__name__} has no {missing[0]}, as it had in ComfyUI 0.25; "
                "disconnect it and choose an interpolator"
            )
        self._loaded = False

    @property
    def alignment(self) -> int:
        return int(getattr(self._model, "pad_align", _FILM_ALIGNMENT))

    def prepare(self, frame: Tensor) -> _Prepared:
        dtype = self._patcher.model_dtype()
        if not self._loaded:
            size = (1, *frame.shape[-2:], 3)
            memory = self._model.memory_used_forward(size, dtype)
            model_management.load_models_gpu([self._patcher], memory_required=memory)
            self._loaded = True
        frame = frame.to(dtype)
        return _Prepared(frame, self._model.extract_features(frame))

    def interpolate(self, before: _Prepared, after: _Prepared, times: Sequence[float]) -> Iterable[Tensor]:
        cache = {"img0": before.features, "img1": after.features}
        if _makes_several(self._model):  # with one flow for all times
            frames = self._model.forward_multi_timestep(before.frame, after.frame, list(times), cache=cache)
            yield from frames.split(1)
            return
        for t in times:
            time = before.frame.new_full((1, 1, *before.frame.shape[-2:]), t)
            yield self._model(before.frame, after.frame, timestep=time, cache=cache)


def _makes_several(model: Any) -> bool:
    """Return whether the model makes several frames at once. In core only FILM does."""
    return hasattr(model, "forward_multi_timestep")


def _with_own_scales(model: Any) -> Any:
    """Return RIFE 4.25.lite with its own scales, which core 0.25 confuses with those of 4.25.

    Does not change the model of the socket.
    """
    blocks = getattr(model, "blocks", None)
    if blocks is None or blocks[-1].conv0[1][0].weight.shape[0] != _LITE_WIDTH:
        return model
    model = copy.copy(model)
    model.scale_list, model.pad_align = _LITE_SCALES, _LITE_ALIGNMENT
    return model

"""Shows progress and live preview in a node, and reacts to the Stop button."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import latent_preview
from comfy import latent_formats, model_management
from comfy.utils import ProgressBar

from ..pipelines.embedded.toy_model import EMBEDDED, PREVIEW_COLOURS

if TYPE_CHECKING:
    from torch import Tensor

    from ..pipelines.loading.host_model import AnyModel

__all__ = ["NodeProgress"]

log = logging.getLogger(__name__)

_FORMATS = {16: latent_formats.Wan21, 48: latent_formats.Wan22}  # by latent channels


class _Embedded(latent_formats.LatentFormat):
    """The latents of the embedded VAE, whose channels mean other colours than those of Wan's."""

    latent_channels = 16
    latent_dimensions = 3

    def __init__(self) -> None:
        colours = json.loads(PREVIEW_COLOURS.read_text(encoding="utf-8"))
        self.latent_rgb_factors, self.latent_rgb_factors_bias = colours["factors"], colours["bias"]


class NodeProgress:
    """Implements `pipelines.progress.Progress` for one execution of a node. Each stage starts the bar again.

    sampled: the model whose previews are shown. None without sampling.
    """

    def __init__(self, node_id: str | None, sampled: AnyModel | None = None) -> None:
        self._node_id, self._sampled = node_id, sampled
        self._bar: ProgressBar | None = None
        self._previewer: latent_preview.LatentPreviewer | None = None

    def begin(self, stage: str, total: int, unit: str) -> None:
        log.info("%s: %d %s", stage, total, unit)
        self._bar = ProgressBar(total, self._node_id)
        self._previewer = None
        latents = None if self._sampled is None or stage != "sampling" else _latent_format(self._sampled)
        if latents is not None:
            # None when the user switched previews off.
            self._previewer = latent_preview.get_previewer(model_management.get_torch_device(), latents)

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        image = None
        if preview is not None and self._previewer is not None:
            image = self._previewer.decode_latent_to_preview_image("JPEG", preview())
        if self._bar is not None:
            self._bar.update_absolute(done, preview=image)

    def check(self) -> None:
        model_management.throw_exception_if_processing_interrupted()


def _latent_format(model: AnyModel) -> latent_formats.LatentFormat | None:
    """Return what the latents of `model` look like; None if nobody knows."""
    if model.family.name in EMBEDDED:
        return _Embedded()
    known = _FORMATS.get(model.family.latent_channels)
    return None if known is None else known()

"""Shows progress and live preview in a node, and reacts to the Stop button."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import latent_preview
from comfy import latent_formats, model_management
from comfy.utils import ProgressBar

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NodeProgress"]

log = logging.getLogger(__name__)

_FORMATS = {16: latent_formats.Wan21, 48: latent_formats.Wan22}  # by latent channels


class NodeProgress:
    """Implements `pipelines.progress.Progress` for one execution of a node. Each stage starts the bar again.

    latent_channels: of the model whose previews are shown. None without sampling.
    """

    def __init__(self, node_id: str | None, latent_channels: int | None = None) -> None:
        self._node_id, self._channels = node_id, latent_channels
        self._bar: ProgressBar | None = None
        self._previewer: latent_preview.LatentPreviewer | None = None

    def begin(self, stage: str, total: int, unit: str) -> None:
        log.info("%s: %d %s", stage, total, unit)
        self._bar = ProgressBar(total, self._node_id)
        self._previewer = None
        if stage == "sampling" and self._channels in _FORMATS:
            # None when the user switched previews off.
            self._previewer = latent_preview.get_previewer(
                model_management.get_torch_device(), _FORMATS[self._channels]()
            )

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        image = None
        if preview is not None and self._previewer is not None:
            image = self._previewer.decode_latent_to_preview_image("JPEG", preview())
        if self._bar is not None:
            self._bar.update_absolute(done, preview=image)

    def check(self) -> None:
        model_management.throw_exception_if_processing_interrupted()

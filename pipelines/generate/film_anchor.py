"""Hands latents from shot to shot in place of frames, as Stable Video Infinity 2.0 Pro has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..plan.plan import Plan
from ..request.shots import FilmShot
from ..video.frame_stream import Frame, FrameStream, close
from ..video.image_tensor import fit
from ..video.read_image import read_image
from .prepared_run import Run

__all__ = ["FilmAnchor"]


@dataclass
class FilmAnchor:
    """image:   with which the last shot began that did not begin with frames of the one before.
    latents: of the last shot that was sampled, (1, C, T, H/8, W/8) in VAE space.
    """

    image: Frame | None = None
    latents: Tensor | None = None

    def first_image(self, shot: FilmShot, before: Sequence[Frame]) -> Sequence[Frame]:
        """Return the image that the shot is given, as the only one; none if it has its own."""
        return [self.image] if shot.join.kind == "overlap" and self.image is not None else before[:1]

    def given_to(self, shot: FilmShot, run: Run) -> Run:
        """Return the run of a shot with the latents that it is given: (N - 1) / 4 for `overlap N`."""
        if not shot.from_image:
            return run
        before = torch.zeros(1, *run.plan.latent_shape) if self.latents is None else self.latents
        stride = run.model.family.vae_stride[0]
        count = (shot.join.given - 1) // stride if shot.join.kind == "overlap" else 0
        return replace(run, anchored=before[:, :, before.shape[2] - count :])

    def noting(self, shot: FilmShot, run: Run, frames: FrameStream) -> FrameStream:
        """Remember the image of a shot that begins anew: its own, in the size of the video, or its first
        frame."""
        own = run.inputs.files.get("image_url")
        try:
            for number, frame in enumerate(frames):
                if number == 0 and not shot.join.given:
                    self.image = frame if own is None else _fitted(own.content, run.plan)
                yield frame
        finally:
            close(frames)


def _fitted(image: Path | bytes, plan: Plan) -> Frame:
    pixels = fit(read_image(image)[None], plan.width, plan.height)[0]
    fitted: Frame = (pixels.clamp(0, 1) * 255).round().byte().numpy()
    return fitted

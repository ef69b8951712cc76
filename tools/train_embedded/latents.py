"""Training clips as normalised latents, encoded once and kept on disk.

Each size is one tensor, so that a batch is an index. The image-to-video conditions are the VAE's view of
the given frames with grey in between, exactly as the pipelines build them.
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from .clips import FRAMES
from .fold import normalise
from .grammar import Scene
from .one_pass import encode_clip
from .pool import Clip, render_all
from .preview import frames_to_tensor
from .schedule import Run

__all__ = ["LatentSet", "condition_mask", "encode_frames", "given_frames", "latent_set"]

log = logging.getLogger(__name__)

_CHUNK = 256  # clips; on a GPU a whole set is one chunk, for there the processes that render start but once


@dataclass(frozen=True)
class LatentSet:
    """Per size (width, height): scenes, latents (N, 16, 5, H/8, W/8) float16, and conditions if asked for."""

    scenes: dict[tuple[int, int], list[Scene]]
    latents: dict[tuple[int, int], torch.Tensor]
    conditions: dict[tuple[int, int], torch.Tensor]  # (N, 2, 16, 5, H/8, W/8): first frame; first and last

    def draw(
        self, batch: int, rng: np.random.Generator, device: torch.device
    ) -> tuple[list[Scene], torch.Tensor, torch.Tensor | None]:
        """A batch of one size; sizes come up in proportion to how many clips they have."""
        sizes = sorted(self.latents)
        counts = np.array([len(self.scenes[size]) for size in sizes], float)
        size = sizes[int(rng.choice(len(sizes), p=counts / counts.sum()))]
        rows = rng.integers(len(self.scenes[size]), size=batch)
        picked = torch.from_numpy(rows).to(self.latents[size].device)
        conditions = self.conditions.get(size)
        return (
            [self.scenes[size][row] for row in rows],
            self.latents[size][picked].to(device).float(),
            None if conditions is None else conditions[picked].to(device).float(),
        )


def latent_set(
    name: str, clips: Sequence[Clip], vae: AutoencoderKLWan, run: Run, conditions: bool
) -> LatentSet | None:
    """The set, encoded in chunks that survive a killed call; None when the deadline came first."""
    same = f"{name}-{zlib.crc32(repr(clips).encode()):08x}-vae{run.trained_steps('vae')}"
    folder = run.out / "latents" / same  # other clips or another VAE: other latents
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    size_of_chunk = len(clips) if run.fast else _CHUNK
    for start in range(0, len(clips), size_of_chunk):
        path = folder / f"{start:06d}.pt"
        if not path.exists():
            if time.monotonic() > run.deadline_s:
                return None
            _encode_chunk(clips[start : start + size_of_chunk], vae, run, conditions, path)
            log.info("latents %s: %d of %d", name, min(start + size_of_chunk, len(clips)), len(clips))
        parts.append(torch.load(path, weights_only=True))
    latents, given, scenes = {}, {}, {}
    for size in {(clip.width, clip.height) for clip in clips}:
        scenes[size] = [clip.scene for clip in clips if (clip.width, clip.height) == size]
        key = f"{size[0]}x{size[1]}"
        home = run.device if run.fast else torch.device("cpu")
        latents[size] = torch.cat([part["latents"][key] for part in parts if key in part["latents"]]).to(home)
        if conditions:
            given[size] = torch.cat(
                [part["conditions"][key] for part in parts if key in part["conditions"]]
            ).to(home)
    return LatentSet(scenes, latents, given)


@torch.no_grad()
def encode_frames(vae: AutoencoderKLWan, frames: np.ndarray, run: Run) -> torch.Tensor:
    """(B, T, H, W, 3) uint8 -> (B, 16, t, H/8, W/8) normalised, float32."""
    with run.autocast(convolutions=True):
        moments = encode_clip(vae, frames_to_tensor(frames, run.device))
    return normalise(moments[:, : vae.config.z_dim].float(), vae)


def given_frames(frames: np.ndarray, last: bool) -> torch.Tensor:
    """(B, 3, T, H, W): the first (and last) frame of each clip and zeros, which are mid-grey, elsewhere."""
    pixels = frames_to_tensor(frames, torch.device("cpu"))
    pixels[:, :, 1 : -1 if last else None] = 0
    return pixels


def condition_mask(height: int, width: int, last: bool, frames: int = FRAMES) -> torch.Tensor:
    """(4, t, H/8, W/8): 1 for given frames; the first frame fills its four slots alone."""
    given = torch.zeros(frames)
    given[0] = 1
    given[-1] = 1 if last or frames == 1 else 0
    slots = torch.cat([given[:1].expand(4), given[1:]]).view(-1, 4).T
    return slots[:, :, None, None].expand(4, -1, height // 8, width // 8)


@torch.no_grad()
def _encode_chunk(
    clips: Sequence[Clip], vae: AutoencoderKLWan, run: Run, conditions: bool, path: Path
) -> None:
    rendered = render_all(clips, run.workers)
    latents, given = {}, {}
    at_once = 256 if run.fast else 4
    for size in sorted({(clip.width, clip.height) for clip in clips}):
        frames = np.stack([f for f, c in zip(rendered, clips, strict=True) if (c.width, c.height) == size])
        key = f"{size[0]}x{size[1]}"
        groups = [frames[at : at + at_once] for at in range(0, len(frames), at_once)]
        latents[key] = torch.cat([encode_frames(vae, group, run).half().cpu() for group in groups])
        if conditions:
            given[key] = torch.cat([_encode_given(vae, group, run) for group in groups])
    torch.save({"latents": latents, "conditions": given}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _encode_given(vae: AutoencoderKLWan, frames: np.ndarray, run: Run) -> torch.Tensor:
    """(B, 2, 16, t, H/8, W/8) float16."""
    views = []
    for last in (False, True):
        with run.autocast(convolutions=True):
            moments = encode_clip(vae, given_frames(frames, last).to(run.device))
        views.append(normalise(moments[:, : vae.config.z_dim].float(), vae).half().cpu())
    return torch.stack(views, dim=1)

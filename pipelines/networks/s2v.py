"""The speech-to-video transformer of Wan 2.2: the blocks of text to video, with audio and motion frames.

Follows wan/modules/s2v/model_s2v.py of Wan-Video/Wan2.2, in its released configuration. A sequence is [noisy
video | reference image | motion of the previous clip]. The last two have no noise, so they are modulated for
timestep 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..parallel.rank_group import RankGroup
from ..parallel.token_share import TokenShare
from .block_layers import BlockLayers
from .condition_embedder import ConditionEmbedder
from .s2v_attention import attended_by
from .s2v_audio import AudioEncoder, AudioInjector
from .s2v_motion import MOTION_FRAMES, MOTION_LATENTS, FramePacker, Grid, rotary_tables

__all__ = ["SpeechTransformer"]

_REFERENCE_TIME = 30  # where the reference image stands in time: ref_grid_sizes of the official forward
_VIDEO, _REFERENCE, _MOTION = 0, 1, 2  # rows of trainable_cond_mask


class SpeechBlock(BlockLayers):
    """A block with two segments of modulation, and cross-attention to audio in some blocks."""

    def __init__(self, width: int, ffn_dim: int, heads: int, eps: float, *, with_audio: bool) -> None:
        super().__init__(width, ffn_dim, heads, eps)
        self.audio = AudioInjector(width, heads, eps) if with_audio else None

    def forward(
        self,
        hidden: Tensor,
        text: Tensor,
        modulation: Tensor,
        rotary: tuple[Tensor, Tensor],
        noisy: int,
        sound: tuple[Tensor, Tensor],
        share: TokenShare | None = None,
    ) -> Tensor:
        """Compute the block.

        hidden:     (1, L, width).
        modulation: (2, 6, width), float32: for the first `noisy` tokens, and for the rest.
        sound:      from `AudioEncoder`, only for the frames of the clip.
        share:      None if `hidden` has all tokens; else `hidden` and `rotary` are of this rank's tokens.
        """
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            self.scale_shift_table.float() + modulation
        ).unbind(1)
        normed = _modulated(self.norm1, hidden, scale, shift, noisy)
        hidden = _gated(hidden, attended_by(self.attn1, normed, None, rotary, share), gate, noisy)
        hidden = hidden + attended_by(self.attn2, self.norm2(hidden.float()).type_as(hidden), text)
        fed = self.ffn(_modulated(self.norm3, hidden, ffn_scale, ffn_shift, noisy))
        hidden = _gated(hidden, fed, ffn_gate, noisy)
        if self.audio is not None:
            hidden[:, :noisy] += self.audio(hidden[:, :noisy], *sound)
        return hidden


class SpeechTransformer(nn.Module):
    """Predicts the velocity of one clip.

    Parameters have diffusers' names where it has them, else the names in Wan's files. Only the audio
    injectors differ: they are part of their blocks.
    """

    split: ClassVar[Mapping[str, int]] = {"hidden": 1, "cos": 1, "sin": 1}
    """What ranks split, and the dimension of its tokens. Text, sound and weights are whole on each."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Build the network. config: from `s2v_layout.speech_config`."""
        super().__init__()
        heads, eps = config["num_attention_heads"], config["eps"]
        self.head_dim, patch = config["attention_head_dim"], tuple(config["patch_size"])
        width = heads * self.head_dim
        self.patch, self.freq_dim, self.out_channels = patch, config["freq_dim"], config["out_channels"]
        self.patch_embedding = nn.Conv3d(config["in_channels"], width, kernel_size=patch, stride=patch)
        self.condition_embedder = ConditionEmbedder(width, config["freq_dim"], config["text_dim"])
        audio_layers = set(config["audio_blocks"])
        self.blocks = nn.ModuleList(
            SpeechBlock(width, config["ffn_dim"], heads, eps, with_audio=index in audio_layers)
            for index in range(config["num_layers"])
        )
        self.cond_encoder = nn.Conv3d(config["cond_dim"], width, kernel_size=patch, stride=patch)
        self.casual_audio_encoder = AudioEncoder(
            config["audio_dim"], config["audio_states"], width, config["audio_tokens"]
        )
        self.trainable_cond_mask = nn.Embedding(3, width)
        self.frame_packer = FramePacker(config["in_channels"], width)
        self.proj_out = nn.Linear(width, config["out_channels"] * math.prod(patch))
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 2, width))
        self.eps = eps

    def forward(
        self,
        latents: Tensor,
        timestep: float,
        text: Tensor,
        audio: Tensor,
        reference: Tensor,
        motion: Tensor | None,
        pose: Tensor | None,
        ranks: RankGroup | None = None,
    ) -> Tensor:
        """Return the velocity, in the shape of `latents`.

        latents:   (1, C, T, h, w), normalised.
        timestep:  0 to 1000.
        text:      (1, 512, D), zero after the prompt.
        audio:     (1, states, audio_dim, 4 T), features of the frames of this clip.
        reference: (1, C, 1, h, w), normalised; the image of the person.
        motion:    (1, C, MOTION_LATENTS, h, w), normalised; None for the first clip.
        pose:      (1, C, T, h, w), normalised; None for no pose.
        ranks:     share the tokens; each returns the whole velocity. None computes all of them here.
        """
        video = self.patch_embedding(latents)
        video = video + self.cond_encoder(torch.zeros_like(latents) if pose is None else pose)
        frames, rows, columns = video.shape[2:]
        grids = [Grid.of(0, frames, rows, columns), Grid.of(_REFERENCE_TIME, 1, rows, columns)]
        parts = [_tokens(video), _tokens(self.patch_embedding(reference))]
        noisy = parts[0].shape[1]
        if motion is not None:
            packed, places = self.frame_packer(motion)
            parts.append(packed)
            grids += places
        kinds = (_VIDEO, _REFERENCE, _MOTION)
        hidden = torch.cat(
            [part + self.trainable_cond_mask.weight[kind] for part, kind in zip(parts, kinds, strict=False)],
            dim=1,
        )
        embedding, modulation = self._times((timestep, 0.0), hidden.device)
        text = self.condition_embedder.text_embedder(text)
        rotary = rotary_tables(grids, self.head_dim, hidden.device)
        sound = self._audio_tokens(audio, hidden.dtype)
        share = None
        if ranks is not None:
            share = TokenShare(ranks, [noisy // frames] * frames + [hidden.shape[1] - noisy])
            noisy = sum(share.own[:frames])
            hidden, cos, sin = share.take(self.split, hidden=hidden, cos=rotary[0], sin=rotary[1])
            rotary = cos, sin
        for block in self.blocks:
            hidden = block(hidden, text, modulation, rotary, noisy, sound, share)
        shift, scale = (self.scale_shift_table.float() + embedding[:1, None]).chunk(2, dim=1)
        out = hidden[:, :noisy].float()
        out = functional.layer_norm(out, out.shape[-1:], eps=self.eps) * (1 + scale) + shift
        patches = self.proj_out(out.type_as(hidden))
        if share is not None:
            patches = share.join(patches, frames)
        return self._pixels(patches, (frames, rows, columns))

    def _times(self, timesteps: Sequence[float], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the embeddings (n, width) and their modulation (n, 6, width), float32."""
        half = self.freq_dim // 2
        speeds = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.tensor(timesteps, dtype=torch.float64)[:, None] * speeds
        waves = torch.cat([angles.cos(), angles.sin()], dim=1).float().to(device)
        embedder = self.condition_embedder
        embedding = embedder.time_embedder(waves.to(embedder.time_embedder.linear_1.weight.dtype))
        projected = embedder.time_proj(functional.silu(embedding).to(embedder.time_proj.weight.dtype))
        return embedding.float(), projected.float().unflatten(1, (6, -1))

    def _audio_tokens(self, audio: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Encode the audio of the clip. Its first frame also stands for the motion frames before it."""
        before = audio[..., :1].expand(*audio.shape[:-1], MOTION_FRAMES)
        whole, tokens = self.casual_audio_encoder(torch.cat([before, audio], dim=-1))
        return whole[:, MOTION_LATENTS:].to(dtype), tokens[:, MOTION_LATENTS:].to(dtype)

    def _pixels(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Convert (1, L, C x patch) to (1, C, T, h, w)."""
        boxes = tokens.view(1, *grid, *self.patch, self.out_channels)
        pixels: Tensor = boxes.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return pixels


def _tokens(patches: Tensor) -> Tensor:
    """Convert (1, width, T, h, w) to (1, T x h x w, width)."""
    return patches.flatten(2).transpose(1, 2)


def _modulated(norm: nn.Module, hidden: Tensor, scale: Tensor, shift: Tensor, noisy: int) -> Tensor:
    """Return norm(hidden), scaled and shifted by row 0 for the noisy tokens and by row 1 for the rest.

    It works on two views of one tensor: a modulation per token would need many times the memory.
    """
    normed: Tensor = norm(hidden.float())
    for part, row in ((normed[:, :noisy], 0), (normed[:, noisy:], 1)):
        part.mul_(1 + scale[row]).add_(shift[row])
    return normed.type_as(hidden)


def _gated(hidden: Tensor, change: Tensor, gate: Tensor, noisy: int) -> Tensor:
    """Return hidden + gate x change, in float32.

    Row 0 of the gate is for the noisy tokens, row 1 for the rest.
    """
    total = hidden.to(torch.float32, copy=True)
    for segment, row in ((slice(0, noisy), 0), (slice(noisy, None), 1)):
        total[:, segment] += change[:, segment].float() * gate[row]
    return total.type_as(hidden)

"""A Wan transformer that is told one time per latent frame, for clips of which some frames are given.

The official code repeats the time for every token (wan/textimage2video.py of Wan-Video/Wan2.2), and the
network then makes six numbers per channel for each of them: at 1280x704 and 121 frames 2 GiB in every block.
All tokens of a frame have one time, so here the numbers are made once per different time and spread by
frames. What is computed is the same.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor

__all__ = ["FrameBlock", "forward_by_frames", "with_frame_times"]


class FrameBlock(WanTransformerBlock):  # type: ignore[misc]
    """The same block, which also takes a modulation per frame."""

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor, rope: Any
    ) -> Tensor:
        """temb: (1, 6, D), or (1, T, 6, D) when the tokens are those of T frames, one after the other."""
        if temb.ndim == 3:
            result: Tensor = super().forward(hidden_states, encoder_hidden_states, temb, rope)
            return result
        parts = (self.scale_shift_table + temb.float()).unsqueeze(3).unbind(2)  # six of (1, T, 1, D)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = parts
        hidden = hidden_states
        moved = _by_frames(self.norm1(hidden.float()), scale, shift).type_as(hidden)
        attended = self.attn1(moved, None, None, rope)
        hidden = (hidden.float() + _gated(attended, gate)).type_as(hidden)
        hidden = hidden + self.attn2(self.norm2(hidden.float()).type_as(hidden), encoder_hidden_states)
        moved = _by_frames(self.norm3(hidden.float()), ffn_scale, ffn_shift).type_as(hidden)
        fed: Tensor = hidden.float() + _gated(self.ffn(moved).float(), ffn_gate)
        return fed.type_as(hidden)


def with_frame_times(network: WanTransformer3DModel) -> WanTransformer3DModel:
    """`network` with blocks that take a time per frame; no parameter changes."""
    for block in network.blocks:
        block.__class__ = FrameBlock
    return network


def forward_by_frames(
    network: WanTransformer3DModel,
    latents: Tensor,
    times: Tensor,
    text: Tensor,
    picture: Tensor | None = None,
) -> Tensor:
    """What `network` makes of latents (1, C, T, H, W) whose frames have the times (T,), each 0 to 1000."""
    patch_frames, patch_rows, patch_columns = network.config.patch_size
    frames, rows, columns = (
        side // patch
        for side, patch in zip(latents.shape[2:], (patch_frames, patch_rows, patch_columns), strict=True)
    )
    rope = network.rope(latents)
    hidden = network.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
    different, which = torch.unique(times[::patch_frames], return_inverse=True)
    time, modulation, context, picture = network.condition_embedder(different, text, picture)
    if picture is not None:
        context = torch.concat([picture, context], dim=1)
    modulation = modulation.unflatten(1, (6, -1))[which][None]
    for block in network.blocks:
        hidden = block(hidden, context, modulation, rope)
    shift, scale = (network.scale_shift_table + time.unsqueeze(1))[which][None].chunk(2, dim=2)
    hidden = network.proj_out(_by_frames(network.norm_out(hidden.float()), scale, shift).type_as(hidden))
    hidden = hidden.reshape(1, frames, rows, columns, patch_frames, patch_rows, patch_columns, -1)
    drawn: Tensor = hidden.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(1, -1, *latents.shape[2:])
    return drawn


def _by_frames(tokens: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """tokens: (1, T P, D); scale and shift: (1, T, 1, D)."""
    frames = tokens.view(1, scale.shape[1], -1, tokens.shape[-1])
    return (frames * (1 + scale) + shift).flatten(1, 2)


def _gated(tokens: Tensor, gate: Tensor) -> Tensor:
    return (tokens.view(1, gate.shape[1], -1, tokens.shape[-1]) * gate).flatten(1, 2)

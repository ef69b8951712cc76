"""The Wan transformer, with the parameters and the call of diffusers' class.

Beside the timesteps (B,) of the stock network it accepts (B, R): one for each of R segments of tokens, all of
one length. TI2V 5B needs one per latent frame. The stock network computes one row of modulation per token for
that, which takes gigabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..kernels.choices import FloatChoices
from ..kernels.operations import Operations, Rope
from ..parallel.rank_group import RankGroup
from ..parallel.token_share import TokenShare
from ..plan.riflex import Riflex
from ..sampling.nag import AttentionGuidance
from .block import modulation_rows, replace_block_forward
from .block_layers import BlockLayers
from .condition_embedder import ConditionEmbedder
from .empty_layers import Conv3d, Linear
from .riflex_table import lower_frequency
from .text_runs import TextRuns
from .transformer_config import TransformerConfig

__all__ = ["OwnRotary", "OwnTransformer", "replace_transformer_forward"]


def replace_transformer_forward(
    network: Any, choices: FloatChoices, device: torch.device | None = None
) -> None:
    """Make `network`, ours or diffusers', compute with our forward and the kernels of `choices`.

    device: where it will run, if known; a kernel may have a faster form for it.

    Parameters, their names and the call stay unchanged. May be called again with other choices. Raises
    ModelError if a chosen kernel is not installed.
    """
    config = network.config  # that of diffusers' class is a property
    network.__class__, network.rope.__class__ = OwnTransformer, OwnRotary
    network.config = config
    network.operations = network.rope.operations = choices.operations()
    network.rope.last = None
    for block in network.blocks:
        replace_block_forward(block, choices, device)


class OwnRotary(nn.Module):
    """Rotary positions of a clip, computed again only when its shape or the device changes.

    Of a head, a third of the width is for rows, a third for columns, and the rest for time. The tables have
    each angle twice, as in diffusers: once for each number of a pair.
    """

    freqs_cos: Tensor
    freqs_sin: Tensor
    operations: Operations
    last: tuple[object, Rope] | None

    def __init__(self, head_width: int, patch_size: Sequence[int], positions: int) -> None:
        super().__init__()
        self.patch_size = tuple(patch_size)
        self.h_dim = self.w_dim = 2 * (head_width // 6)
        self.t_dim = head_width - self.h_dim - self.w_dim
        angles = torch.cat([_angles(width, positions) for width in self._widths()], 1)
        self.register_buffer("freqs_cos", angles.cos().float(), persistent=False)
        self.register_buffer("freqs_sin", angles.sin().float(), persistent=False)

    def forward(self, hidden_states: Tensor, riflex: Riflex | None = None) -> Rope:
        wanted = (hidden_states.shape[2:], self.freqs_cos.device, riflex)
        if self.last is None or self.last[0] != wanted:
            sizes = zip(hidden_states.shape[2:], self.patch_size, strict=True)
            grid = [size // patch for size, patch in sizes]
            cos, sin = self._on_grid(self.freqs_cos, grid), self._on_grid(self.freqs_sin, grid)
            if riflex is not None:
                frames = hidden_states.shape[2] // self.patch_size[0]
                lower_frequency(cos, sin, riflex, frames, self.t_dim // 2)
            self.last = wanted, Rope(cos, sin, self.operations.table(cos, sin))
        return self.last[1]

    def _widths(self) -> tuple[int, int, int]:
        return self.t_dim, self.h_dim, self.w_dim

    def _on_grid(self, table: Tensor, grid: Sequence[int]) -> Tensor:
        """Return (tokens, head width / 2): for each token the angles of its frame, row and column."""
        parts = []
        for axis, (part, size) in enumerate(zip(torch.split(table, [*self._widths()], 1), grid, strict=True)):
            shape = [size if other == axis else 1 for other in range(3)]
            parts.append(part[:size, ::2].view(*shape, -1).expand(*grid, -1))
        return torch.cat(parts, -1).flatten(0, 2)


def _angles(width: int, positions: int) -> Tensor:
    """Return (positions, width): those of RoPE with base 10,000, each twice (arXiv:2104.09864), float64.

    They are real even where a network is built on the meta device: they are computed, not stored.
    """
    steps = torch.arange(0, width, 2, dtype=torch.float64, device="cpu")
    frequencies = 1.0 / 10_000.0 ** (steps / width)
    return torch.outer(torch.arange(positions, device="cpu"), frequencies).repeat_interleave(2, 1)


class OwnTransformer(nn.Module):
    """The network of a `TransformerConfig`. `replace_transformer_forward` chooses its kernels."""

    config: TransformerConfig
    operations: Operations
    split: ClassVar[Mapping[str, int]] = {"hidden": 1, "cos": 0, "sin": 0}
    """What ranks split, and the dimension of its tokens. Text, modulation and weights are whole on each."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.rope = OwnRotary(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
        self.patch_embedding = Conv3d(config.in_channels, width, config.patch_size, config.patch_size)
        self.condition_embedder = ConditionEmbedder(
            width, config.freq_dim, config.text_dim, config.image_dim, config.pos_embed_seq_len
        )
        self.blocks = nn.ModuleList(
            BlockLayers(
                width,
                config.ffn_dim,
                config.num_attention_heads,
                config.eps,
                normed_text=config.cross_attn_norm,
                image_width=config.added_kv_proj_dim,
            )
            for _ in range(config.num_layers)
        )
        self.norm_out = nn.LayerNorm(width, config.eps, elementwise_affine=False)
        self.proj_out = Linear(width, config.out_channels * prod(config.patch_size))
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 2, width))

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = False,
        attention_kwargs: dict[str, Any] | None = None,
        guidance: AttentionGuidance | None = None,
        riflex: Riflex | None = None,
        ranks: RankGroup | None = None,
        seen: Sequence[tuple[int, int]] | None = None,
    ) -> tuple[Tensor]:
        """Return the velocity, in the shape of `hidden_states` except for its channels.

        timestep: (B,), or (B, R) for R segments of as many tokens each, in order, such as frames.
        guidance: of the cross-attention to the text; None without guidance.
        riflex:   changes the positions in time; None leaves them as they are.
        ranks:    share the tokens; each returns the whole velocity. None computes all of them here.
        seen:     (first, end) of the text's tokens for each frame; None lets all frames see the whole text.
        """
        if return_dict or attention_kwargs:
            raise ValueError("return_dict and attention_kwargs have no effect here; leave them out")
        batch, _, frames, rows, columns = hidden_states.shape
        by_frame, by_row, by_column = self.config.patch_size
        grid = frames // by_frame, rows // by_row, columns // by_column
        rope = self.rope(hidden_states, riflex)
        hidden = self.patch_embedding(hidden_states).flatten(2).transpose(1, 2).contiguous()
        segments = timestep.shape[1] if timestep.ndim == 2 else 1
        if hidden.shape[1] % segments:
            raise ValueError(f"{segments} timesteps do not divide {hidden.shape[1]} tokens")
        if seen is not None and len(seen) != grid[0]:
            raise ValueError(f"seen: says what {len(seen)} frames see, but there are {grid[0]}")
        temb, modulation, text, image = self.condition_embedder(
            timestep.flatten(), encoder_hidden_states, encoder_hidden_states_image, timestep_seq_len=segments
        )
        modulation, text_length = modulation_rows(torch.unflatten(modulation, 2, (6, -1))), text.shape[1]
        if image is not None:
            text = torch.cat([image, text], 1)
        avoided = None if guidance is None else self._read(guidance)
        share = None
        if ranks is not None:
            parts = segments if seen is None else grid[0]  # then each rank has tokens of every frame
            share = TokenShare(ranks, [hidden.shape[1] // parts] * parts)
            hidden, cos, sin = share.take(self.split, hidden=hidden, cos=rope.cos, sin=rope.sin)
            rope = Rope(cos, sin, self.operations.table(cos, sin))
        runs = None
        if seen is not None:
            runs = TextRuns.of_frames(text_length, seen, hidden.shape[1] // grid[0])
        for block in self.blocks:
            hidden = block(hidden, text, modulation, rope, avoided, share, runs)
        patches = self.proj_out(self._normed(hidden, temb))
        if share is not None:
            patches = share.join(patches)
        output = (
            patches.reshape(batch, *grid, by_frame, by_row, by_column, -1)
            .permute(0, 7, 1, 4, 2, 5, 3, 6)
            .flatten(6, 7)
            .flatten(4, 5)
            .flatten(2, 3)
        )
        return (output,)

    def _read(self, guidance: AttentionGuidance) -> AttentionGuidance:
        """Return `guidance` with its text projected to the width of the blocks, (1, L, width)."""
        return guidance._replace(negative=self.condition_embedder.text_embedder(guidance.negative))

    def _normed(self, hidden: Tensor, temb: Tensor) -> Tensor:
        """Return the final norm, modulated. temb: (B, R, D)."""
        shift, scale = (self.scale_shift_table.unsqueeze(1) + temb.unsqueeze(2).float()).unbind(2)
        return self.operations.norm(hidden, 1 + scale, shift, self.norm_out.eps)

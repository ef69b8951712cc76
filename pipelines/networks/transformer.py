"""Our own forward for the whole Wan transformer, with the parameters and the call of diffusers' class.

Beside the timesteps (B,) of the stock network it accepts (B, R): one for each of R segments of tokens, all of
one length. TI2V 5B needs one per latent frame. The stock network computes one row of modulation per token for
that, which takes gigabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import Tensor

from ..kernels.choices import FloatChoices
from ..kernels.operations import Operations, Rope
from ..parallel.rank_group import RankGroup
from ..parallel.token_share import TokenShare
from ..plan.riflex import Riflex
from ..sampling.nag import AttentionGuidance
from .block import modulation_rows, replace_block_forward
from .riflex_table import lower_frequency
from .text_runs import TextRuns

__all__ = ["OwnRotary", "OwnTransformer", "replace_transformer_forward"]


def replace_transformer_forward(
    network: WanTransformer3DModel, choices: FloatChoices, device: torch.device | None = None
) -> None:
    """Make `network` with its blocks and rotary positions use our forward and the kernels of `choices`.

    device: where it will run, if known; a kernel may have a faster form for it.

    Parameters, their names and the call stay unchanged. May be called again with other choices. Raises
    ModelError if a chosen kernel is not installed.
    """
    network.__class__, network.rope.__class__ = OwnTransformer, OwnRotary
    network.operations = network.rope.operations = choices.operations()
    network.rope.last = None
    for block in network.blocks:
        replace_block_forward(block, choices, device)


class OwnRotary(WanRotaryPosEmbed):  # type: ignore[misc]
    """Rotary positions of a clip, computed again only when its shape or the device changes."""

    operations: Operations
    last: tuple[object, Rope] | None

    def forward(self, hidden_states: Tensor, riflex: Riflex | None = None) -> Rope:
        wanted = (hidden_states.shape[2:], self.freqs_cos.device, riflex)
        if self.last is None or self.last[0] != wanted:
            cos, sin = super().forward(hidden_states)
            cos, sin = cos[0, :, 0, 0::2].contiguous(), sin[0, :, 0, 1::2].contiguous()
            if riflex is not None:
                frames = hidden_states.shape[2] // self.patch_size[0]
                lower_frequency(cos, sin, riflex, frames, self.t_dim // 2)
            self.last = wanted, Rope(cos, sin, self.operations.table(cos, sin))
        return self.last[1]


class OwnTransformer(WanTransformer3DModel):  # type: ignore[misc]
    """The stock network with our forward; see `replace_transformer_forward`."""

    operations: Operations
    split: ClassVar[Mapping[str, int]] = {"hidden": 1, "cos": 0, "sin": 0}
    """What ranks split, and the dimension of its tokens. Text, modulation and weights are whole on each."""

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        guidance: AttentionGuidance | None = None,
        riflex: Riflex | None = None,
        ranks: RankGroup | None = None,
        seen: Sequence[tuple[int, int]] | None = None,
    ) -> Any:
        """Return the velocity, in the shape of `hidden_states` except for its channels.

        timestep: (B,), or (B, R) for R segments of as many tokens each, in order, such as frames.
        guidance: of the cross-attention to the text; None without guidance.
        riflex:   changes the positions in time; None leaves them as they are.
        ranks:    share the tokens; each returns the whole velocity. None computes all of them here.
        seen:     (first, end) of the text's tokens for each frame; None lets all frames see the whole text.
        """
        if attention_kwargs:
            raise ValueError(f"attention_kwargs: {sorted(attention_kwargs)} have no effect; leave them out")
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
        if return_dict:
            from diffusers.models.modeling_outputs import Transformer2DModelOutput

            return Transformer2DModelOutput(sample=output)
        return (output,)

    def _read(self, guidance: AttentionGuidance) -> AttentionGuidance:
        """Return `guidance` with its text projected to the width of the blocks, (1, L, width)."""
        return guidance._replace(negative=self.condition_embedder.text_embedder(guidance.negative))

    def _normed(self, hidden: Tensor, temb: Tensor) -> Tensor:
        """Return the final norm, modulated. temb: (B, R, D)."""
        shift, scale = (self.scale_shift_table.unsqueeze(1) + temb.unsqueeze(2).float()).unbind(2)
        return self.operations.norm(hidden, 1 + scale, shift, self.norm_out.eps)

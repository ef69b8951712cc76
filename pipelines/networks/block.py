"""Our own forward for a block of the Wan transformer, with the parameters and the call of diffusers' class.

The stock block reads and writes its hidden state about 125 times; this one 50 times in plain torch and 19
times with triton (`bench/suite.py --only C7`). The results differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

from ..kernels.attention import Attend, attend_with
from ..kernels.choices import FloatChoices
from ..kernels.compile_caches import keep_compiled
from ..kernels.operations import Operations, Rope
from ..parallel.token_share import TokenShare
from ..sampling.nag import AttentionGuidance
from .attention_guidance import guided_attention
from .block_layers import BlockLayers
from .stored_linear import StoredLinear
from .text_runs import TextRuns

__all__ = ["OwnBlock", "Rotary", "modulation_rows", "replace_block_forward"]

Rotary: TypeAlias = Rope | tuple[Tensor, Tensor]
"""Ours, or (cos, sin) of (1, N, 1, head width) each, as diffusers makes them."""

_SCALES = slice(1, None, 3)  # of shift, scale, gate, and those of the feed-forward
_ANYWHERE = (None, None, None)  # query, key and value are written where memory is free
_TEXT_TOKENS = 512  # tokens before these are an image: WanAttnProcessor of diffusers


class OwnBlock(BlockLayers):
    """A block with our forward.

    `temb` is as for the stock block, or from `modulation_rows`, made once for all blocks. `guidance` has the
    negative text as (1 or B, L, D), beside that of the stock block. With `share`, `hidden_states`,
    `rotary_emb` and `runs` are of this rank's tokens. Without `runs` every token sees the whole text.
    """

    choices: FloatChoices
    operations: Operations
    attend: Attend

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        rotary_emb: Rotary,
        guidance: AttentionGuidance | None = None,
        share: TokenShare | None = None,
        runs: TextRuns | None = None,
    ) -> Tensor:
        compiler = self.choices.compiler
        forward = _forward if compiler is None else _compiled(compiler)
        rope = rotary_emb if isinstance(rotary_emb, Rope) else _from_diffusers(rotary_emb, self.operations)
        return forward(self, hidden_states, encoder_hidden_states, temb, rope, guidance, share, runs)


def modulation_rows(temb: Tensor) -> Tensor:
    """Convert (B, 6, D) or (B, R, 6, D) to (B, R, 6, D), float32, and add 1 to the scales.

    R divides the tokens.
    """
    rows = (temb if temb.ndim == 4 else temb.unsqueeze(1)).to(torch.float32, copy=True)
    rows[:, :, _SCALES] += 1
    return rows


def replace_block_forward(block: Any, choices: FloatChoices, device: torch.device | None = None) -> None:
    """Make `block`, ours or diffusers', compute with our forward and the kernels of `choices`.

    Its parameters stay unchanged.
    """
    block.__class__ = OwnBlock
    block.choices, block.operations = choices, choices.operations()
    block.attend = attend_with(choices.attention, device)


class _Modulation(NamedTuple):
    """Scale, shift and gate of one half of a block, from the timestep. Each (1 or B, R, D), float32."""

    weight: Tensor
    bias: Tensor
    gate: Tensor

    def rows(self, chosen: slice) -> _Modulation:
        return _Modulation(*(rows[:, chosen] for rows in self))


_KeyValue: TypeAlias = tuple[Tensor, Tensor]
"""(B, L, heads, D / heads) each."""


class _Context(NamedTuple):
    """Keys and values of the cross-attention: of the text, an image, and the negative text of NAG.

    runs: what each token sees of the text; None for all of it.
    """

    text: _KeyValue
    image: _KeyValue | None
    avoided: _KeyValue | None
    guidance: AttentionGuidance | None
    runs: TextRuns | None

    def within(self, here: slice) -> _Context:
        return self if self.runs is None else self._replace(runs=self.runs.within(here))


@lru_cache(maxsize=4)
def _compiled(backend: str) -> Callable[..., Tensor]:
    """Return the compiled forward, one per process.

    Parameters are inputs of its graph, so all blocks share it.
    """
    keep_compiled()
    compiled: Callable[..., Tensor] = torch.compile(_forward, backend=backend)
    return compiled


def _forward(
    block: OwnBlock,
    hidden: Tensor,
    text: Tensor,
    temb: Tensor,
    rope: Rope,
    guidance: AttentionGuidance | None = None,
    share: TokenShare | None = None,
    runs: TextRuns | None = None,
) -> Tensor:
    """Compute the block.

    hidden: (B, N, D). text: (B, L, D). temb: of the stock network, or of `modulation_rows`.
    guidance: its negative text is (1 or B, L, D).
    share: None if `hidden` has all tokens.
    """
    rows = block.scale_shift_table + (temb if temb.ndim == 4 else modulation_rows(temb))
    shift, scale, gate, ff_shift, ff_scale, ff_gate = rows.unbind(2)
    about_attention = _Modulation(scale, shift, gate)
    about_ff = _Modulation(ff_scale, ff_shift, ff_gate)
    context = _context_of(block.attn2, text, guidance, runs)
    tokens, chunk_tokens = hidden.shape[1], block.choices.chunk_tokens
    attend = block.attend if share is None else partial(share.attention, block.attend)

    if not chunk_tokens or chunk_tokens >= tokens:
        attended = attend(*_projections(block, hidden, about_attention, rope))
        return _after_attention(block, hidden, attended, context, about_attention, about_ff)

    parts = list(_parts(tokens, rows.shape[1], chunk_tokens))
    attended = attend(*_projections_in_parts(block, hidden, about_attention, rope, parts))
    result = torch.empty_like(hidden)
    for here, chosen in parts:
        rest = context.within(here), about_attention.rows(chosen), about_ff.rows(chosen)
        result[:, here] = _after_attention(block, hidden[:, here], attended[:, here], *rest)
    return result


def _projections_in_parts(
    block: OwnBlock, hidden: Tensor, modulation: _Modulation, rope: Rope, parts: list[tuple[slice, slice]]
) -> list[Tensor]:
    wholes = [torch.empty_like(hidden) for _ in range(3)]
    turned = block.operations.turns_in_place
    at_once = hidden.shape[0] == 1  # then a slice is contiguous, and a matrix product can write to it
    in_place = (turned and at_once, turned and at_once, at_once)
    for here, chosen in parts:
        places = [whole[:, here] for whole in wholes]
        wanted = places if at_once else _ANYWHERE
        made = _projections(block, hidden[:, here], modulation.rows(chosen), _rope_at(rope, here), wanted)
        for place, part, is_there in zip(places, made, in_place, strict=True):
            if not is_there:
                place.copy_(part.flatten(2))
    return [torch.unflatten(whole, 2, (block.attn1.heads, -1)) for whole in wholes]


def _projections(
    block: OwnBlock,
    hidden: Tensor,
    modulation: _Modulation,
    rope: Rope,
    places: Sequence[Tensor | None] = _ANYWHERE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value of the self-attention, (B, N, heads, D / heads).

    places: where to write them, if the operations can; None allocates.
    """
    attention: Any = block.attn1
    do = block.operations
    normed = do.norm(hidden, modulation.weight, modulation.bias, block.norm1.eps)
    value = torch.unflatten(_linear(attention.to_v, normed, places[2]), 2, (attention.heads, -1))
    query, key = (
        do.turned(partial(_linear, linear, normed, place), norm.weight, norm.eps, attention.heads, rope)
        for linear, norm, place in (
            (attention.to_q, attention.norm_q, places[0]),
            (attention.to_k, attention.norm_k, places[1]),
        )
    )
    return query, key, value


def _linear(layer: nn.Linear | StoredLinear, hidden: Tensor, place: Tensor | None) -> Tensor:
    """Return layer(hidden), written to `place` if given; contiguous."""
    if isinstance(layer, StoredLinear):
        return layer(hidden, place)  # type: ignore[no-any-return]
    if place is None:
        made: Tensor = layer(hidden)
        return made
    torch.addmm(layer.bias, hidden.flatten(0, 1), layer.weight.t(), out=place.view(-1, place.shape[-1]))
    return place


def _after_attention(
    block: OwnBlock,
    hidden: Tensor,
    attended: Tensor,
    context: _Context,
    about_attention: _Modulation,
    about_ff: _Modulation,
) -> Tensor:
    """Compute the rest of the block, in which tokens are independent of each other."""
    do, cross = block.operations, block.attn2
    update = block.attn1.to_out[0](attended.flatten(2))
    del attended
    if isinstance(block.norm2, nn.Identity):
        hidden = attending = do.gated(hidden, update, about_attention.gate)
    else:
        weight, bias = (tensor.float().view(1, 1, -1) for tensor in (block.norm2.weight, block.norm2.bias))
        hidden, attending = do.gated_norm(hidden, update, about_attention.gate, weight, bias, block.norm2.eps)
    del update
    update = cross.to_out[0](_looked_up(block, attending, context))
    del attending
    hidden, normed = do.gated_norm(hidden, update, None, about_ff.weight, about_ff.bias, block.norm3.eps)
    del update
    ffn: Any = block.ffn.net
    widen, narrow = ffn[0].proj, ffn[2]
    if isinstance(widen, StoredLinear):
        wide = F.gelu(widen(normed), approximate="tanh")
    else:
        wide = do.gelu_linear(normed, widen.weight, widen.bias)
    del normed
    update = narrow(wide)
    del wide
    return do.gated(hidden, update, about_ff.gate)


def _looked_up(block: OwnBlock, attending: Tensor, context: _Context) -> Tensor:
    """Return the cross-attention to text and image, with NAG, (B, N, D)."""
    cross = block.attn2
    query = torch.unflatten(cross.norm_q(cross.to_q(attending)), 2, (cross.heads, -1))
    seen = None if context.image is None else block.attend(query, *context.image).flatten(2)
    found = _text_seen(block, query, context)
    if context.avoided is not None and context.guidance is not None:
        avoided = block.attend(query, *context.avoided).flatten(2)
        del query  # kept any longer, it would raise the peak memory of the block
        found = guided_attention(found, avoided, *context.guidance[1:])
        del avoided
    return found if seen is None else seen + found


def _text_seen(block: OwnBlock, query: Tensor, context: _Context) -> Tensor:
    """Return the cross-attention to the text, (B, N, D): with one call for each run of tokens."""
    if context.runs is None:
        return block.attend(query, *context.text).flatten(2)
    found, at = torch.empty_like(query), 0
    for tokens, first, end in context.runs.runs:
        here = slice(at, at + tokens)
        found[:, here] = block.attend(query[:, here], *(part[:, first:end] for part in context.text))
        at += tokens
    return found.flatten(2)


def _context_of(
    attention: Any, text: Tensor, guidance: AttentionGuidance | None, runs: TextRuns | None
) -> _Context:
    """Return keys and values of the cross-attention. Wan 2.1 image models have the image before the text.

    Guidance concerns the text alone: NAGWanAttnProcessor2_0 of ChenDarYen/Normalized-Attention-Guidance.
    """

    def heads(key: Tensor, value: Tensor) -> _KeyValue:
        return torch.unflatten(key, 2, (attention.heads, -1)), torch.unflatten(
            value, 2, (attention.heads, -1)
        )

    def of_text(text: Tensor) -> _KeyValue:
        return heads(attention.norm_k(attention.to_k(text)), attention.to_v(text))

    image = None
    if attention.add_k_proj is not None:
        length = _TEXT_TOKENS if runs is None else runs.length
        seen, text = text[:, :-length], text[:, -length:]
        image = heads(attention.norm_added_k(attention.add_k_proj(seen)), attention.add_v_proj(seen))
    avoided = None if guidance is None else of_text(guidance.negative.expand(len(text), -1, -1))
    return _Context(of_text(text), image, avoided, guidance, runs)


def _parts(tokens: int, rows: int, chunk_tokens: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices of tokens, each with the rows of its modulation. Slices end where the row changes."""
    if rows == 1:
        for start in range(0, tokens, chunk_tokens):
            yield slice(start, start + chunk_tokens), slice(None)
        return
    per_row = tokens // rows
    step = max(1, chunk_tokens // per_row)
    for start in range(0, rows, step):
        end = min(start + step, rows)
        yield slice(start * per_row, end * per_row), slice(start, end)


def _rope_at(rope: Rope, here: slice) -> Rope:
    table = rope.table
    if table is not None:  # comfy-kitchen's has a batch dimension before the tokens
        table = table[:, here] if table.ndim > 3 else table[here]
    return Rope(rope.cos[here], rope.sin[here], table)


def _from_diffusers(rotary: tuple[Tensor, Tensor], operations: Operations) -> Rope:
    """Return each rotary angle once; diffusers stores it for both numbers of a pair."""
    cos, sin = rotary[0][0, :, 0, 0::2].contiguous(), rotary[1][0, :, 0, 1::2].contiguous()
    return Rope(cos, sin, operations.table(cos, sin))

"""Tensors that files have and no network uses: they are left out, and their user is told."""

from __future__ import annotations

from collections.abc import Mapping

from ..weights.stored_tensors import Source

__all__ = ["without_unused"]

_UNUSED = {
    # diffusers WanTransformer3DModel._keys_to_ignore_on_load_unexpected
    ".attn2.norm_added_q.": "which every official folder of Wan 2.1 image to video has and nothing uses; the "
    "result is the same without them",
    ".cross_attn.norm_q_img.": "which some copies of it in Wan's names have; the result is the same without "
    "them",
    # FastVideo's FastWan, https://github.com/hao-ai-lab/FastVideo: gates of its video sparse attention (VSA)
    ".to_gate_compress.": "the gates of sparse attention: this model was trained with it, and here every "
    "token attends to every other, which takes more time and may look slightly different",
}


def without_unused(tensors: Mapping[str, Source]) -> tuple[dict[str, Source], tuple[str, ...]]:
    """Return the tensors that a network may use, and a note for each group of those that none does."""
    used = {name: source for name, source in tensors.items() if not any(part in name for part in _UNUSED)}
    counts = {part: sum(part in name for name in tensors) for part in _UNUSED}
    notes = tuple(
        f"{count} tensors {part.strip('.')} are left out, {_UNUSED[part]}"
        for part, count in counts.items()
        if count
    )
    return used, notes

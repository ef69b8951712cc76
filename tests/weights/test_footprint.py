"""Whether making a tensor takes what is foretold, counted over every storage that is made on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from traffic import Traffic

from wan_duet.pipelines.weights.footprint import making_bytes
from wan_duet.pipelines.weights.lora.attach import attach_lora
from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.recipe import Recipe
from wan_duet.pipelines.weights.stored_tensors import Files, read_header

SIDE, RANK = 512, 4
NAME, MODULE = "blocks.0.attn1.to_q.weight", "transformer.blocks.0.attn1.to_q"
PAIR = {"lora_A.weight": (RANK, SIDE), "lora_B.weight": (SIDE, RANK)}
LOHA = {
    "hada_w1_a": (SIDE, RANK),
    "hada_w1_b": (RANK, SIDE),
    "hada_w2_a": (SIDE, RANK),
    "hada_w2_b": (RANK, SIDE),
}
KINDS = {
    "LoRA": PAIR,
    "DoRA": {**PAIR, "lora_magnitude_vector": (SIDE,)},
    "LoHa": LOHA,
    "DoRA of a LoHa": {**LOHA, "dora_scale": (SIDE, 1)},
    "LoKr": {"lokr_w1": (8, 8), "lokr_w2": (SIDE // 8, SIDE // 8)},
    "difference": {"diff": (SIDE, SIDE)},
}


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_making_a_changed_tensor_takes_what_is_foretold(
    tmp_path: Path, kind: str, stored: torch.dtype
) -> None:
    save_file({NAME: torch.randn(SIDE, SIDE).to(stored)}, tmp_path / "high.safetensors")
    save_file(
        {f"{MODULE}.{part}": torch.rand(shape) for part, shape in KINDS[kind].items()},
        tmp_path / "lora.safetensors",
    )
    recipe = Recipe.of({}, read_header(tmp_path / "high.safetensors"))
    assert making_bytes(recipe) == 0
    changed, _ = attach_lora(recipe, read_lora(tmp_path / "lora.safetensors"), 0.5, "high")
    with Files(torch.device("cpu")) as files, torch.inference_mode(), Traffic() as live:
        changed.tensors[NAME].compute(files)
    # Besides whole matrices there are the factors of the change, which are small.
    assert live.peak <= 1.05 * making_bytes(changed) <= 2.2 * live.peak

"""Looking through the numbers of a LoRA: damage and changes of nothing but zeros are seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.lora.values import LoraValues, read_values

Q, K = "blocks.0.attn1.to_q", "blocks.0.attn1.to_k"


def values(folder: Path, weights: dict[str, Tensor]) -> LoraValues:
    save_file(weights, folder / "a.safetensors")
    return read_values(read_lora(folder / "a.safetensors"))


def pair(module: str, *, up: float = 1.0) -> dict[str, Tensor]:
    return {
        f"{module}.lora_A.weight": torch.ones(2, 6),
        f"{module}.lora_B.weight": torch.full((6, 2), up),
    }


def test_a_trained_lora_has_nothing_to_tell(tmp_path: Path) -> None:
    found = values(tmp_path, pair(Q))
    assert (found.usable, found.lines()) == (True, [])


def test_zeros_in_every_up_matrix_make_a_lora_of_no_effect(tmp_path: Path) -> None:
    found = values(tmp_path, pair(Q, up=0.0) | pair(K, up=0.0))
    assert not found.usable
    assert "every change is zero: this LoRA has no effect" in found.lines()[0]


def test_some_changes_of_zeros_are_counted(tmp_path: Path) -> None:
    found = values(tmp_path, pair(Q, up=0.0) | pair(K))
    assert (found.usable, found.lines()) == (True, ["1 of 2 changes are zero and have no effect"])


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_named(tmp_path: Path, broken: float) -> None:
    found = values(tmp_path, pair(Q, up=broken) | pair(K))
    assert not found.usable
    assert "blocks.0.attn1.to_q.lora_B.weight contains NaN or Inf" in found.lines()[0]


@pytest.mark.parametrize(
    ("parts", "nothing"),
    [
        ({"diff": (torch.zeros(6, 6))}, True),
        ({"oft_blocks": torch.ones(2, 3, 3)}, True),  # a symmetric matrix is no rotation
        ({"oft_blocks": torch.ones(2, 3, 3), "rescale": torch.full((6, 1), 2.0)}, False),
        ({"oft_blocks": torch.arange(18.0).reshape(2, 3, 3)}, False),
        ({"lokr_w1": torch.ones(2, 2), "lokr_w2": torch.zeros(3, 3)}, True),
        (
            {
                "a1.weight": torch.ones(6, 1),
                "a2.weight": torch.zeros(1, 6),
                "b1.weight": torch.zeros(6, 1),
                "b2.weight": torch.ones(1, 6),
            },
            True,
        ),
        (
            {
                "a1.weight": torch.ones(6, 1),
                "a2.weight": torch.ones(1, 6),
                "b1.weight": torch.zeros(6, 1),
                "b2.weight": torch.ones(1, 6),
            },
            False,
        ),
    ],
)
def test_every_form_knows_when_it_changes_nothing(
    tmp_path: Path, parts: dict[str, Tensor], nothing: bool
) -> None:
    found = values(tmp_path, {f"lycoris_blocks_0_attn1_to_q.{part}": t for part, t in parts.items()})
    assert (found.without_effect == 1) == nothing

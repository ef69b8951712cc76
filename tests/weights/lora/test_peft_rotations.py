"""OFT and BOFT as PEFT writes them, against its formulas with whole matrices in float64.

The formulas here, and the product, equalled `merge_and_unload` of PEFT 0.21.2 to 1e-7 on these forms.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import LoraError
from wan_duet.pipelines.weights.lora.attach import attach_lora
from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.recipe import Recipe

from .lora_files import difference, made, stored, tiny_expert

STRENGTH = 0.6
FFN, KEY = "blocks.1.ffn.net.0.proj.weight", "base_model.model.blocks.1.ffn.net.0.proj"  # 20 x 24
INVERSE = {"peft_type": "OFT", "use_cayley_neumann": False}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return tiny_expert(tmp_path_factory.mktemp("expert"))


def adapter(folder: Path, weights: dict[str, Tensor], config: dict[str, Any] | None) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder / "adapter_model.safetensors"


def trained(recipe: Recipe, file: Path) -> tuple[np.ndarray, str]:
    """Return the trained weight that follows from what was made at STRENGTH, and the kind of the change."""
    merged, report = attach_lora(recipe, read_lora(file), STRENGTH, "high")
    before = stored(recipe)[FFN]
    return before + (made(merged)[FFN].double().numpy() - before) / STRENGTH, report.facts.kinds[0]


def skew_of(upper: np.ndarray, width: int) -> np.ndarray:
    made = np.zeros((width, width))
    made[np.triu_indices(width, 1)] = upper
    return made - made.T


def cayley(skew: np.ndarray) -> np.ndarray:
    one = np.eye(len(skew))
    return (one - skew) @ np.linalg.inv(one + skew)


def block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    width = len(blocks[0])
    made = np.zeros((width * len(blocks),) * 2)
    for index, block in enumerate(blocks):
        here = slice(index * width, (index + 1) * width)
        made[here, here] = block
    return made


@pytest.mark.parametrize("width", [2, 6])
def test_oft_rotates_the_inputs(tmp_path: Path, recipe: Recipe, width: int) -> None:
    upper = torch.randn(24 // width, width * (width - 1) // 2)
    file = adapter(tmp_path, {f"{KEY}.oft_R.weight": upper}, INVERSE)
    turned = block_diagonal([cayley(skew_of(row, width)) for row in upper.double().numpy()])
    found, kind = trained(recipe, file)
    assert difference(torch.from_numpy(found), stored(recipe)[FFN] @ turned.T) <= 1e-6
    assert kind == "OFT (PEFT)"


@pytest.mark.parametrize("terms", [1, 2, 3, 5, 8])
def test_oft_takes_the_series_of_its_configuration(tmp_path: Path, recipe: Recipe, terms: int) -> None:
    upper = torch.randn(6, 6) / 4
    config = {"peft_type": "OFT", "use_cayley_neumann": True, "num_cayley_neumann_terms": terms}
    file = adapter(tmp_path, {f"{KEY}.oft_R.weight": upper}, config)

    def series(skew: np.ndarray) -> np.ndarray:
        highest = {1: 0, 2: 1, 3: 3}.get(terms, terms - 1)
        last = 2 if terms == 2 else 1  # the last power counts once, but the only one of two terms
        factors = [1, *[2] * (highest - 1), last][: highest + 1]
        return sum(
            factor * np.linalg.matrix_power(skew, power) for power, factor in enumerate(factors)
        )  # fmt: skip

    turned = block_diagonal([series(skew_of(row, 4)) for row in upper.double().numpy()])
    found, _ = trained(recipe, file)
    assert difference(torch.from_numpy(found), stored(recipe)[FFN] @ turned.T) <= 1e-6


def test_oft_shares_a_rotation_and_limits_it(tmp_path: Path, recipe: Recipe) -> None:
    upper, eps = torch.randn(1, 15), 0.3
    config = {**INVERSE, "block_share": True, "coft": True, "eps": eps}
    file = adapter(tmp_path, {f"{KEY}.oft_R.weight": upper}, config)
    skew = skew_of(upper[0].double().numpy(), 6)
    turned = block_diagonal([cayley(skew * eps / np.linalg.norm(skew))] * 4)
    found, _ = trained(recipe, file)
    assert difference(torch.from_numpy(found), stored(recipe)[FFN] @ turned.T) <= 1e-6


def shuffle(level: int, width: int) -> np.ndarray:
    """Return the permutation matrix of a level of BOFT: of half groups, the even ones before the odd."""
    order, stretch, half = [], width * 2**level, width // 2
    for begin in range(0, 24, stretch):
        halves = [list(range(place, place + half)) for place in range(begin, begin + stretch, half)]
        order += [index for group in (*halves[::2], *halves[1::2]) for index in group]
    return np.eye(24)[order]


@pytest.mark.parametrize(("levels", "width"), [(1, 4), (2, 4), (3, 6), (3, 2)])
def test_boft_is_a_butterfly_of_the_inputs(tmp_path: Path, recipe: Recipe, levels: int, width: int) -> None:
    blocks, scale = torch.randn(levels, 24 // width, width, width), torch.rand(20, 1) + 0.5
    weights = {f"{KEY}.boft_R": blocks, f"{KEY}.boft_s": scale}
    file = adapter(tmp_path, weights, {"peft_type": "BOFT", "boft_block_size": width})
    whole = np.eye(24)
    for level, groups in enumerate(blocks.double().numpy()):
        turned = block_diagonal([cayley((group - group.T) / 2) for group in groups])
        order = shuffle(level, width)
        whole = order @ turned @ order.T @ whole
    found, kind = trained(recipe, file)
    assert difference(torch.from_numpy(found), stored(recipe)[FFN] @ whole.T * scale.double().numpy()) <= 1e-6
    assert kind == "BOFT (PEFT)"


def test_oft_without_its_configuration_is_refused(tmp_path: Path) -> None:
    file = adapter(tmp_path, {f"{KEY}.oft_R.weight": torch.randn(4, 15)}, None)
    with pytest.raises(LoraError, match=r"adapter_config\.json, which is missing"):
        read_lora(file)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"oft_R.weight": torch.randn(4, 14)}, "k, n"),
        ({"boft_R": torch.randn(1, 6, 4, 4)}, "has no boft_s"),
        ({"boft_R": torch.randn(3, 6, 4, 4), "boft_s": torch.ones(20, 1)}, "a multiple of 2"),
        ({"boft_R": torch.randn(1, 8, 3, 3), "boft_s": torch.ones(20, 1)}, "an even n"),
    ],
)
def test_a_damaged_rotation_is_refused(tmp_path: Path, weights: dict[str, Tensor], says: str) -> None:
    file = adapter(tmp_path, {f"{KEY}.{part}": tensor for part, tensor in weights.items()}, INVERSE)
    with pytest.raises(LoraError, match=says):
        read_lora(file)


def test_a_rotation_of_another_width_does_not_fit(tmp_path: Path, recipe: Recipe) -> None:
    file = adapter(tmp_path, {f"{KEY}.oft_R.weight": torch.randn(5, 10)}, INVERSE)  # 25 inputs
    with pytest.raises(LoraError, match="25 columns, the model has 20x24"):
        attach_lora(recipe, read_lora(file), 1.0, "high")


def test_rotations_of_nothing_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = {f"{KEY}.boft_R": torch.zeros(1, 6, 4, 4), f"{KEY}.boft_s": torch.ones(20, 1)}
    file = adapter(tmp_path, weights, {"peft_type": "BOFT"})
    assert main(["lora", "inspect", str(file)]) == 2
    assert "zero" in capsys.readouterr().out.lower()

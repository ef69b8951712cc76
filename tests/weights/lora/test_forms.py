"""What is no plain LoRA: differences, DoRA, LoHa, LoKr, OFT, BOFT, GLoRA, Tucker cores.

Each equals its formula in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.errors import LoraError
from wan_duet.pipelines.weights.lora.attach import attach_lora
from wan_duet.pipelines.weights.lora.coverage import LoraReport
from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.recipe import Recipe

from .lora_files import difference, made, stored, tiny_expert

STRENGTH = 0.6
Q, Q_KEY = "blocks.0.attn1.to_q.weight", "lycoris_blocks_0_self_attn_q"  # 24 x 24
FFN, FFN_KEY = "blocks.1.ffn.net.0.proj.weight", "lycoris_blocks_1_ffn_0"  # 20 x 24
PATCH, PATCH_KEY = "patch_embedding.weight", "lycoris_patch_embedding"  # 24 x 16 x 1 x 2 x 2


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return tiny_expert(tmp_path_factory.mktemp("expert"))


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape)


def f64(tensor: Tensor) -> np.ndarray:
    return tensor.double().numpy()


def attach(
    folder: Path, recipe: Recipe, weights: Mapping[str, Tensor], strength: float = STRENGTH
) -> tuple[dict[str, Tensor], LoraReport]:
    file = folder / "a.safetensors"
    save_file(dict(weights), file)
    merged, report = attach_lora(recipe, read_lora(file), strength, "high")
    return made(merged), report


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("diffusion_model.blocks.0.self_attn.q.diff", Q),
        ("diffusion_model.blocks.0.self_attn.q.diff_b", "blocks.0.attn1.to_q.bias"),
        ("diffusion_model.blocks.0.norm3.diff", "blocks.0.norm2.weight"),
        ("diffusion_model.blocks.0.norm3.diff_b", "blocks.0.norm2.bias"),
        ("diffusion_model.blocks.1.cross_attn.norm_k.diff", "blocks.1.attn2.norm_k.weight"),
        ("diffusion_model.blocks.1.diff_m", "blocks.1.scale_shift_table"),
        ("diffusion_model.head.diff_m", "scale_shift_table"),
        ("diffusion_model.head.head.diff", "proj_out.weight"),
        ("diffusion_model.head.head.diff_b", "proj_out.bias"),
        ("diffusion_model.patch_embedding.diff", PATCH),
        ("diffusion_model.patch_embedding.diff_b", "patch_embedding.bias"),
        ("diffusion_model.time_embedding.0.diff_b", "condition_embedder.time_embedder.linear_1.bias"),
        ("diffusion_model.time_projection.1.diff", "condition_embedder.time_proj.weight"),
        ("lycoris_blocks_0_norm3.w_norm", "blocks.0.norm2.weight"),
        ("lycoris_blocks_0_norm3.b_norm", "blocks.0.norm2.bias"),
    ],
)
def test_a_difference_is_added_where_it_belongs(tmp_path: Path, recipe: Recipe, key: str, name: str) -> None:
    added = randn(*recipe.tensors[name].shape)
    merged, report = attach(tmp_path, recipe, {key: added})
    before = stored(recipe)
    assert difference(merged[name], before[name] + STRENGTH * f64(added)) <= 1e-6
    assert report.coverage.tensors == 1
    assert all(difference(merged[other], before[other]) == 0 for other in before if other != name)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("diffusion_model.blocks.0.self_attn.norm_q.set_weight", "blocks.0.attn1.norm_q.weight"),
        ("diffusion_model.patch_embedding.set_weight", PATCH),
    ],
)
@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_a_whole_weight_takes_the_place_of_the_stored_one(
    tmp_path: Path, recipe: Recipe, key: str, name: str, strength: float
) -> None:
    trained, before = randn(*recipe.tensors[name].shape), stored(recipe)
    merged, report = attach(tmp_path, recipe, {key: trained}, strength)
    wanted = before[name] * (1 - strength) + strength * f64(trained)
    assert difference(merged[name], wanted) <= 1e-6
    assert (report.facts.kinds, report.coverage.share) == (("replacement",), 1.0)


def test_a_lora_bias_is_scaled_like_its_matrix(tmp_path: Path, recipe: Recipe) -> None:
    bias = randn(24)
    weights = {
        f"{Q_KEY}.lora_down.weight": randn(4, 24),
        f"{Q_KEY}.lora_up.weight": randn(24, 4),
        f"{Q_KEY}.lora_up.bias": bias,
        f"{Q_KEY}.alpha": torch.tensor(2.0),
    }
    merged, _ = attach(tmp_path, recipe, weights)
    name = "blocks.0.attn1.to_q.bias"
    assert difference(merged[name], stored(recipe)[name] + STRENGTH * 0.5 * f64(bias)) <= 1e-6


@pytest.mark.parametrize(
    ("name", "key"), [(Q, Q_KEY), (FFN, FFN_KEY), (PATCH, PATCH_KEY)], ids=["square", "wide", "convolution"]
)
@pytest.mark.parametrize("kind", ["peft", "rows", "columns"])
def test_dora_interpolates_between_the_stored_and_the_trained_weight(
    tmp_path: Path, recipe: Recipe, name: str, key: str, kind: str
) -> None:
    out, into, *kernel = recipe.tensors[name].shape
    ones = [1] * len(kernel)
    down, up = randn(3, into, *kernel), randn(out, 3, *ones)
    magnitude = torch.rand(into if kind == "columns" else out) + 0.5
    shape = {"peft": [out], "rows": [out, 1, *ones], "columns": [1, into, *ones]}[kind]
    part = "lora_magnitude_vector" if kind == "peft" else "dora_scale"
    merged, report = attach(
        tmp_path,
        recipe,
        {
            f"{key}.lora_down.weight": down,
            f"{key}.lora_up.weight": up,
            f"{key}.alpha": torch.tensor(1.5),
            f"{key}.{part}": magnitude.reshape(shape),
        },
    )
    before = stored(recipe)[name]
    whole = before + 0.5 * np.tensordot(f64(up).reshape(out, 3), f64(down), axes=(1, 0))
    spread = (1, -1) if kind == "columns" else (-1, 1)
    axes = tuple(axis for axis in range(whole.ndim) if axis != (1 if kind == "columns" else 0))
    lengths = np.sqrt((whole**2).sum(axis=axes))
    trained = whole * (f64(magnitude) / lengths).reshape(*spread, *ones)
    assert difference(merged[name], before + STRENGTH * (trained - before)) <= 1e-6
    assert report.facts.kinds == ("LoRA + DoRA",)


def test_dora_leaves_a_row_of_zeros_alone(tmp_path: Path) -> None:
    recipe = tiny_expert(tmp_path)
    base = {name: torch.from_numpy(value).float() for name, value in stored(recipe).items()}
    base[Q][5] = 0
    save_file(base, recipe.files[0])
    weights = {
        f"{Q_KEY}.lora_down.weight": randn(2, 24),
        f"{Q_KEY}.lora_up.weight": torch.zeros(24, 2),
        f"{Q_KEY}.dora_scale": torch.ones(24, 1),
    }
    merged, _ = attach(tmp_path, recipe, weights, 1.0)
    assert torch.equal(merged[Q][5], torch.zeros(24))
    assert torch.isfinite(merged[Q]).all()


@pytest.mark.parametrize("alpha", [None, 1.0])
def test_loha_is_the_product_of_two_low_rank_matrices(
    tmp_path: Path, recipe: Recipe, alpha: float | None
) -> None:
    factors = [randn(20, 4), randn(4, 24), randn(20, 4), randn(4, 24)]
    weights = dict(
        zip([f"{FFN_KEY}.hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b")], factors, strict=True)
    )
    if alpha is not None:
        weights[f"{FFN_KEY}.alpha"] = torch.tensor(alpha)
    merged, report = attach(tmp_path, recipe, weights)
    a, b, c, d = map(f64, factors)
    added = np.einsum("or,ri->oi", a, b) * np.einsum("or,ri->oi", c, d) * (1 if alpha is None else alpha / 4)
    assert difference(merged[FFN], stored(recipe)[FFN] + STRENGTH * added) <= 1e-6
    assert (report.facts.kinds, report.facts.ranks) == (("LoHa",), (4,))


def test_loha_of_a_convolution_may_have_cores(tmp_path: Path, recipe: Recipe) -> None:
    t1, t2 = randn(3, 3, 1, 2, 2), randn(3, 3, 1, 2, 2)
    w1a, w1b, w2a, w2b = randn(3, 24), randn(3, 16), randn(3, 24), randn(3, 16)
    parts = {"t1": t1, "w1_a": w1a, "w1_b": w1b, "t2": t2, "w2_a": w2a, "w2_b": w2b}
    weights = {f"{PATCH_KEY}.hada_{part}": tensor for part, tensor in parts.items()}
    merged, _ = attach(tmp_path, recipe, weights)

    def rebuilt(t: Tensor, a: Tensor, b: Tensor) -> np.ndarray:
        return np.einsum("rsxyz,ro,si->oixyz", f64(t), f64(a), f64(b))

    added = rebuilt(t1, w1a, w1b) * rebuilt(t2, w2a, w2b)
    assert difference(merged[PATCH], stored(recipe)[PATCH] + STRENGTH * added) <= 1e-6


def test_a_lora_of_a_convolution_may_have_a_core(tmp_path: Path, recipe: Recipe) -> None:
    down, mid, up = randn(3, 16, 1, 1, 1), randn(2, 3, 1, 2, 2), randn(24, 2, 1, 1, 1)
    weights = {
        f"{PATCH_KEY}.lora_{part}.weight": tensor
        for part, tensor in (("down", down), ("mid", mid), ("up", up))
    }
    merged, _ = attach(tmp_path, recipe, weights)
    added = np.einsum("or,rsxyz,si->oixyz", f64(up)[..., 0, 0, 0], f64(mid), f64(down)[..., 0, 0, 0])
    assert difference(merged[PATCH], stored(recipe)[PATCH] + STRENGTH * added) <= 1e-6


@pytest.mark.parametrize(
    ("parts", "scale"),
    [
        ({"w1": (4, 2), "w2": (5, 12)}, 1.0),  # whole: the alpha beside it is not applied
        ({"w1_a": (4, 2), "w1_b": (2, 2), "w2": (5, 12)}, 0.5),
        ({"w1": (4, 2), "w2_a": (5, 2), "w2_b": (2, 12)}, 0.5),
        ({"w1_a": (4, 2), "w1_b": (2, 2), "w2_a": (5, 2), "w2_b": (2, 12)}, 0.5),
    ],
    ids=["whole", "first factored", "second factored", "both factored"],
)
def test_lokr_is_a_kronecker_product(
    tmp_path: Path, recipe: Recipe, parts: dict[str, tuple[int, int]], scale: float
) -> None:
    tensors = {part: randn(*shape) for part, shape in parts.items()}
    weights = {f"{FFN_KEY}.lokr_{part}": tensor for part, tensor in tensors.items()}
    merged, report = attach(tmp_path, recipe, {**weights, f"{FFN_KEY}.alpha": torch.tensor(1.0)})
    first, second = (
        f64(tensors[name]) if name in tensors else f64(tensors[f"{name}_a"]) @ f64(tensors[f"{name}_b"])
        for name in ("w1", "w2")
    )
    expected = stored(recipe)[FFN] + STRENGTH * scale * np.kron(first, second)
    assert difference(merged[FFN], expected) <= 1e-6
    assert report.coverage.share == 1


@pytest.mark.parametrize("form", ["whole", "factored", "core"])
def test_lokr_of_a_convolution_keeps_the_kernel_in_the_second_factor(
    tmp_path: Path, recipe: Recipe, form: str
) -> None:
    first = randn(4, 2)
    if form == "whole":
        second = randn(6, 8, 1, 2, 2)
        parts, kernel = {"w2": second}, f64(second)
    elif form == "factored":
        a, b = randn(6, 3), randn(3, 8 * 4)
        parts, kernel = {"w2_a": a, "w2_b": b}, (f64(a) @ f64(b)).reshape(6, 8, 1, 2, 2)
    else:
        core, a, b = randn(3, 3, 1, 2, 2), randn(3, 6), randn(3, 8)
        parts = {"t2": core, "w2_a": a, "w2_b": b}
        kernel = np.einsum("rsxyz,ro,si->oixyz", f64(core), f64(a), f64(b))
    weights = {f"{PATCH_KEY}.lokr_{part}": tensor for part, tensor in {"w1": first, **parts}.items()}
    merged, _ = attach(tmp_path, recipe, weights)
    added = np.einsum("ab,cdxyz->acbdxyz", f64(first), kernel).reshape(24, 16, 1, 2, 2)
    assert difference(merged[PATCH], stored(recipe)[PATCH] + STRENGTH * added) <= 1e-6


def test_dora_of_a_loha_normalises_the_loha(tmp_path: Path, recipe: Recipe) -> None:
    factors = [randn(20, 2), randn(2, 24), randn(20, 2), randn(2, 24)]
    weights = dict(
        zip([f"{FFN_KEY}.hada_{part}" for part in ("w1_a", "w1_b", "w2_a", "w2_b")], factors, strict=True)
    )
    weights[f"{FFN_KEY}.dora_scale"] = torch.ones(20, 1)
    merged, _ = attach(tmp_path, recipe, weights, 1.0)
    assert torch.allclose(merged[FFN].norm(dim=1), torch.ones(20), atol=1e-6)


def test_half_precision_and_fp8_factors_are_read_as_the_numbers_they_are(
    tmp_path: Path, recipe: Recipe
) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float64):
        down, up = randn(2, 24).to(dtype), randn(24, 2).to(dtype)
        weights = {f"{Q_KEY}.lora_down.weight": down, f"{Q_KEY}.lora_up.weight": up}
        merged, _ = attach(tmp_path, recipe, weights)
        assert difference(merged[Q], stored(recipe)[Q] + STRENGTH * (f64(up) @ f64(down))) <= 1e-6


def test_a_damaged_factor_is_named_when_it_is_read(tmp_path: Path, recipe: Recipe) -> None:
    down = randn(2, 24)
    down[1, 3] = float("nan")
    weights = {f"{Q_KEY}.lora_down.weight": down, f"{Q_KEY}.lora_up.weight": randn(24, 2)}
    with pytest.raises(LoraError, match=r"self_attn_q\.lora_down\.weight contains NaN"):
        attach(tmp_path, recipe, weights)


def cayley(blocks: Tensor, constraint: float) -> np.ndarray:
    """LyCORIS' rotation of each matrix, in float64."""
    skew = f64(blocks) - f64(blocks).swapaxes(-1, -2)
    norm = np.sqrt((skew**2).sum())
    skew *= constraint / norm if 0 < constraint < norm else 1.0
    one = np.eye(skew.shape[-1])
    return (one + skew) @ np.linalg.inv(one - skew)


@pytest.mark.parametrize("constraint", [0.0, 0.5])
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize(("name", "key"), [(FFN, FFN_KEY), (PATCH, PATCH_KEY)], ids=["matrix", "convolution"])
def test_oft_rotates_groups_of_outputs(
    tmp_path: Path, recipe: Recipe, name: str, key: str, rescaled: bool, constraint: float
) -> None:
    before = stored(recipe)[name]
    out, groups = before.shape[0], 4
    blocks = randn(groups, out // groups, out // groups)
    weights = {f"{key}.oft_blocks": blocks, f"{key}.alpha": torch.tensor(constraint)}
    factor = np.ones(out)
    if rescaled:
        weights[f"{key}.rescale"] = torch.rand(out, *[1] * (before.ndim - 1)) + 0.5
        factor = f64(weights[f"{key}.rescale"]).reshape(-1)
    merged, report = attach(tmp_path, recipe, weights)
    rows = before.reshape(groups, out // groups, -1)
    rotated = np.einsum("knm,knc->kmc", cayley(blocks, constraint), rows).reshape(out, -1)
    trained = (factor[:, None] * rotated).reshape(before.shape)
    assert difference(merged[name], before + STRENGTH * (trained - before)) <= 1e-5
    assert (report.facts.kinds, report.coverage.share) == (("OFT",), 1.0)


def test_boft_rotates_outputs_that_stand_ever_further_apart(tmp_path: Path, recipe: Recipe) -> None:
    """Checked against the product of the sparse matrices of each level, on 24 outputs."""
    levels, groups, size = 2, 6, 4
    blocks = randn(levels, groups, size, size)
    merged, report = attach(tmp_path, recipe, {f"{Q_KEY}.oft_blocks": blocks}, 1.0)
    before = stored(recipe)[Q]
    whole = np.eye(24)
    for level, rotations in enumerate(cayley(blocks, 0.0)):
        apart = 2**level * (size // 2)
        # Output (c, g, k) of pairs g that are `apart` from each other is at (c, k, g) while it is rotated.
        order = np.arange(24).reshape(-1, 2, apart).swapaxes(1, 2).reshape(-1)
        dense = np.zeros((24, 24))
        for group in range(groups):
            rows = order[group * size : (group + 1) * size]
            dense[np.ix_(rows, rows)] = rotations[group]
        whole = dense @ whole
    assert difference(merged[Q], whole @ before) <= 1e-5
    assert np.allclose(np.linalg.norm(merged[Q].double().numpy(), axis=0), np.linalg.norm(before, axis=0))
    assert report.facts.kinds == ("BOFT",)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("name", "key"), [(Q, Q_KEY), (FFN, FFN_KEY)], ids=["square", "wide"])
def test_glora_also_multiplies_the_stored_weight(
    tmp_path: Path, recipe: Recipe, name: str, key: str, old: bool
) -> None:
    before = stored(recipe)[name]
    out, into = before.shape
    a_in, a_out, b_up, b_down = randn(into, 3), randn(3, into), randn(out, 3), randn(3, into)
    parts = [a_out, a_in, b_down, b_up] if old else [a_in, a_out, b_up, b_down]
    weights = {
        f"{key}.{part}.weight": tensor for part, tensor in zip(("a1", "a2", "b1", "b2"), parts, strict=True)
    }
    merged, report = attach(tmp_path, recipe, {**weights, f"{key}.alpha": torch.tensor(1.5)})
    added = before @ f64(a_in) @ f64(a_out) + f64(b_up) @ f64(b_down)
    assert difference(merged[name], before + STRENGTH * 0.5 * added) <= 1e-6
    assert (report.facts.kinds, report.facts.ranks) == (("GLoRA",), (3,))


def test_glora_of_a_convolution_mixes_its_input_channels(tmp_path: Path, recipe: Recipe) -> None:
    a1, a2 = randn(16, 2, 1, 1, 1), randn(2, 16, 1, 1, 1)
    b1, b2 = randn(24, 2, 1, 1, 1), randn(2, 16, 1, 2, 2)
    weights = {
        f"{PATCH_KEY}.{part}.weight": t for part, t in (("a1", a1), ("a2", a2), ("b1", b1), ("b2", b2))
    }
    merged, _ = attach(tmp_path, recipe, weights)
    before = stored(recipe)[PATCH]
    mixed = np.einsum("oixyz,ir,rj->ojxyz", before, f64(a1)[..., 0, 0, 0], f64(a2)[..., 0, 0, 0])
    added = mixed + np.einsum("or,rixyz->oixyz", f64(b1)[..., 0, 0, 0], f64(b2))
    assert difference(merged[PATCH], before + STRENGTH * added) <= 1e-6


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"oft_blocks": (4, 6, 5)}, "of shape 4x6x5; square matrices"),
        ({"oft_blocks": (2, 8, 3, 3)}, "even n"),
        ({"oft_blocks": (5, 6, 4, 4)}, "5 levels of BOFT"),
        ({"oft_blocks": (4, 6, 6), "rescale": (7, 1)}, "rescale of shape 7x1 for 24 outputs"),
        ({"a1.weight": (24, 2), "a2.weight": (2, 24), "b1.weight": (24, 2)}, "has no b2"),
        (
            {"a1.weight": (24, 2), "a2.weight": (2, 24), "b1.weight": (24, 3), "b2.weight": (3, 24)},
            "has rank 2 in .* and 3",
        ),
    ],
)
def test_parts_of_a_rotation_that_contradict_each_other_are_refused(
    tmp_path: Path, recipe: Recipe, parts: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(LoraError, match=message):
        attach(tmp_path, recipe, {f"{Q_KEY}.{part}": randn(*shape) for part, shape in parts.items()})


def test_a_rotation_of_other_outputs_does_not_fit(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(LoraError, match=r"oft_blocks has 20 rows, the model has 24x24"):
        attach(tmp_path, recipe, {f"{Q_KEY}.oft_blocks": randn(4, 5, 5)})

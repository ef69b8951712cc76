"""Products on stored numbers: the arithmetic they name, and what is tried before one is believed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantised_files import E2M1, swizzled
from torch import Tensor

from wan_duet.pipelines.kernels.block_scales import from_e2m1, in_order, in_tiles, to_e2m1
from wan_duet.pipelines.kernels.stored_products import WAYS, StoredProduct, choose_way, way_candidates
from wan_duet.pipelines.kernels.stored_products import _why_not as tried
from wan_duet.pipelines.kernels.trial import DeviceFacts

CPU, CUDA = torch.device("cpu"), torch.device("cuda:1")
ROWS = ("torch._scaled_mm by row", "torch._scaled_mm")
INT8 = ("comfy-kitchen of int8", "torch._int_mm")
MX = ("comfy-kitchen of mxfp8", "torch._scaled_mm of mxfp8")
NV = ("comfy-kitchen of nvfp4", "torch._scaled_mm of nvfp4")
# facts, and the ways of int8, fp8, mxfp8 and nvfp4
TABLE = [
    (DeviceFacts("cpu"), ("int8 on a CPU",), ("fp8 on a CPU",), ("mxfp8 on a CPU",), ("nvfp4 on a CPU",)),
    (DeviceFacts("mps"), (), (), (), ()),
    (DeviceFacts("xpu"), (), (), (), ()),
    (DeviceFacts("cuda", None, hip=True), (), (), (), ()),
    (DeviceFacts("cuda", (7, 0)), (), (), (), ()),
    (DeviceFacts("cuda", (7, 5)), INT8, (), (), ()),
    (DeviceFacts("cuda", (8, 6)), INT8, (), (), ()),
    (DeviceFacts("cuda", (8, 9)), INT8, ROWS, (), ()),
    (DeviceFacts("cuda", (9, 0)), INT8, ROWS, (), ()),
    (DeviceFacts("cuda", (10, 0)), INT8, ROWS, MX, NV),
    (DeviceFacts("cuda", (12, 0)), INT8, ROWS, MX, NV),
]
PRODUCTS: tuple[StoredProduct, ...] = ("int8", "fp8", "mxfp8", "nvfp4")


def tokens(count: int = 5, width: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, width, generator=generator) * torch.logspace(-3, 3, count)[:, None]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row[0]))
def test_what_is_tried_follows_from_the_device(row: tuple[Any, ...]) -> None:
    facts, *ways = row
    assert [way_candidates(product, facts) for product in PRODUCTS] == ways


def test_a_way_that_fails_its_trial_is_passed_over() -> None:
    facts = DeviceFacts("cuda", (9, 0))

    def why_not(name: str, device: torch.device) -> str | None:
        assert device == CUDA
        return "no scales by row" if "row" in name else None

    assert choose_way("fp8", CUDA, facts=facts, why_not=why_not) == ("torch._scaled_mm", "")
    refused = choose_way("int8", CUDA, facts=facts, why_not=lambda *_: "gives wrong results")
    wrong = "comfy-kitchen of int8: gives wrong results; torch._int_mm: gives wrong results"
    assert refused == (None, wrong)


def test_a_way_is_passed_over_where_it_does_not_take_the_shape() -> None:
    facts = DeviceFacts("cuda", (9, 0))
    found = choose_way("int8", CUDA, (48, 24), facts=facts, why_not=lambda *_: None)
    assert found == ("torch._int_mm", "")
    way, reason = choose_way("int8", CUDA, (48, 20), facts=facts, why_not=lambda *_: None)
    assert way is None
    assert reason.endswith("torch._int_mm: needs rows and columns in multiples of 8, not (48, 20)")


def test_comfy_kitchen_is_used_only_where_it_has_kernels() -> None:
    """On a CPU it is not installed or has plain torch alone, and torch's own way passes its trial there."""
    facts, refused = DeviceFacts("cuda", (9, 0)), []

    def why_not(name: str, device: torch.device) -> str | None:
        reason = tried(name, device)
        refused.append(reason)
        return reason

    assert choose_way("int8", CPU, facts=facts, why_not=why_not) == ("torch._int_mm", "")
    assert refused in (
        ["comfy-kitchen is not installed", None],
        ["comfy-kitchen has no kernel for int8_linear here", None],
    )


def test_a_device_without_a_product_says_what_it_needs() -> None:
    found = choose_way("fp8", CUDA, facts=DeviceFacts("cuda", (8, 6)))
    assert found == (None, "needs an NVIDIA GPU of compute capability 8.9 or higher")


def test_int8_is_the_exact_sum_of_rounded_tokens() -> None:
    x, generator = tokens(), torch.Generator().manual_seed(2)
    numbers = torch.randint(-127, 128, (7, 24), dtype=torch.int8, generator=generator)
    row_scale = torch.rand(7, generator=generator)
    scale = x.abs().amax(1, keepdim=True) / 127
    wanted = ((x / scale).round().double() @ numbers.double().T) * scale.double() * row_scale.double()
    found = WAYS["int8 on a CPU"].multiply(x.clone(), numbers, row_scale)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_fp8_is_the_sum_of_tokens_in_e4m3(dtype: torch.dtype) -> None:
    x, generator = tokens(), torch.Generator().manual_seed(2)
    numbers = (torch.randn(7, 24, generator=generator) * 50).to(dtype)
    row_scale = torch.rand(7, generator=generator)
    scale = x.abs().amax(1, keepdim=True) / 448
    rounded = (x / scale).to(torch.float8_e4m3fn).double()
    wanted = (rounded @ numbers.double().T) * scale.double() * row_scale.double()
    found = WAYS["fp8 on a CPU"].multiply(x.clone(), numbers, row_scale)
    assert float((found.double() - wanted).norm() / wanted.norm()) < 1e-6


@pytest.mark.parametrize("count", [1, 16, 17, 40])
def test_the_int8_way_of_a_gpu_has_the_bits_of_the_reference(count: int) -> None:
    x, generator = tokens(count), torch.Generator().manual_seed(2)
    numbers = torch.randint(-127, 128, (8, 24), dtype=torch.int8, generator=generator)
    row_scale = torch.rand(8, generator=generator)
    wanted = WAYS["int8 on a CPU"].multiply(x.clone(), numbers, row_scale)
    assert WAYS["torch._int_mm"].multiply(x, numbers, row_scale).equal(wanted)


@pytest.mark.parametrize("name", ROWS)
def test_the_fp8_ways_of_a_gpu_mean_what_the_reference_means(name: str) -> None:
    """torch has `_scaled_mm` on a CPU too, so its arguments can be tried here; results may be in bfloat16."""
    x, generator = tokens(20, 32), torch.Generator().manual_seed(2)
    numbers = (torch.randn(16, 32, generator=generator) * 50).to(torch.float8_e4m3fn)
    row_scale = torch.rand(16, generator=generator)
    wanted = WAYS["fp8 on a CPU"].multiply(x.clone(), numbers, row_scale)
    found = WAYS[name].multiply(x, numbers, row_scale)
    assert float((found.float() - wanted).norm() / wanted.norm()) < 0.004


def test_mxfp8_gives_32_numbers_of_a_token_a_power_of_two() -> None:
    x, generator = tokens(5, 64), torch.Generator().manual_seed(2)
    x[1, 32:] = 0
    x[2] = 0
    x[2, 0], x[2, 1] = 448, 2**-9  # the largest and the least of e4m3: only the scale 1 holds both
    weight = torch.randn(8, 64, generator=generator)
    weight[:, 0] = 0
    numbers = weight.to(torch.float8_e4m3fn)
    exponents = torch.randint(-20, 20, (8, 2), generator=generator)
    blocks = x.reshape(5, 2, 32)
    largest = blocks.abs().amax(2, keepdim=True).double().clamp(min=2.0**-126)
    scale = 2.0 ** (largest / 448).log2().ceil().clamp(min=-126)
    rounded = (blocks / scale).float().to(torch.float8_e4m3fn).double() * scale
    right = numbers.double().reshape(8, 2, 32) * 2.0 ** exponents[..., None].double()
    wanted = rounded.reshape(5, 64) @ right.reshape(8, 64).T
    tiles = swizzled((exponents + 127).to(torch.uint8)).flatten()
    found = WAYS["mxfp8 on a CPU"].multiply(x, numbers, tiles)
    torch.testing.assert_close(found[2].double(), wanted[2], rtol=1e-6, atol=0)
    assert float((found.double() - wanted).norm() / wanted.norm()) < 1e-6


def test_nvfp4_gives_16_numbers_of_a_token_a_scale_and_the_token_one_more() -> None:
    x, generator = tokens(5, 32), torch.Generator().manual_seed(2)
    x[1, 16:] = 0
    values = torch.tensor(E2M1)
    codes = torch.randint(0, 16, (8, 32), dtype=torch.uint8, generator=generator)
    right_scale = (torch.rand(8, 2, generator=generator) * 100).to(torch.float8_e4m3fn)
    of_token = x.abs().amax(1, keepdim=True) / (448 * 6)
    blocks = (x / of_token).reshape(5, 2, 16)
    scale = (blocks.abs().amax(2, keepdim=True) / 6).to(torch.float8_e4m3fn).float()
    nearest = (blocks[..., None] - values * scale[..., None]).abs().argmin(3)
    left = (values[nearest] * scale).reshape(5, 32).double() * of_token.double()
    right = (values[codes.int()].reshape(8, 2, 16) * right_scale.float()[..., None]).reshape(8, 32).double()
    wanted = left @ right.T * 0.5
    tiles = swizzled(right_scale.view(torch.uint8)).flatten()
    packed = (codes[:, 0::2] << 4) | codes[:, 1::2]
    found = WAYS["nvfp4 on a CPU"].multiply(x, packed, tiles, torch.tensor(0.5))
    assert float((found.double() - wanted).norm() / wanted.norm()) < 1e-6


def test_e2m1_rounds_ties_to_the_even_mantissa() -> None:
    numbers = torch.tensor([[0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 9.0, -0.75, -0.3]])
    assert from_e2m1(to_e2m1(numbers)).tolist() == [[0, 1, 1, 2, 2, 4, 4, 6, -1, -0.5]]


@given(st.integers(1, 300), st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_tiles_hold_every_scale_where_matrix_units_look(rows: int, columns: int) -> None:
    scales = torch.arange(rows * columns).reshape(rows, columns) % 251
    tiles = in_tiles(scales)
    assert tiles.equal(swizzled(scales).flatten())
    assert in_order(tiles, rows, columns).equal(scales)


@pytest.mark.parametrize("name", ["int8 on a CPU", "fp8 on a CPU"])
def test_a_token_of_zeros_stays_zero_and_a_broken_one_shows(name: str) -> None:
    x = tokens(4)
    x[0], x[1, 3], x[2, 5] = 0, float("nan"), float("inf")
    dtype = torch.int8 if name.startswith("int8") else torch.float8_e4m3fn
    found = WAYS[name].multiply(x, torch.ones(7, 24).to(dtype), torch.ones(7))
    assert found[0].eq(0).all()
    assert found[3].isfinite().all()
    assert found[1].isnan().all()
    assert not found[2].isfinite().any()

"""Attention in two parts, with a kernel that computes in float64: what cuDNN's does needs a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wan_duet.pipelines.kernels.attention import in_two_parts

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 4e-3}


def kernel(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    scores = query.double() @ key.double().transpose(-1, -2) * query.shape[-1] ** -0.5
    return (scores.softmax(-1) @ value.double()).to(query.dtype), scores.logsumexp(-1, keepdim=True).float()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("keys", [129, 200, 383])
@pytest.mark.parametrize("shift", [-40.0, 0.0, 40.0])  # of the second part's scores: nothing or all is there
def test_two_parts_are_the_whole(keys: int, shift: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(keys)
    query, key, value = (torch.randn(1, 3, n, 16, generator=generator) * 3 for n in (50, keys, keys))
    query[..., 0], key[..., keys // 128 * 128 :, 0] = 4.0, shift
    query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    whole, parted = kernel(query, key, value)[0].double(), in_two_parts(kernel, query, key, value).double()
    assert (parted - whole).norm() <= TOLERANCE[dtype] * whole.norm()

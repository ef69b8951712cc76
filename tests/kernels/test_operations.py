"""What plain torch computes on which device, and where triton launches.

Meta tensors stand for a GPU: they show which operators are called, and with what.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wan_duet.pipelines.kernels.fused import _on
from wan_duet.pipelines.kernels.operations import gelu_linear, plain_operations

WIDTH = 8


class Calls(TorchDispatchMode):
    """Keeps the arguments of the last call of every operator, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments: dict[str, tuple[Any, ...]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.arguments[func._schema.name.removeprefix("aten::")] = args
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("device", "dtype", "at_once"),
    [
        ("cpu", torch.bfloat16, True),
        ("cpu", torch.float32, True),
        ("meta", torch.bfloat16, False),
        ("meta", torch.float32, True),
    ],
)
def test_only_a_cpu_norms_half_precision_with_float32_weights_at_once(
    device: str, dtype: torch.dtype, at_once: bool
) -> None:
    hidden, row = torch.ones(1, 4, WIDTH, dtype=dtype, device=device), torch.ones(1, 1, WIDTH, device=device)
    with Calls() as calls:
        plain_operations().norm(hidden, row, row, 1e-6)
    weight = calls.arguments["native_layer_norm"][2]
    assert (weight is not None) == at_once


@pytest.mark.parametrize(("device", "in_one_kernel"), [("cpu", False), ("meta", True)])
def test_a_gpu_applies_gelu_within_the_product(device: str, in_one_kernel: bool) -> None:
    hidden, weight = (torch.ones(rows, WIDTH, dtype=torch.bfloat16, device=device) for rows in (4, 6))
    with Calls() as calls:
        made = gelu_linear(hidden, weight, weight[:, 0])
    assert ("_addmm_activation" in calls.arguments) == in_one_kernel
    assert made.shape == (4, 6)


@pytest.mark.parametrize("index", [0, 1])
def test_triton_launches_on_the_gpu_of_the_tensor(index: int) -> None:
    chosen = _on(SimpleNamespace(device=torch.device("cuda", index)))
    assert isinstance(chosen, torch.cuda.device)
    assert chosen.idx == index


def test_without_a_gpu_no_gpu_is_chosen() -> None:
    assert isinstance(_on(torch.empty(0)), nullcontext)

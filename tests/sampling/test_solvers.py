"""What a solver asks of the device that the latents are on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wan_duet.pipelines.sampling.solvers import SOLVERS, new_solver

SIGMAS = (1.0, 0.9, 0.7, 0.4, 0.2, 0.0)


class OnDevice(TorchDispatchMode):
    """Names what is computed on a device other than the CPU, and what goes from it to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        made = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor)]
        if any(not tensor.is_cpu for tensor in tensors):
            self.computed.add(func.overloadpacket.__name__)
        return made


@pytest.mark.parametrize("name", SOLVERS)
def test_a_device_is_asked_for_sums_and_products_alone(name: str) -> None:
    """Neither for a linear solver, which MPS lacks before torch 2.7, nor for a number the CPU waits for."""
    solver = new_solver(name, SIGMAS)
    latents = torch.zeros(1, 2, 3, device="meta")
    with OnDevice() as device:
        for index in range(len(SIGMAS) - 1):
            latents = solver.step(index, latents, torch.zeros_like(latents))
    assert device.computed <= {"mul", "add", "sub", "div", "rsub", "zeros_like"}

"""Where ranks meet, over what they exchange, and what part of the cores each of them has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import distributed

from wan_duet.pipelines.parallel import gpu_world
from wan_duet.pipelines.parallel.gpu_world import join_world, share_cores


@pytest.mark.parametrize(
    ("devices", "nccl", "backend", "staged", "chosen"),
    [
        (("cuda:0", "cuda:1"), True, "nccl", False, ["cuda:1"]),
        (("cuda:0", "cuda:1"), False, "gloo", True, ["cuda:1"]),
        (("xpu:0", "xpu:1"), True, "gloo", True, []),
        (("cpu", "cpu"), True, "gloo", False, []),
    ],
)
def test_gpus_of_cuda_exchange_over_nccl_and_all_others_over_gloo(
    devices: tuple[str, ...],
    nccl: bool,
    backend: str,
    staged: bool,
    chosen: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """staged: tensors travel through main memory, which is all that gloo sends."""
    joined: list[tuple[str, dict[str, Any]]] = []
    set_devices: list[str] = []
    monkeypatch.setattr(distributed, "is_nccl_available", lambda: nccl)
    monkeypatch.setattr(distributed, "init_process_group", lambda name, **more: joined.append((name, more)))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: set_devices.append(str(device)))
    monkeypatch.setattr(gpu_world, "GpuWorld", lambda rank, where, staged: (rank, where, staged))
    assert join_world(1, devices, None) == (1, devices, staged)
    ((name, more),) = joined
    assert (name, more["rank"], more["world_size"], set_devices) == (backend, 1, 2, chosen)
    assert 3600 < more["timeout"].total_seconds() < 6 * 3600  # longer than a long video is decoded


@pytest.mark.parametrize(("devices", "threads"), [(["cpu"] * 3, [2]), (["cpu"] * 16, [1]), (["cuda:0"], [])])
def test_ranks_on_the_cpu_share_its_cores(
    devices: list[str], threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    share_cores(devices)
    assert chosen == threads

"""The energy of a GPU, from a counter that is not there."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from wan_duet.pipelines.device.energy import joules_used

CUDA = torch.device("cuda", 1)


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption={"GPU-of-1": 12_500}.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    properties = lambda device: SimpleNamespace(uuid=f"of-{device.index}")  # noqa: E731
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    return made


@pytest.mark.usefixtures("nvml")
def test_joules_are_of_the_device_that_is_asked_for() -> None:
    assert joules_used(CUDA) == 12.5


@pytest.mark.usefixtures("nvml")
def test_another_device_is_not_asked() -> None:
    assert joules_used(torch.device("cpu")) is None


def test_a_gpu_that_does_not_count_says_nothing(nvml: SimpleNamespace) -> None:
    def refuse(handle: str) -> int:
        raise NVMLError(handle)

    nvml.nvmlDeviceGetTotalEnergyConsumption = refuse
    assert joules_used(CUDA) is None


@pytest.mark.usefixtures("nvml")
def test_without_its_package_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert joules_used(CUDA) is None

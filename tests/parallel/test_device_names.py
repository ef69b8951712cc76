"""Devices that share a video are numbers of GPUs, or names of one type."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.parallel.device_names import devices_of, require_devices


def test_devices_are_numbers_or_names() -> None:
    assert devices_of("0,1, 3") == ("cuda:0", "cuda:1", "cuda:3")
    assert devices_of("cpu,cpu") == ("cpu", "cpu")


@pytest.mark.parametrize("text", ["", "0,0", "0,cpu", "cuda:0;1", "-1"])
def test_other_texts_are_refused_with_what_would_work(text: str) -> None:
    with pytest.raises(RequestError, match=r"gpus: .*write 0,1 or cpu,cpu"):
        devices_of(text)


@pytest.mark.parametrize(
    ("count", "devices", "said"),
    [
        (2, ("cuda:0", "cuda:1"), None),
        (0, ("cpu", "cpu"), None),
        (2, ("cuda:0", "cuda:2"), "cuda:2 is not on this machine.*the numbers of its GPUs are 0 to 1"),
        (0, ("cuda:0", "cuda:1"), "cuda:0 is not on this machine.*it has none that torch can use"),
    ],
)
def test_a_gpu_that_is_not_there_is_named(
    count: int, devices: tuple[str, ...], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with nullcontext() if said is None else pytest.raises(RequestError, match=said):
        require_devices(devices)

"""Devices that share a video are numbers of GPUs, or names of one type."""

from __future__ import annotations

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.parallel.device_names import devices_of


def test_devices_are_numbers_or_names() -> None:
    assert devices_of("0,1, 3") == ("cuda:0", "cuda:1", "cuda:3")
    assert devices_of("cpu,cpu") == ("cpu", "cpu")


@pytest.mark.parametrize("text", ["", "0,0", "0,cpu", "cuda:0;1", "-1"])
def test_other_texts_are_refused_with_what_would_work(text: str) -> None:
    with pytest.raises(RequestError, match=r"gpus: .*write 0,1 or cpu,cpu"):
        devices_of(text)

"""A ring of chunks to a device that copies as late as it may."""

from __future__ import annotations

import pytest
import torch
from fake_streams import FakeStreams

from wan_duet.pipelines.weights.pinned_staging import Staging
from wan_duet.pipelines.weights.streams import CudaStreams, streams_of


def test_a_chunk_waits_for_its_copy_before_it_is_filled_again() -> None:
    streams, sent = FakeStreams(), torch.arange(250, dtype=torch.uint8)
    staging, arrived = Staging(64, 2, streams=streams), torch.zeros(250, dtype=torch.uint8)
    staging.send(sent, arrived)
    assert not torch.equal(arrived, sent)  # its end is still on the way
    streams.current().synchronize()
    assert torch.equal(arrived, sent)


@pytest.mark.parametrize("kind", ["cpu", "meta", "mps", "xpu", "privateuseone", "cuda"])
def test_only_cuda_has_streams_that_let_a_second_thread_fill(kind: str) -> None:
    assert (type(streams_of(torch.device(kind))) is CudaStreams) is (kind == "cuda")

"""The page about devices is written from the rules."""

from __future__ import annotations

import pytest
import torch

from tools.device_table import MEMORY
from wan_duet.pipelines.device.memory import bytes_free
from wan_duet.pipelines.device.precision import RULES


@pytest.mark.parametrize("kind", sorted({rule.example.kind for rule in RULES} - set(MEMORY)))
def test_where_the_page_says_unknown_nobody_answers(kind: str) -> None:
    assert bytes_free(torch.device(kind)) is None

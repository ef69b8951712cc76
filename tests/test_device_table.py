"""The page about devices is written from the rules."""

from __future__ import annotations

import pytest
import torch

from tools.device_table import MEMORY
from wan_duet.pipelines.device.memory import bytes_free
from wan_duet.pipelines.device.precision import RULES, Rule


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.device)
def test_a_rule_decides_for_its_own_example(rule: Rule) -> None:
    assert next(first for first in RULES if first.applies(rule.example)) is rule


@pytest.mark.parametrize("kind", sorted({rule.example.kind for rule in RULES} - set(MEMORY)))
def test_where_the_page_says_unknown_nobody_answers(kind: str) -> None:
    assert bytes_free(torch.device(kind)) is None

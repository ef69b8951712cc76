"""What `bench --submit-file` measures and writes, on a device without numbers."""

from __future__ import annotations

import getpass
import itertools
import json
import socket
from pathlib import Path

import pytest
import torch

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.networks import card_record
from wan_duet.pipelines.networks.block_time import BlockTime, measure_block
from wan_duet.pipelines.plan.expectation import Rates

RATES = Rates("card", "bfloat16", 2, 1e12, 5e11, 1e11, "plain", "2026-11-30", watts=300.0)
TOKENS, WIDTH, FFN, TEXT = 1024, 1536, 8960, 512


def test_a_block_is_measured_alone_and_expected_from_its_own_work() -> None:
    looks = itertools.count()
    found = measure_block(RATES, torch.device("meta"), torch.bfloat16, lambda: 2.0 * next(looks))
    products = (12 * WIDTH**2 + 4 * WIDTH * FFN) * TOKENS + 4 * WIDTH**2 * TEXT
    attention = 4 * WIDTH * TOKENS * (TOKENS + TEXT)
    moved = 44 * TOKENS * WIDTH * 2
    assert (found.family, found.tokens, found.seconds) == ("wan2.1-t2v-1.3b", TOKENS, 2.0)
    assert found.expected_s == pytest.approx(products / 1e12 + attention / 5e11 + moved / 1e11)


def test_the_file_has_the_rates_and_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = BlockTime("wan2.1-t2v-1.3b", TOKENS, 0.5, 0.48)
    monkeypatch.setattr(card_record, "measure_block", lambda *_: block)
    file = tmp_path / "card.json"
    card_record.write_card(file, RATES, DeviceMemory("cpu"))
    text = file.read_text(encoding="utf-8")
    written = json.loads(text)
    assert written["rates"]["watts"] == 300.0
    assert written["block"] == {"family": block.family, "tokens": TOKENS, "seconds": 0.5, "expected_s": 0.48}
    assert (written["kernels"], written["capability"], written["format"]) == ("plain", None, 1)
    for private in (getpass.getuser(), socket.gethostname(), str(Path.home()), str(tmp_path)):
        assert private not in text

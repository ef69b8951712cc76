"""The embedded model at its smallest, and short runs on it with the values `FEW` of a test's module."""

from __future__ import annotations

from pathlib import Path

import pytest
from smaller import smaller

from wan_duet.pipelines.loading.wan_model import WanModel, load_model

from .toy_runs import Make, maker


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return smaller(load_model("toy"))


@pytest.fixture
def make(toy: WanModel, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    return maker(toy, tmp_path, request.module.FEW)

"""Which slots of a fleet take the rows of a batch: those that would make what this machine would."""

from __future__ import annotations

from typing import Any

import pytest

from wan_duet.pipelines.errors import ModelError, PackageError, RequestError
from wan_duet.pipelines.fleet import cluster_access
from wan_duet.pipelines.fleet.cluster_access import versions
from wan_duet.pipelines.fleet.fleet_slots import fitting_slots

HERE = {"files": {"high.safetensors": "sha256:1", "vae.safetensors": "sha256:2"}, "precision": "bf16"}


@pytest.fixture(autouse=True)
def _ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_access.importlib.metadata, "version", lambda _: "2.60.0")


def slot(**changed: Any) -> dict[str, Any]:
    found = {"ray": changed.pop("ray")} if "ray" in changed else {}
    return {"host": "gpu-1", "settings": {**HERE, **changed}, "versions": {**versions(), **found}}


def test_only_slots_that_fit_are_taken() -> None:
    found = {"a": slot(), "b": slot(precision="fp32"), "c": slot()}
    assert fitting_slots(found, HERE) == ["a", "c"]


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"precision": "fp32"}, ModelError, "precision fp32 there, bf16 here"),
        ({"files": {"other": "sha256:1"}}, ModelError, "not there: vae.safetensors"),
        ({"ray": "2.55.0"}, PackageError, "ray 2.55.0 there and 2.60.0 here"),
    ],
)
def test_a_fleet_that_does_not_fit_says_why(changed: dict[str, Any], error: type, said: str) -> None:
    with pytest.raises(error, match=f"a on gpu-1: .*{said}"):
        fitting_slots({"a": slot(**changed)}, HERE)


def test_a_fleet_without_workers_says_what_to_start() -> None:
    with pytest.raises(RequestError, match="workers start"):
        fitting_slots({}, HERE)

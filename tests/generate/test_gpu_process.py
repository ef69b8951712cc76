"""A run on several devices in a process of its own: the result of one, and nothing left after a stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import torch

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.generate import gpu_process
from wan_duet.pipelines.generate.gpu_process import run_on_gpus
from wan_duet.pipelines.generate.local_worker import LocalWorker
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import GpusOfModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.request.report import silent
from wan_duet.pipelines.weights.lora.find import LoraSources

TWO = GpusOfModel(("cpu", "cpu"), {"source": "toy", "preferences": {}})
PICTURE = {"prompt": "a red ball", "num_inference_steps": 2, "seed": 3}


class StopPressedError(Exception):
    pass


@dataclass
class Watched(Silent):
    """What the process says. stops: the user stops the run at its first step."""

    stops: bool = False
    stages: list[str] = field(default_factory=list)

    def begin(self, stage: str, total: int, unit: str) -> None:
        self.stages.append(f"{stage}: {total} {unit}")

    def check(self) -> None:
        if self.stops and self.stages:
            raise StopPressedError


def worker(progress: Silent | None = None) -> LocalWorker:
    return LocalWorker(
        load_model("toy"),
        DeviceMemory("cpu"),
        progress or Silent(),
        silent,
        LoraSources(None, embedded_loras()),
        Interpolators(),
    )


def run(one: LocalWorker, file: Path, gpus: GpusOfModel = TWO, **fields: Any) -> Any:
    request = parse("text-to-image", {**PICTURE, **fields})
    return run_on_gpus(one, request, lambda _: file, gpus=gpus)


def children() -> Sequence[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_the_picture_of_one_device_with_the_loras_of_the_model(tmp_path: Path) -> None:
    watched, (lora, *_) = Watched(), embedded_loras().values()
    model = load_model("toy").with_lora(lora, 0.5, "both")
    one = replace(worker(watched), model=model)
    shared = run(one, tmp_path / "two.png")
    alone = one.run(parse("text-to-image", PICTURE), tmp_path / "one.png")
    assert shared.receipt["gpus"]["devices"] == ["cpu", "cpu"]
    assert [lora["strength"] for lora in shared.receipt["model"]["loras"]] == [0.5, 0.5]
    assert (shared.images - alone.images).abs().max() <= 1 / 255 + torch.finfo(torch.float32).eps
    assert "sampling: 2 steps" in watched.stages
    assert shared.path.with_suffix(".json").is_file()


def test_a_stop_ends_every_process_and_leaves_no_file(tmp_path: Path) -> None:
    before = {one.pid for one in children()}
    with pytest.raises(StopPressedError):
        run(worker(Watched(stops=True)), tmp_path / "a.png", num_inference_steps=40)
    assert not {one.pid for one in children()} - before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "options", "fault"),
    [
        ({"acceleration": "as requested"}, {}, "acceleration: "),
        ({}, {"local": {"step_cache": "easycache"}}, "local.step_cache: ranks would skip different blocks"),
        ({"interpolators": Interpolators(loaded={"film": object()})}, {}, "interp_model: "),  # type: ignore[dict-item]
        ({}, {"return_images": True}, "return_images: "),
        ({}, {"gpus": replace(TWO, devices=("cuda:97", "cuda:98"))}, "gpus: cuda:97 is not on this machine"),
        ({}, {"gpus": replace(TWO, devices=("cpu",) * 7)}, "gpus: .*as one of 1, 2"),
    ],
)
def test_what_several_devices_cannot_do_is_refused_before_a_process_starts(
    tmp_path: Path, changed: dict[str, Any], options: dict[str, Any], fault: str
) -> None:
    given = {"prompt": "a red ball", "num_frames": 5, "interpolator_model": "none"}
    request = parse("text-to-video", {**given, "local": options.pop("local", None)})
    with pytest.raises(RequestError, match=fault):
        run_on_gpus(
            replace(worker(), **changed), request, lambda _: tmp_path / "a.mp4", **{"gpus": TWO, **options}
        )


@pytest.mark.parametrize(("device", "asked"), [("cuda", [7, "released"]), ("cpu", [])])
def test_the_host_frees_its_gpu_for_the_ranks(device: str, asked: list[object]) -> None:
    done: list[object] = []
    memory = SimpleNamespace(
        device=torch.device(device),
        total_bytes=lambda: 7,
        reserve=lambda size, _: done.append(size),
        release=lambda: done.append("released"),
    )
    gpu_process._make_room(cast(LocalWorker, SimpleNamespace(memory=memory)))
    assert done == asked


def test_ranks_that_end_may_wait_for_each_other_twice() -> None:
    assert 2 * 20 < gpu_process._END_S <= 120  # seconds; 20 each in `run_ranks`

"""Container, codec, bit depth and cuts of a run on the embedded model, read back with PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.generate.kept_latents import KeptLatents
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.planned_video import edit_of_plan
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.generate.verification import verify_quickly
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.plan import Plan, make_plan
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import check, t2v_request
from wan_duet.pipelines.request.result_formats import SCENE_THRESHOLD
from wan_duet.pipelines.video.output import sidecar

FEW = {
    "prompt": "a ball moving right", "num_frames": 9, "num_inference_steps": 2, "seed": 7,
    "aspect_ratio": "1:1", "interpolator_model": "none", "guidance_scale": 1.0, "guidance_scale_2": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return load_model("toy")


def made(toy: WanModel, out: Path, local: dict[str, Any] | None = None, **options: Any) -> Result:
    request = t2v_request(**FEW, local=local)
    return run(request, toy, out=out, memory=DeviceMemory("cpu"), progress=Silent(), **options)


def stored(file: Path) -> tuple[str, str]:
    with av.open(str(file)) as opened:
        stream = opened.streams.video[0]
        assert sum(1 for _ in opened.decode(stream)) == 9
        return stream.codec_context.name, str(stream.codec_context.pix_fmt)


@pytest.mark.parametrize(
    ("local", "name", "codec", "pix_fmt"),
    [
        ({"codec": "h265", "bit_depth": 10}, "a.mp4", "hevc", "yuv420p10le"),
        ({"container": "mov"}, "a.mov", "prores", "yuv422p10le"),
    ],
)
def test_the_file_is_as_asked_and_its_receipt_repeats_and_verifies_it(
    toy: WanModel, tmp_path: Path, local: dict[str, Any], name: str, codec: str, pix_fmt: str
) -> None:
    result = made(toy, tmp_path / name, local)
    assert stored(result.path) == (codec, pix_fmt)
    assert "video" in result.answer()
    assert verify_quickly(result.path).verdict == "same bits"
    recorded = read_receipt(sidecar(result.path))
    out = tmp_path / f"again-{name}"
    repeat(recorded, toy, out=out, memory=DeviceMemory("cpu"), progress=Silent())
    assert stored(out) == (codec, pix_fmt)
    assert read_receipt(sidecar(out)).plan == recorded.plan


def test_a_run_that_differs_in_the_file_alone_only_decodes_and_encodes(toy: WanModel, tmp_path: Path) -> None:
    kept = KeptLatents(tmp_path / "kept")
    made(toy, tmp_path / "a.mp4", kept=kept)
    again = made(toy, tmp_path / "b.mp4", {"codec": "av1"}, kept=kept)
    assert again.receipt["latents_reused"]
    assert stored(again.path)[0] in ("av1", "libdav1d")


def test_the_suffix_must_be_that_of_the_container(toy: WanModel, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"give a name that ends in \.mov"):
        made(toy, tmp_path / "a.mp4", {"container": "mov"})


def test_cuts_are_looked_for_as_asked(toy: WanModel) -> None:
    def threshold(local: dict[str, Any]) -> float:
        request = t2v_request(**{**FEW, "interpolator_model": "film"}, local=local)
        plan = make_plan(check(request, family=toy.family).require(), toy.family, 0)
        return edit_of_plan(Plan.from_dict(plan.as_dict())).scene_threshold

    assert threshold({"scene_threshold": 0.75}) == 0.75
    assert threshold({}) == SCENE_THRESHOLD

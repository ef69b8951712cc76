"""Latents to a file: nothing is lost when it fails, and memory that runs out is not the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import MediaError, ModelError
from wan_duet.pipelines.generate.render import Rendered, render, tiling_note
from wan_duet.pipelines.interpolation.optical_flow import FlowInterpolator
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.vae.tiles import Tiling
from wan_duet.pipelines.video.edit import Edit
from wan_duet.pipelines.video.latent_file import read_latents
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames

EDIT = Edit(Fraction(16), write_mode="fast")


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return load_model("toy")


def some_latents(width: int = 64, height: int = 32, frames: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 16, frames, height // 8, width // 8, generator=generator)


def make(model: WanModel, out: Path, **changes: Any) -> Rendered:
    values: dict[str, Any] = {
        "latents": some_latents(),
        "edit": EDIT,
        "memory": DeviceMemory("cpu"),
        "progress": Silent(),
        **changes,
    }
    return render(model, values.pop("latents"), out, **values)


@dataclass(eq=False)
class Tight(DeviceMemory):
    """A device on which the VAE does not fit the first `failures` times, and says so with `error`."""

    failures: int
    error: Exception = field(default_factory=MemoryError)
    reserved: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__("cpu")

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        self.reserved.append(what)
        if len(self.reserved) <= self.failures:
            raise self.error


def test_the_file_has_what_was_decoded_and_nothing_else_is_left(toy: WanModel, tmp_path: Path) -> None:
    made = make(toy, tmp_path / "a.mkv", keep_frames=True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mkv"]
    back = list(read_frames(tmp_path / "a.mkv"))
    assert len(back) == len(made.frames) == 5
    assert all(np.array_equal(a, b) for a, b in zip(back, made.frames, strict=True))


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv", "webp"])
def test_every_container_can_be_rendered(toy: WanModel, tmp_path: Path, suffix: str) -> None:
    made = make(toy, tmp_path / f"a.{suffix}", frames=3)
    assert probe(made.facts.path).frames == 3


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv"])
@pytest.mark.parametrize("between", [1, 4])
def test_a_rate_of_television_can_be_rendered(
    toy: WanModel, tmp_path: Path, suffix: str, between: int
) -> None:
    """Matroska does not keep 30000/1001 times two to the last digit, which is no fault of the file."""
    edit = replace(EDIT, fps=Fraction(30000, 1001), interpolator="flow", num_interpolated_frames=between)
    made = make(toy, tmp_path / f"a.{suffix}", edit=edit, interpolator=FlowInterpolator())
    assert (made.facts.frames, made.facts.fps) == (5 + 4 * between, edit.fps * (between + 1))


def test_more_frames_per_second_than_screens_show_are_made_and_remarked_on(
    toy: WanModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit = replace(EDIT, fps=Fraction(60), interpolator="flow", num_interpolated_frames=2)
    made = make(toy, tmp_path / "a.mp4", edit=edit, interpolator=FlowInterpolator())
    assert made.facts.fps == 180
    assert "a.mp4: 180 frames per second are more than most screens show" in caplog.text


def test_a_reversed_clip_is_the_same_backwards(toy: WanModel, tmp_path: Path) -> None:
    forward = make(toy, tmp_path / "a.mkv", keep_frames=True).frames
    edit = Edit(Fraction(16), reverse=True, write_mode="fast")
    backward = make(toy, tmp_path / "b.mkv", keep_frames=True, edit=edit).frames
    assert all(np.array_equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def test_out_of_memory_starts_again_in_tiles_and_says_so(
    toy: WanModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Tiling | None] = []

    def tags(tiling: Tiling | None) -> dict[str, str]:
        told.append(tiling)
        return {"wan_duet": tiling_note(tiling)}

    memory = Tight(failures=1)
    made = make(toy, tmp_path / "a.mp4", latents=some_latents(144, 32, frames=1), memory=memory, tags=tags)
    assert made.tiling == Tiling(128, 96)
    assert made.facts.frames == 1
    assert "out of memory while decoding 144x32, whole; trying again" in caplog.text
    assert probe(tmp_path / "a.mp4").tags["wan_duet"] == "in tiles of 128 pixels every 96"


def of_the_cpu() -> Exception:
    """What torch really raises when main memory does not do."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("Allocation on device 0"),  # the words of cudaMallocAsync name no memory
        of_the_cpu(),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.85 GB, max allowed: 18.13 GB)"),
    ],
    ids=["Python", "CUDA", "CPU", "MPS"],
)
def test_every_device_s_way_to_say_that_memory_ran_out_leads_to_smaller_tiles(
    toy: WanModel, tmp_path: Path, error: Exception
) -> None:
    memory = Tight(1, error)
    made = make(toy, tmp_path / "a.mp4", latents=some_latents(144, 32, frames=1), memory=memory)
    assert made.tiling == Tiling(128, 96)


def test_what_is_no_lack_of_memory_is_not_tried_again(toy: WanModel, tmp_path: Path) -> None:
    memory = Tight(1, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        make(toy, tmp_path / "a.mp4", latents=some_latents(144, 32, frames=1), memory=memory)
    assert memory.reserved == ["VAE"]


def test_out_of_memory_with_the_smallest_tiles_is_an_error_and_keeps_the_latents(
    toy: WanModel, tmp_path: Path
) -> None:
    memory, latents = Tight(failures=9), some_latents(144, 32, frames=1)
    with pytest.raises(ModelError, match=r"out of memory .* tiles of 128 .* kept in .*a\.mp4\.latent"):
        make(toy, tmp_path / "a.mp4", latents=latents, memory=memory)
    assert memory.reserved == ["VAE", "VAE"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4.latent"]


def test_a_failure_keeps_the_latents_and_what_was_to_be_made_of_them(toy: WanModel, tmp_path: Path) -> None:
    edit = Edit(Fraction(24), reverse=True, quality="best")
    tags = {"prompt": "{}"}
    with pytest.raises(MediaError, match=r"'best' is unknown.*kept in .*a\.mp4\.latent"):
        make(toy, tmp_path / "a.mp4", edit=edit, frames=3, tags=lambda _: tags)
    kept = read_latents(tmp_path / "a.mp4.latent")
    assert torch.equal(kept.latents, some_latents())
    assert (kept.edit, kept.frames, kept.tags) == (edit, 3, tags)


def test_latents_of_an_earlier_failure_are_not_written_over(toy: WanModel, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"kept in .*a\.mp4\.latent"):
        make(toy, tmp_path / "a.mp4", edit=Edit(Fraction(16), quality="best"))
    kept = read_latents(tmp_path / "a.mp4.latent")
    before = (tmp_path / "a.mp4.latent").read_bytes()
    make(toy, tmp_path / "a.mp4", latents=kept.latents)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "a.mp4.latent"]
    assert (tmp_path / "a.mp4.latent").read_bytes() == before


def test_broken_numbers_are_an_error_and_not_a_black_picture(toy: WanModel, tmp_path: Path) -> None:
    latents = some_latents()
    latents[0, 0, 1] = torch.nan
    with pytest.raises(MediaError, match="NaN or Inf"):
        make(toy, tmp_path / "a.mp4", latents=latents)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4.latent"]


class Stopped(Exception):  # noqa: N818  as a host may call it
    """An interruption that is an ordinary exception, as that of some ComfyUIs."""


class StopLater(Silent):
    def __init__(self, error: type[BaseException], checks: int) -> None:
        self._error, self._left = error, checks

    def check(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise self._error


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt])
@pytest.mark.parametrize("checks", [0, 30, 33])
def test_a_stop_leaves_nothing(
    toy: WanModel, tmp_path: Path, error: type[BaseException], checks: int
) -> None:
    """In the midst of loading, or of the frames."""
    with pytest.raises(error):
        make(toy, tmp_path / "a.mp4", latents=some_latents(frames=40), progress=StopLater(error, checks))
    assert list(tmp_path.iterdir()) == []


def test_latents_that_cannot_lie_beside_the_video_lie_in_the_temporary_folder(
    toy: WanModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    other = tmp_path / "tmp"
    other.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(other))
    with pytest.raises(MediaError, match=r"missing.*kept in .*tmp/a\.mp4\.latent"):
        make(toy, tmp_path / "missing" / "a.mp4")

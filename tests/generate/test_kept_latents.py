"""A run that differs from an earlier one only in what follows sampling decodes the same latents again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.kept_latents import KeptLatents, Sampled
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import Finding, parse
from wan_duet.pipelines.weights.recipe import Recipe

SMALL: dict[str, Any] = {
    "prompt": "a red ball moves left",
    "num_frames": 17,
    "num_inference_steps": 2,
    "seed": 7,
    "aspect_ratio": "1:1",
    "interpolator_model": "none",
}
PLAIN, REVERSIBLE = "text-to-video", "text-to-video-lora"
Make = Callable[..., Result]


@pytest.fixture(scope="module")
def make(toy: WanModel, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Runs a request, with what was kept in a folder of this module unless `kept` is given."""
    folder = tmp_path_factory.mktemp("made")

    def made(
        kind: str = PLAIN,
        *,
        model: WanModel = toy,
        kept: KeptLatents | None = KeptLatents(folder / "kept"),  # noqa: B008
        settings: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Result:
        return run(
            parse(kind, {**SMALL, **changes}),
            model,
            out=folder / "out.mp4",
            memory=DeviceMemory("cpu"),
            progress=Silent(),
            return_images=True,
            kept=kept,
            **(settings or {}),
        )

    return made


@pytest.fixture(scope="module")
def first(make: Make) -> Result:
    """The run that the others here differ from."""
    return make()


def frames(result: Result) -> torch.Tensor:
    assert result.images is not None
    return result.images


def reused(result: Result) -> bool:
    """And then nothing but decoding and encoding took time."""
    again = bool(result.receipt.get("latents_reused"))
    assert set(result.receipt["timings_s"]) == (
        {"video"} if again else {"prompt", "text", "input", "sampling", "video"}
    )
    return again


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (PLAIN, {"video_quality": "low"}),
        (PLAIN, {"video_write_mode": "small"}),
        (PLAIN, {"interpolator_model": "film", "num_interpolated_frames": 2}),
        (PLAIN, {"frames_per_second": 24}),
        (REVERSIBLE, {"reverse_video": True}),
    ],
)
def test_what_follows_sampling_costs_decoding_alone_and_gives_the_frames_of_a_fresh_run(
    make: Make, first: Result, kind: str, changes: dict[str, Any]
) -> None:
    assert not reused(first)
    second, fresh = make(kind, **changes), make(kind, kept=None, **changes)
    assert reused(second)
    assert not reused(fresh)
    assert torch.equal(frames(second), frames(fresh))
    assert second.receipt["plan"] == fresh.receipt["plan"]
    for same in ("latents_sha256", "prompt", "request", "adjustments", "model"):
        assert second.receipt[same] == fresh.receipt[same]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 8},
        {"prompt": "a blue ball moves left"},
        {"negative_prompt": "red"},
        {"guidance_scale_2": 3.0},
        {"shift": 4.0},
    ],
)
@pytest.mark.usefixtures("first")
def test_what_sampling_depends_on_samples_again(make: Make, changes: dict[str, Any]) -> None:
    assert not reused(make(**changes))


def test_a_seed_that_is_not_set_is_drawn_and_nothing_is_kept(make: Make, tmp_path: Path) -> None:
    assert not reused(make(seed=None, kept=KeptLatents(tmp_path / "kept")))
    assert not (tmp_path / "kept").exists()


@pytest.mark.usefixtures("first")
def test_another_precision_or_step_cache_samples_again(make: Make, toy: WanModel) -> None:
    assert reused(make(acceleration="none"))  # exact, as `first` is whatever it asks for
    assert not reused(make(model=replace(toy, precision="bf16")))
    with_cache = {"settings": {"acceleration": "as requested"}, "acceleration": "regular"}
    skipped = make(**with_cache)
    again = make(**with_cache, video_quality="low")
    assert not reused(skipped)
    assert reused(again)
    assert again.receipt["acceleration"] == skipped.receipt["acceleration"]


@pytest.mark.usefixtures("first")
def test_a_model_whose_weights_lie_in_no_file_is_never_looked_up(make: Make, toy: WanModel) -> None:
    """Whatever computes in its place, nobody can say that it is the same again."""
    experts = MappingProxyType({**toy.experts, "other": Recipe.of({}, {})})
    assert not reused(make(model=replace(toy, experts=experts)))


def lora(file: Path, model: WanModel, factor: float) -> Path:
    rows, columns = model.experts["low"].tensors["blocks.0.attn2.to_v.weight"].shape
    pair = {"A": torch.ones(2, columns), "B": torch.full((rows, 2), factor)}
    save_file({f"blocks.0.attn2.to_v.lora_{side}.weight": part for side, part in pair.items()}, file)
    return file


@pytest.mark.usefixtures("first")
def test_loras_count_by_content_strength_and_expert(make: Make, toy: WanModel, tmp_path: Path) -> None:
    file = lora(tmp_path / "style.safetensors", toy, 0.01)
    asked = {"path": str(file), "transformer": "low", "scale": 1.0}
    assert not reused(make(REVERSIBLE, loras=[asked]))
    assert reused(make(REVERSIBLE, loras=[asked], reverse_video=True))
    assert not reused(make(REVERSIBLE, loras=[{**asked, "scale": 0.5}]))
    assert not reused(make(REVERSIBLE, loras=[{**asked, "transformer": "high"}]))
    lora(file, toy, 0.02)
    assert not reused(make(REVERSIBLE, loras=[asked]))


def test_an_input_counts_by_content_and_not_by_name(make: Make, tmp_path: Path) -> None:
    toy_image = load_model("toy-image")
    picture = tmp_path / "picture.png"

    def drawn(level: int, **changes: Any) -> Result:
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(picture)
        changes = {"image_url": str(picture), "resolution": "480p", "aspect_ratio": "auto", **changes}
        return make("image-to-video", model=toy_image, **changes)

    assert not reused(drawn(50))
    assert reused(drawn(50, video_quality="low"))
    assert not reused(drawn(200, video_quality="low"))


CUT = (Finding("prompt", "warning", "701 tokens", "512 tokens", "cut"),)


def some(level: float, frames: int = 4) -> Sampled:
    return Sampled(torch.full((1, 4, frames, 8, 8), level), "p", CUT, {"threshold": 0.1})


def test_what_was_kept_comes_back_bit_for_bit_with_its_facts(tmp_path: Path) -> None:
    kept = KeptLatents(tmp_path)
    sampled = replace(some(0), latents=torch.randn(1, 4, 3, 8, 8))
    kept.keep("a", sampled)
    found = kept.find("a")
    assert found is not None
    assert torch.equal(found.latents, sampled.latents)
    assert (found.prompt, found.notes, found.acceleration) == ("p", CUT, {"threshold": 0.1})
    assert kept.find("b") is None
    assert [file.name for file in tmp_path.iterdir()] == ["a.latent"]


def test_the_folder_stays_within_its_limit_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    kept = KeptLatents(tmp_path)
    kept.keep("a", some(1))
    size = (tmp_path / "a.latent").stat().st_size
    kept = KeptLatents(tmp_path, 2 * size + size // 2)
    kept.keep("b", some(2))
    assert kept.find("a") is not None  # used after b
    kept.keep("c", some(3))
    assert [name for name in "abc" if kept.find(name) is not None] == ["a", "c"]
    kept.keep("large", some(4, frames=40))
    assert kept.find("large") is None
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= kept.limit_bytes


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign"])
def test_a_damaged_file_is_not_used_and_goes(tmp_path: Path, damage: str) -> None:
    kept, file = KeptLatents(tmp_path), tmp_path / "a.latent"
    kept.keep("a", some(1))
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-100])
    elif damage == "changed":
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        save_file(load_file(file), file)
    assert kept.find("a") is None
    assert not file.exists()


def test_a_folder_that_cannot_be_written_costs_only_the_reuse(make: Make, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file stands in the way of the folder")
    assert not reused(make(kept=KeptLatents(tmp_path / "kept")))

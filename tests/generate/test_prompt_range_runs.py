"""Runs whose ranges of frames have words of their own, on the embedded model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tiny_models import make_model

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.kept_latents import KeptLatents
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse, t2v_request
from wan_duet.pipelines.video.output import sidecar

from .toy_runs import Make, latents

FEW = {
    "prompt": "on a white background, a red ball is", "num_frames": 17, "num_inference_steps": 2, "seed": 7,
    "aspect_ratio": "1:1", "interpolator_model": "none", "guidance_scale": 1.0, "guidance_scale_2": 1.0,
}  # fmt: skip
TWO = {"prompt_ranges": "moving right | moving up"}
GUIDED = {"guidance_scale": 3.5, "guidance_scale_2": 4.0, "negative_prompt": "blue"}


def test_one_range_has_the_bits_of_a_request_that_says_the_same(make: Make) -> None:
    whole = make(prompt=f"{FEW['prompt']} moving up", **GUIDED)
    assert latents(make({"prompt_ranges": "17f: moving up"}, **GUIDED)) == latents(whole)
    assert latents(make({"prompt_ranges": [{"prompt": ""}]})) == latents(make())


def test_two_ranges_change_the_result_stand_in_the_receipt_and_are_repeated(
    make: Make, toy: WanModel, tmp_path: Path
) -> None:
    made = make(TWO)
    alone = [make({"prompt_ranges": words}) for words in ("moving right", "moving up")]
    assert len({latents(each) for each in (made, *alone, make({**TWO, "prompt_overlap": 4}))}) == 4
    ranges = [{"prompt": "moving right"}, {"prompt": "moving up"}]
    assert made.receipt["request"]["local"] == {"prompt_ranges": ranges}
    assert made.receipt["plan"]["prompt_relay"] == {"latent_frames": [3, 2], "overlap": 0}
    assert made.receipt["plan"]["forwards"] == alone[0].receipt["plan"]["forwards"] == 2
    again = repeat(
        read_receipt(sidecar(made.path)), toy, out=tmp_path / "again.mp4", memory=DeviceMemory("cpu"),
        progress=Silent(),
    )  # fmt: skip
    assert latents(again) == latents(made)


def test_guidance_and_nag_act_beside_ranges(make: Make) -> None:
    plain, guided, nag = (
        make(TWO),
        make(TWO, **GUIDED),
        make({**TWO, "nag_scale": 8.0}, negative_prompt="red"),
    )
    assert len({latents(each) for each in (plain, guided, nag)}) == 3
    assert guided.receipt["plan"]["forwards"] == 4


def test_streamed_blocks_have_the_bits_of_resident_ones(make: Make, toy: WanModel) -> None:
    resident, streamed = (replace(toy, residency=wanted) for wanted in ("resident", "ring:1"))
    assert latents(make(TWO, streamed)) == latents(make(TWO, resident))


def test_windows_take_the_words_of_their_frames(make: Make) -> None:
    windows = {"context_frames": 9, "context_schedule": "standard_static"}
    same = make({**windows, "prompt_ranges": "moving up"})
    assert latents(same) == latents(make(windows, prompt=f"{FEW['prompt']} moving up"))
    assert latents(make({**windows, **TWO})) not in (latents(same), latents(make(TWO)))


def test_kept_latents_of_other_words_are_not_used(toy: WanModel, tmp_path: Path) -> None:
    kept = KeptLatents(tmp_path / "kept")

    def reused(ranges: str) -> bool:
        request = t2v_request(**FEW, local={"prompt_ranges": ranges})
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.mp4"
        made = run(request, toy, out=out, memory=DeviceMemory("cpu"), progress=Silent(), kept=kept)
        return "latents_reused" in made.receipt

    assert [reused(text) for text in ("moving up | moving down", "moving up | rising")] == [False, False]
    assert reused("moving up | rising")


def test_the_5b_can_too(tmp_path: Path) -> None:
    """With an image its frames have timesteps of their own."""
    from PIL import Image

    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64), (200, 20, 20)).save(picture)
    model = make_model("wan2.2-ti2v-5b", tmp_path)
    values = {
        "num_frames": 17, "num_inference_steps": 2, "seed": 1, "guidance_scale": 1.0,
        "interpolator_model": "none", "image_url": str(picture),
    }  # fmt: skip

    def made(prompt: str, ranges: str) -> str:
        asked = {**values, "prompt": prompt, "local": {"prompt_ranges": ranges}}
        out = tmp_path / f"{prompt} {len(ranges)}.mp4"
        request = parse("small-image-to-video", asked)
        return latents(run(request, model, out=out, memory=DeviceMemory("cpu"), progress=Silent()))

    assert made("a ball", "up") == made("a ball up", "") != made("a ball", "up | down")

"""What `wan-duet verify` says of untouched and of altered files and receipts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.receipt_comparison import by_size
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.sampling.step_fingerprints import first_difference
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.output import sidecar
from wan_duet.pipelines.video.read import read_frames
from wan_duet.pipelines.weights.lora.find import LoraSources

LORA = {"path": "toy/hopping_stripes", "scale": 0.5}
VALUES = {
    "prompt": "a red ball moves left",
    "num_frames": 5,
    "num_inference_steps": 2,
    "aspect_ratio": "1:1",
    "interpolator_model": "none",
}


def made_in(folder: Path, *, embed: bool, loras: Sequence[Mapping[str, Any]] = (LORA,)) -> Path:
    out = folder / "clip.mp4"
    run(
        parse("text-to-video-lora", {**VALUES, "loras": list(loras)}),
        load_model("toy"),
        out=out,
        memory=DeviceMemory("cpu"),
        progress=Silent(),
        embed_receipt=embed,
        lora_sources=LoraSources(embedded=embedded_loras()),
    )
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a receipt inside, so that only a new run can tell."""
    return made_in(tmp_path_factory.mktemp("plain"), embed=False)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_in(tmp_path_factory.mktemp("sealed"), embed=True)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = parse("text-to-image", {"prompt": "a red ball", "num_inference_steps": 2})
    out = tmp_path_factory.mktemp("image") / "a.png"
    run(
        request,
        load_model("toy"),
        out=out,
        memory=DeviceMemory("cpu"),
        progress=Silent(),
        embed_receipt=False,
    )
    return out


def copied(
    file: Path, folder: Path, change: Callable[[dict[str, Any]], object] = lambda receipt: None
) -> Path:
    receipt = json.loads(sidecar(file).read_text())
    change(receipt)
    copy = folder / file.name
    shutil.copy(file, copy)
    sidecar(copy).write_text(json.dumps(receipt))
    return copy


def frames_of(file: Path) -> list[np.ndarray]:
    return list(read_frames(file))


def write(file: Path, frames: list[np.ndarray]) -> None:
    height, width = frames[0].shape[:2]
    size = {"width": width, "height": height}
    encode_video(iter(frames), file, fps=Fraction(16), frame_count=len(frames), quality="maximum", **size)


def verdict(capsys: pytest.CaptureFixture[str], file: Path, *flags: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["verify", str(file), "--json", *flags])
    answer = json.loads(capsys.readouterr().out)
    return code, answer["verdict"], " ".join(answer["reasons"])


def put(*path: str, value: Any) -> Callable[[dict[str, Any]], object]:
    def change(receipt: dict[str, Any]) -> None:
        place: Any = receipt
        for name in path[:-1]:
            place = place[int(name) if isinstance(place, list) else name]
        place[path[-1]] = value

    return change


ALTERED: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "prompt": put("request", "prompt", value="a blue star moves up"),
    "expanded prompt": put("prompt", value="a blue star moves up"),
    "seed": put("seed", value=123),
    "requested seed": put("request", "seed", value=123),
    "lora": put("request", "loras", "0", "path", value="toy/outlined"),
    "strength": put("request", "loras", "0", "scale", value=0.7),
    "recorded strength": put("model", "loras", "0", "strength", value=0.7),
    "guidance": put("request", "guidance_scale", value=2.0),
    "planned steps": put("plan", "sigmas", value=[1.0, 0.5, 0.0]),
    "latents": put("latents_sha256", value="0" * 64),
    "weights": put("model", "files", "vae/diffusion_pytorch_model.safetensors", value="sha256:0"),
    "negative prompt": put("request", "negative_prompt", value="blurry"),
    "a step": put("step_fingerprints", "0", "sha256", value="0" * 16),
    "quality": put("request", "video_quality", value="low"),
}


def test_an_untouched_file_is_the_same_bits_after_a_new_run(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(capsys, plain)[:2] == (0, "same bits")


@pytest.mark.parametrize("place", ["beside the receipt", "current folder", "--lora-folder"])
def test_a_lora_file_is_found_again_by_its_name(
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, last, here = (tmp_path / name for name in ("first", "last", "here"))
    for folder in (first, last, here):
        folder.mkdir()
    mine = first / "mine.safetensors"
    shutil.copy(embedded_loras()["toy/hopping_stripes"], mine)
    out = made_in(last, embed=False, loras=[{**LORA, "path": str(mine)}])
    monkeypatch.chdir(here)
    assert verdict(capsys, out)[:2] == (2, "cannot tell")
    mine.rename({"beside the receipt": last, "current folder": here}.get(place, first) / mine.name)
    flags = ["--lora-folder", str(first)] if place == "--lora-folder" else []
    assert verdict(capsys, out, *flags)[:2] == (0, "same bits")


def test_a_quick_look_needs_both_receipts(
    plain: Path, sealed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(capsys, sealed, "--quick")[:2] == (0, "same bits")
    code, found, why = verdict(capsys, plain, "--quick")
    assert (code, found) == (2, "cannot tell")
    assert "only a run can tell" in why


@pytest.mark.parametrize("altered", ALTERED)
def test_an_altered_receipt_never_passes_as_same(
    plain: Path, sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], altered: str
) -> None:
    run_again = copied(plain, tmp_path, ALTERED[altered])
    code, found, why = verdict(capsys, run_again)
    assert (code, found) in [(1, "different"), (2, "cannot tell")], why
    quick = copied(sealed, tmp_path, ALTERED[altered])
    assert verdict(capsys, quick, "--quick")[:2] == (1, "different")


def test_another_file_of_the_same_name_is_different(
    sealed: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copied(plain, tmp_path)
    file.write_bytes(file.read_bytes() + b"\0\0\0\x08free")
    code, found, why = verdict(capsys, file, "--quick")
    assert (code, found) == (1, "different")
    assert "bytes" in why


def test_a_file_of_another_length_is_different(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copied(plain, tmp_path, lambda receipt: receipt.pop("file"))
    write(file, frames_of(plain)[:4])
    code, found, why = verdict(capsys, file)
    assert (code, found) == (1, "different")
    assert "the file has frames 4, its receipt 5" in why


def test_an_older_receipt_without_the_bytes_is_run_again(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copied(plain, tmp_path, lambda receipt: [receipt.pop("file"), receipt.pop("cpu")])
    assert verdict(capsys, file)[:2] == (0, "same bits")


@pytest.mark.parametrize(
    ("share", "noise", "code", "found"),
    [(0.01, 1, 0, "same within rounding"), (0.7, 1, 2, "cannot tell"), (0.7, 20, 1, "different")],
)
def test_pixels_that_part_a_little_are_the_same_within_rounding(
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    share: float,
    noise: int,
    code: int,
    found: str,
) -> None:
    def from_elsewhere(receipt: dict[str, Any]) -> None:
        receipt["latents_sha256"] = "0" * 64
        for name in ("file", "frames_sha256"):
            receipt.pop(name, None)

    file = copied(image, tmp_path, from_elsewhere)
    with Image.open(file) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    random = np.random.default_rng(0)
    moved = pixels + noise * random.choice([-1, 1], pixels.shape) * (random.random(pixels.shape) < share)
    Image.fromarray(np.clip(moved, 0, 255).astype(np.uint8)).save(file)
    told = verdict(capsys, file)
    assert told[:2] == (code, found), told


@pytest.mark.parametrize(
    ("size", "code", "found"),
    [(1e-6, 0, "same within rounding"), (1e-4, 2, "cannot tell"), (1e-2, 1, "different")],
)
def test_the_first_step_that_differs_is_named_and_decides(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: float, code: int, found: str
) -> None:
    def from_elsewhere(receipt: dict[str, Any]) -> None:
        receipt["latents_sha256"] = "0" * 64
        for name in ("file", "frames_sha256"):
            receipt.pop(name, None)
        last = receipt["step_fingerprints"][1]
        receipt["step_fingerprints"][1] = {
            "sha256": "0" * 16,
            "sketch": [number * (1 + size) for number in last["sketch"]],
        }

    file = copied(image, tmp_path, from_elsewhere)
    with Image.open(file) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    moved = pixels + np.random.default_rng(0).choice([-1, 1], pixels.shape)  # 48 dB
    Image.fromarray(np.clip(moved, 0, 255).astype(np.uint8)).save(file)
    told = verdict(capsys, file)
    assert told[:2] == (code, found), told
    assert "step 2 of 2 (low-noise expert) is the first that differs, by about" in told[2]


@pytest.mark.parametrize(
    ("sizes", "psnr", "found"),
    [
        ((3e-6, 4e-6), 39.7, "same within rounding"),  # H.264 of the same latents
        ((3e-6, 7e-3), 50.0, "cannot tell"),  # a LoRA of the low-noise expert at another strength
        ((3e-6, 7e-3), 39.7, "different"),
        ((3e-6, 4e-6), 25.0, "different"),
    ],
)
def test_a_later_step_that_differs_more_is_no_rounding(
    sizes: Sequence[float], psnr: float, found: str
) -> None:
    def taken(moved: Sequence[float]) -> list[dict[str, Any]]:
        return [{"sha256": str(size), "sketch": [1 + size]} for size in moved]

    first = first_difference(taken(sizes), taken((0.0, 0.0)))
    assert by_size(psnr, first, "float32", ()).verdict == found


def test_a_run_with_other_threads_is_the_same_within_rounding(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def by_other_threads(receipt: dict[str, Any]) -> None:
        receipt["cpu"]["threads"] = 3 - min(receipt["cpu"]["threads"], 2)
        del receipt["file"]

    code, found, why = verdict(capsys, copied(plain, tmp_path, by_other_threads))
    assert (code, found) == (0, "same within rounding"), why
    assert "step 1 of 2 (high-noise expert) is the first that differs, by about" in why


@pytest.mark.parametrize(("image_format", "name"), [("png", "a.png"), ("jpeg", "a.jpg")])
def test_an_image_is_verified_like_a_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image_format: str, name: str
) -> None:
    values = {"prompt": "a red ball", "num_inference_steps": 2, "image_format": image_format}
    request, out = parse("text-to-image-lora", values), tmp_path / name
    run(request, load_model("toy"), out=out, memory=DeviceMemory("cpu"), progress=Silent())
    assert verdict(capsys, out, "--quick")[:2] == (0, "same bits")
    assert verdict(capsys, out)[:2] == (0, "same bits")


def test_a_file_without_a_receipt_and_a_broken_receipt_cannot_be_told(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone.mp4"
    shutil.copy(plain, alone)
    assert verdict(capsys, alone)[:2] == (2, "cannot tell")
    sidecar(alone).write_text("{")
    assert main(["verify", str(alone)]) == 2
    assert "alone.json" in capsys.readouterr().err

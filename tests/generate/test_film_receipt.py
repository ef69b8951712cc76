"""The receipt of a video of several shots makes the video again, and tells when something was altered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.generate.film_verification import compared_film
from wan_duet.pipelines.generate.recorded_film import film_in
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.video.film_receipt import SHOTS_SHA256, shots_hash
from wan_duet.pipelines.video.output import sidecar, write_sidecar

Receipt = dict[str, Any]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shots, of which the second begins with the last frame of the first."""
    out = tmp_path_factory.mktemp("film") / "film.mp4"
    board = "5f: a red ball | 5f continue: it moves up"
    flags = ["--num-inference-steps", "2", "--interpolator-model", "none"]
    flags += ["--local-width", "32", "--local-height", "32"]
    command = ["generate", "--kind", "shots", "--model", "toy", "--storyboard", board, *flags]
    assert main([*command, "--video-quality", "maximum", "--seed", "7", "-o", str(out)]) == 0
    return out


def receipt_of(film: Path) -> Receipt:
    content: Receipt = json.loads(sidecar(film).read_text(encoding="utf-8"))
    return content


def copied(film: Path, folder: Path, change: Callable[[Receipt], object]) -> Path:
    receipt = receipt_of(film)
    change(receipt)
    copy = folder / film.name
    shutil.copy(film, copy)
    sidecar(copy).write_text(json.dumps(receipt), encoding="utf-8")
    return copy


def put(*path: str | int, value: Any) -> Callable[[Receipt], object]:
    def change(receipt: Receipt) -> None:
        place: Any = receipt
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


ALTERED: Mapping[str, Callable[[Receipt], object]] = {
    "seed": put("seed", value=8),
    "requested seed": put("request", "seed", value=8),
    "storyboard": put("request", "storyboard", value="5f: a blue ball | 5f continue: it moves up"),
    "steps": put("request", "num_inference_steps", value=3),
    "quality": put("request", "video_quality", value="low"),
    "join": put("joins", 1, value="cut"),
    "frames": put("frames", value=10),
    "hash of frames": put("frames_sha256", value="0" * 64),
    "prompt of a shot": put("shots", 1, "request", "prompt", value="it moves down"),
    "seed of a shot": put("shots", 0, "seed", value=9),
    "latents of a shot": put("shots", 1, "latents_sha256", value="0" * 64),
    "a step of a shot": put("shots", 1, "step_fingerprints", 0, "sha256", value="0" * 16),
    "weights of a shot": put("shots", 0, "model", "files", value={}),
    "sigmas of a shot": put("shots", 0, "plan", "sigmas", value=[1.0, 0.5, 0.0]),
    "colour drift": put("colour_drift", value={}),
    "a shot left out": lambda receipt: receipt["shots"].pop(),
}


def verdict(capsys: pytest.CaptureFixture[str], file: Path, *flags: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["verify", str(file), "--json", *flags])
    answer = json.loads(capsys.readouterr().out)
    return code, answer["verdict"], " ".join(answer["reasons"])


def test_an_untouched_video_of_shots_is_the_same_bits(film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(capsys, film, "--quick")[:2] == (0, "same bits")
    assert verdict(capsys, film) == (0, "same bits", "a new run has the same latents, frames and receipt")


@pytest.mark.parametrize("altered", ALTERED)
def test_an_altered_receipt_of_shots_never_passes_a_quick_look(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], altered: str
) -> None:
    assert verdict(capsys, copied(film, tmp_path, ALTERED[altered]), "--quick")[:2] == (1, "different")

    def and_its_hash(receipt: Receipt) -> None:
        ALTERED[altered](receipt)
        receipt[SHOTS_SHA256] = shots_hash(receipt)

    assert verdict(capsys, copied(film, tmp_path, and_its_hash), "--quick")[:2] == (1, "different")


@pytest.mark.parametrize("altered", [name for name in ALTERED if name != "a shot left out"])
def test_an_altered_receipt_differs_from_that_of_a_new_run(film: Path, altered: str) -> None:
    """As in a file without a receipt inside. The film stands for the new run, which is equal to it."""
    receipt = receipt_of(film)
    new = Result(film, 7, "", deepcopy(receipt), None)
    ALTERED[altered](receipt)
    found = compared_film(film, new, receipt, film_in(receipt, sidecar(film)))
    assert found.verdict in ("different", "cannot tell"), found.text()


def test_the_receipt_makes_the_same_video_again(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again.mp4"
    assert main(["generate", "--from-receipt", str(sidecar(film)), "-o", str(out)]) == 0
    assert receipt_of(out)["frames_sha256"] == receipt_of(film)["frames_sha256"]
    with_flag = ["--from-receipt", str(sidecar(film)), "--precision", "fp32"]
    assert main(["generate", *with_flag, "-o", str(tmp_path / "x.mp4")]) == 2
    assert "--precision: given together with --from-receipt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("altered", "words"),
    [
        ("latents of a shot", "shot 2: the latents are not those of the receipt"),
        ("hash of frames", "the latents of every shot are those of the receipt, but the frames are not"),
        ("weights of a shot", "differ from the files of the receipt"),
        ("a shot left out", "is damaged: ValueError('1 shots and 2 joins')"),
        ("join", "joins cut, cut, and its request has cut, continue"),
    ],
)
def test_what_is_not_the_same_again_is_named_and_leaves_no_file(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], altered: str, words: str
) -> None:
    changed = copied(film, tmp_path, ALTERED[altered])
    out = tmp_path / "again.mp4"
    assert main(["generate", "--from-receipt", str(sidecar(changed)), "-o", str(out)]) != 0
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_the_images_of_shots_are_looked_up_beside_the_receipt(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(tmp_path / "start.png")
    shots = [{"prompt": "it moves", "image_url": str(tmp_path / "start.png"), "num_frames": 5}]
    asked = tmp_path / "asked.json"
    values = {"shots": shots, "num_inference_steps": 2, "interpolator_model": "none"}
    values |= {"local": {"width": 32, "height": 32}}
    asked.write_text(json.dumps({**values, "video_quality": "maximum"}), encoding="utf-8")
    out, again = tmp_path / "film.mp4", tmp_path / "again.mp4"
    assert main(["generate", str(asked), "--kind", "shots", "--model", "toy-image", "-o", str(out)]) == 0
    assert main(["generate", "--from-receipt", str(sidecar(out)), "-o", str(again)]) == 0
    assert receipt_of(again)["frames_sha256"] == receipt_of(out)["frames_sha256"]


def test_what_was_bought_is_not_promised_to_be_the_same_again(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bought = copied(film, tmp_path, put("runner", value="fal"))
    assert main(["generate", "--from-receipt", str(sidecar(bought)), "-o", str(tmp_path / "x.mp4")]) == 2
    assert "bought at fal; run the request in it again with --on fal" in capsys.readouterr().err


def test_a_receipt_inside_that_says_nothing_of_shots_cannot_tell(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = copied(film, tmp_path, lambda receipt: receipt.pop(SHOTS_SHA256))
    old.write_bytes(old.read_bytes().replace(SHOTS_SHA256.encode(), b"other_sha256"))
    receipt = receipt_of(old) | {"other_sha256": receipt_of(film)[SHOTS_SHA256]}
    write_sidecar(old, receipt)
    assert verdict(capsys, old, "--quick")[:2] == (2, "cannot tell")

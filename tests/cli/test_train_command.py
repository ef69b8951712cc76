"""`wan-duet train` against a fal on this machine."""

from __future__ import annotations

import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.cli.remote_terminal import open_account
from wan_duet.pipelines.remote.order import uploading
from wan_duet.pipelines.remote.settings import read_addresses
from wan_duet.pipelines.remote.spending_limits import SpendingLimits
from wan_duet.pipelines.remote.training import training_order, without_deadline
from wan_duet.pipelines.remote.training_data import read_dataset

from ..servers.fal import FalServer
from ..servers.results import clip, lora, picture
from .conftest import jobs


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    made = tmp_path / "balls"
    made.mkdir()
    for name, data in (("a.mp4", clip()), ("b.png", picture()), ("a.txt", b"a ball"), (".DS_Store", b"x")):
        (made / name).write_bytes(data)
    return made


def train(*arguments: object) -> int:
    return main(["train", *map(str, arguments)])


def test_a_lora_comes_back_into_models_loras_with_its_receipt(
    tmp_path: Path,
    dataset: Path,
    folder: Path,
    server: FalServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = ("--number-of-steps", 1000, "--trigger-phrase", "blba")
    assert train(dataset, "--for", "i2v", *settings, "--yes", "--json") == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    file = tmp_path / "ComfyUI" / "models" / "loras" / "balls-i2v.safetensors"
    assert answer["lora"] == str(file)
    assert file.read_bytes() == lora()
    assert "1 videos, 1 images, 1 captions" in told.err
    assert "price: about $5.00 (1000 steps" in told.err
    (job,) = server.jobs.values()
    assert job.endpoint == "fal-ai/wan-22-trainer/i2v-a14b"
    sent = {"number_of_steps": 1000, "learning_rate": 0.0002, "trigger_phrase": "blba"}
    assert job.body == {**sent, "training_data_url": job.body["training_data_url"]}
    uploaded = server.cdn.files[job.body["training_data_url"].rpartition("/")[2]]
    (tmp_path / "sent.zip").write_bytes(uploaded.data)
    with zipfile.ZipFile(tmp_path / "sent.zip") as archive:
        assert archive.namelist() == ["a.mp4", "a.txt", "b.png"]
        assert archive.read("a.mp4") == clip()
    receipt = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    assert receipt["kind"] == "train-lora-i2v"
    assert receipt["dataset"]["videos"] == 1
    assert job.body["training_data_url"] not in json.dumps(receipt)
    assert train(dataset, "--for", "i2v", *settings, "--yes") == 0  # the same again is there already
    assert len(server.jobs) == 1


def test_nothing_is_uploaded_without_consent(
    dataset: Path,
    folder: Path,
    server: FalServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(dataset) == 2
    told = capsys.readouterr().err
    assert "--yes: not set" in told
    assert "sha256" in told
    assert "price: about $1.60" in told
    assert (server.jobs, server.cdn.files) == ({}, {})


def test_a_training_has_no_limit_of_time(
    dataset: Path,
    folder: Path,
    server: FalServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "spending.json").write_text(json.dumps({"late_after_minutes": 0.0001, "cancel_late": True}))
    server.run_looks = 2
    assert train(dataset, "--yes") == 0
    assert "takes longer" not in capsys.readouterr().err


def test_a_training_that_was_broken_off_is_found_again_and_bought_once(
    tmp_path: Path,
    dataset: Path,
    folder: Path,
    server: FalServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.run_looks = 10**6
    (tmp_path / "work").mkdir()
    data = read_dataset(dataset, tmp_path / "work")
    out = tmp_path / "ComfyUI" / "models" / "loras" / "balls.safetensors"
    order, prepared = training_order("train-lora-t2v", {}, data, out)
    with open_account("fal", folder, read_addresses(folder)) as (thread, account):
        ticket = thread.buy(
            order,
            account,
            limits=without_deadline(SpendingLimits()),
            prepare=uploading(prepared, account),
            on_event=lambda _: None,
        )
        while thread.journal.job(ticket.job_id).state != "running":
            time.sleep(0.01)
    os.unlink(str(data.file.content))  # the archive is gone with the process
    server.run_looks = 0
    assert jobs(capsys, "attach", ticket.job_id)["file"] == str(out)
    assert out.read_bytes() == lora()
    assert train(dataset, "--yes", "-o", out) == 0
    assert len(server.jobs) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--number-of-steps", "50"], "number_of_steps: asked for 50; fal accepts 100 or more"),
        (["--learning-rate", "fast"], "learning_rate: got 'fast'"),
        (["-o", "out.mp4"], "--output: out.mp4; give a name that ends with .safetensors"),
    ],
)
def test_wrong_settings_are_refused_by_name(
    arguments: list[str],
    said: str,
    dataset: Path,
    folder: Path,
    server: FalServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(dataset, "--yes", *arguments) == 2
    assert said in capsys.readouterr().err
    assert server.jobs == {}


@pytest.mark.parametrize("data", [b"PK\x03\x04 no safetensors", bytes([9, *bytes(7)]) + b"no safetensors"])
def test_what_is_no_lora_is_not_put_among_the_loras(
    data: bytes,
    tmp_path: Path,
    dataset: Path,
    folder: Path,
    server: FalServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.data = data
    assert train(dataset, "--yes") != 0
    told = capsys.readouterr().err
    assert "no video, image or LoRA" in told
    assert list((tmp_path / "ComfyUI" / "models" / "loras").iterdir()) == []


def test_a_training_is_no_kind_of_request(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "--kind", "train-lora-t2v", "-o", "a.mp4"])
    assert "use `wan-duet train`" in capsys.readouterr().err


def test_equal_folders_make_equal_archives_and_a_zip_is_sent_as_it_is(tmp_path: Path, dataset: Path) -> None:
    works = [tmp_path / name for name in ("one", "two")]
    for work in works:
        work.mkdir()
    first = read_dataset(dataset, works[0])
    os.utime(dataset / "a.mp4", (1, 1))
    assert read_dataset(dataset, works[1]).file.sha256 == first.file.sha256
    given = Path(str(first.file.content))
    again = read_dataset(given, tmp_path)
    assert (again.file.content, again.as_dict()) == (given, first.as_dict())


def broken(path: Path, **files: bytes) -> Any:
    path.mkdir()
    for name, data in files.items():
        (path / name.replace("_", ".")).write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a_png": b"x", "b_exe": b"x"}, "dataset: b.exe is no image, video or caption; take it out"),
        ({"a_png": b"x", "b_txt": b"x"}, "dataset: b.txt is a caption of no file"),
        ({"b_txt": b"x"}, "dataset: no image and no video in it"),
        ({}, "dataset: no image and no video in it"),
    ],
)
def test_what_does_not_belong_in_a_dataset_is_named(
    files: dict[str, bytes],
    said: str,
    tmp_path: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(broken(tmp_path / "set", **files), "--yes") == 2
    assert said in capsys.readouterr().err


def test_images_alone_do_not_train_image_to_video(
    tmp_path: Path,
    folder: Path,
    server: FalServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = broken(tmp_path / "set", a_png=picture())
    assert train(images, "--for", "i2v", "--yes") == 2
    assert "1 images and no video; add a video" in capsys.readouterr().err
    assert train(images, "--for", "t2v", "--yes") == 0
    assert len(server.jobs) == 1


def test_a_file_that_is_no_archive_is_refused(
    tmp_path: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert train(tmp_path / "a.zip", "--yes") == 2
    assert "give a folder or a ZIP file" in capsys.readouterr().err

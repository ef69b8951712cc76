"""`wan-duet generate --on fal` and `wan-duet jobs`, against a fal on this machine."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.remote.job_context import POLL_TIMES
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.keys import Key
from wan_duet.pipelines.remote.order import order_for
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.remote.remote_thread import RemoteThread
from wan_duet.pipelines.request import KINDS, parse
from wan_duet.pipelines.video.probe import probe

from ..servers.fal import FalServer
from ..servers.novita import NovitaServer
from ..servers.results import clip, picture
from .conftest import KEY, jobs


def generate(tmp_path: Path, *more: str) -> int:
    out = str(tmp_path / "film.mp4")
    return main(["generate", "--on", "fal", "-o", out, "--prompt", "a red ball", "--seed", "7", *more])


def test_the_cheapest_provider_with_a_key_is_chosen_and_named(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path, "--on", "cheapest", "--json") == 0
    told = capsys.readouterr()
    assert "cheapest: fal" in told.err
    assert json.loads(told.out)["receipt"]["runner"] == "fal"
    (folder / "spending.json").write_text(json.dumps({"per_run_usd": 0.1}))
    assert generate(tmp_path, "--on", "cheapest", "--no-reuse") == 2
    assert "above your limit" in capsys.readouterr().err
    assert len(server.jobs) == 1


def test_a_request_of_the_command_line_is_bought_once_and_listed(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path, "--json") == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["video"] == str(tmp_path / "film.mp4")
    assert answer["seed"] == 7
    assert answer["receipt"]["runner"] == "fal"
    assert "price: about $0.4" in told.err
    assert "downloading" in told.err
    assert generate(tmp_path) == 0  # the same again is there already
    assert len(server.jobs) == 1
    (listed,) = jobs(capsys, "list")
    assert (listed["state"], listed["money"], listed["file"]) == ("done", "spent", answer["video"])
    assert jobs(capsys, "show", answer["job"][:6]) == listed
    assert jobs(capsys, "attach", answer["job"]) == listed
    assert main(["jobs", "list"]) == 0
    assert "film.mp4" in capsys.readouterr().out


def test_every_kind_that_runs_only_at_fal_is_taken_there_with_files_of_this_machine(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {kind: cls for kind, cls in KINDS.items() if cls.remote_only}
    for suffix, data in (("png", picture()), ("mp4", clip())):
        (tmp_path / f"input.{suffix}").write_bytes(data)
    for kind, cls in kinds.items():
        values = {
            name: tmp_path / f"input.{_SUFFIXES[name]}" for name in cls.model_fields if name in _SUFFIXES
        }
        if kind == "wan27-image-to-video":
            del values["video_url"]  # not beside an image
        flags = [
            text for name, value in values.items() for text in (f"--{name.replace('_', '-')}", str(value))
        ]
        prompt = ["--prompt", "a ball"] if "prompt" in cls.model_fields else []
        asked = ["generate", "--kind", kind, *prompt, *flags, "--on", "fal", "--json"]
        assert main([*asked, "-o", str(tmp_path / f"{kind}.mp4")]) == 0, capsys.readouterr().err
        answer = json.loads(capsys.readouterr().out)
        job = list(server.jobs.values())[-1]
        assert (job.endpoint, answer["seed"]) == (cls.endpoint, job.body["seed"])
        if kind.startswith("wan"):
            assert answer["prompt"] == "a ball, in great detail"
        assert all(f"{server.url}/cdn/" in str(job.body[name]) for name in values if _SUFFIXES[name] == "mp4")
    assert len(server.jobs) == len(kinds)


_SUFFIXES = {
    "video_url": "mp4",
    "video_urls": "mp4",
    "mask_video_url": "mp4",
    "reference_video_urls": "mp4",
    "image_url": "png",
    "start_image_url": "png",
    "ref_image_urls": "png",
    "first_frame_url": "png",
}


def test_the_person_of_a_video_is_replaced_at_fal_only(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "person.png").write_bytes(picture())
    (tmp_path / "scene.mp4").write_bytes(clip())
    media = ["--image-url", str(tmp_path / "person.png"), "--video-url", str(tmp_path / "scene.mp4")]
    asked = ["generate", "--kind", "animate-replace", *media, "-o", str(tmp_path / "film.mp4")]
    assert main(asked) == 2
    assert "animate-replace runs only at fal; add --on fal" in capsys.readouterr().err
    assert main([*asked, "--on", "fal"]) == 0
    (job,) = server.jobs.values()
    assert job.endpoint == "fal-ai/wan/v2.2-14b/animate/replace"
    assert job.body["resolution"] == "480p"
    assert {"prompt", "use_turbo", "return_frames_zip"}.isdisjoint(job.body)


def test_no_reuse_buys_again_beside_the_first_file(tmp_path: Path, folder: Path, server: FalServer) -> None:
    assert generate(tmp_path) == generate(tmp_path, "--no-reuse") == 0
    assert len(server.jobs) == len(list(tmp_path.glob("film*.mp4"))) == 2


@pytest.mark.parametrize("output", ["film.gif", "", "folder.mp4", f"{'n' * 300}.mp4", "file.mp4/film.mp4"])
def test_a_place_that_no_file_can_have_is_refused_before_anything_is_bought(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file.mp4").touch()
    out = str(tmp_path / output) if output else ""
    assert main(["generate", "--on", "fal", "-o", out, "--prompt", "a red ball"]) != 0
    assert output in capsys.readouterr().err
    assert server.jobs == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ComfyUI", "file.mp4", "folder.mp4"]


def test_an_undelivered_job_can_be_saved_elsewhere(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script.plan("download", "page", times=100)  # what a portal answers
    assert generate(tmp_path) == 1
    assert not (tmp_path / "film.mp4").exists()
    server.script.planned.clear()
    (job,) = jobs(capsys, "list")
    assert job["state"] == "completed"
    attached = jobs(capsys, "attach", job["job"], "-o", str(tmp_path / "new" / "other.mp4"))
    assert attached["file"] == str(tmp_path / "new" / "other.mp4")
    assert Path(attached["file"]).is_file()
    assert attached["addresses"] != []
    assert len(server.jobs) == 1


def test_a_job_that_was_lost_can_be_asked_for_again(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path) == 0
    (job,) = jobs(capsys, "list")
    database = sqlite3.connect(folder / "jobs.sqlite")
    database.execute("UPDATE jobs SET state = 'lost', outcome_json = NULL, file_path = NULL, error = '404'")
    database.commit()
    database.close()
    assert jobs(capsys, "attach", job["job"])["state"] == "done"
    assert len(server.jobs) == 1


def test_a_limit_of_the_user_is_kept(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "spending.json").write_text(json.dumps({"per_run_usd": 0.1}))
    assert generate(tmp_path) == 1
    assert "the limit is $0.10 per run" in capsys.readouterr().err
    assert server.jobs == {}


def test_resubmit_buys_anew_what_nobody_knows_the_fate_of(
    tmp_path: Path, folder: Path, server: FalServer
) -> None:
    journal, owner = Journal(folder / "jobs.sqlite", lambda: 0.0), OwnerLock(folder / "owners")
    request = parse("text-to-video", {"prompt": "a red ball", "seed": 7})
    order, _ = order_for(request, "fal", tmp_path / "film.mp4")
    account = Key("fal", KEY).account
    choices = {"reuse": True, "resubmit": False, "allow": lambda spent: None, "since": 0.0}
    lost = journal.begin(order, account, owner, **choices)
    for state in ("submitting", "unknown"):
        journal.move(lost.job_id, owner, state, told=True)
    journal.release(lost.job_id, owner)
    assert generate(tmp_path, "--resubmit") == 0
    assert len(server.jobs) == 1
    assert journal.job(lost.job_id).state == "failed"
    owner.retire()
    journal.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the provider does not show is not looked for again: the command ends, the job does not."""
    times = {name: replace(times, missing=0.0) for name, times in POLL_TIMES.items()}
    monkeypatch.setitem(RemoteThread.__init__.__kwdefaults__, "poll_times", times)


@pytest.mark.usefixtures("impatient")
def test_a_job_left_open_is_cancelled_by_its_id(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.queue_looks = 10**6
    server.script.plan("status", "401")
    assert generate(tmp_path) == 1
    (listed,) = jobs(capsys, "list", "--open")
    assert main(["jobs", "forget", listed["job"]]) == 1
    assert main(["jobs", "cancel", listed["job"][:8]]) == 0
    (after,) = jobs(capsys, "list")
    assert after["state"] == "cancelled"
    assert [job.state for job in server.jobs.values()] == ["CANCELLED"]
    assert main(["jobs", "forget", listed["job"]]) == 0
    assert jobs(capsys, "list") == []


@pytest.mark.usefixtures("impatient")
def test_a_job_left_open_is_brought_home_by_its_id(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script.plan("status", "401")
    assert generate(tmp_path) == 1
    (listed,) = jobs(capsys, "list", "--open")
    assert main(["jobs", "attach", listed["job"]]) == 0
    assert (tmp_path / "film.mp4").is_file()
    assert len(server.jobs) == 1


def test_a_file_that_cannot_be_taken_is_tried_again_until_its_job_is_forgotten(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script.plan("download", "page", times=3)
    for _ in range(2):
        assert generate(tmp_path) == 1
        assert "jobs forget" in capsys.readouterr().err
    (listed,) = jobs(capsys, "list", "--open")
    assert (listed["state"], listed["money"], len(server.jobs)) == ("completed", "spent", 1)
    assert main(["jobs", "cancel", listed["job"]]) == 1
    assert main(["jobs", "forget", listed["job"]]) == 0
    assert f"not fetched: {server.url}/cdn/files/" in capsys.readouterr().out
    assert generate(tmp_path) == 0
    assert len(server.jobs) == 2


def test_a_job_that_somebody_works_on_is_not_forgotten(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, owner = Journal(folder / "jobs.sqlite", lambda: 0.0), OwnerLock(folder / "owners")
    order, _ = order_for(parse("text-to-video", {"prompt": "a", "seed": 7}), "fal", tmp_path / "film.mp4")
    choices: Any = {"reuse": True, "resubmit": False, "allow": lambda spent: None, "since": 0.0}
    job = journal.begin(order, Key("fal", KEY).account, owner, **choices)
    assert main(["jobs", "forget", job.job_id]) == 1
    assert "worked on by another process" in capsys.readouterr().err
    owner.retire()
    assert main(["jobs", "forget", job.job_id]) == 0
    journal.close()


def test_novita_is_reached_the_same_way(
    tmp_path: Path, folder: Path, novita: NovitaServer, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", "--on", "novita", "-o", str(tmp_path / "film.mp4"), "--prompt", "a red ball"]
    flags = ["--provider-url", novita.url, "--allow-loopback", "--json"]
    (folder / "keys.json").write_text(json.dumps({"novita": "sk_one"}))
    assert main([*command, "--aspect-ratio", "16:9", "--resolution", "480p", *flags]) == 0
    told = capsys.readouterr()
    assert "adjusted model: the model of this Novita endpoint" in told.err
    assert "price: unknown" in told.err
    assert json.loads(told.out)["receipt"]["runner"] == "novita"
    assert len(novita.jobs) == 1
    assert main([*command, "--novita-model", "Wan 2.2", "--seed", "7", *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["seed"], told["prompt"]) == (7, "a red ball")
    assert [task.path for task in novita.jobs.values()] == ["/v3/async/wan-t2v", "/v3/async/wan-2.2-t2v"]


BOARD = ["--kind", "shots", "--storyboard", "17f: a fox | 17f continue: it jumps | 17f dissolve 2: a ball"]


def test_shots_are_jobs_and_one_video(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server's clips have 8 frames."""
    out = tmp_path / "film.mp4"
    command = ["generate", *BOARD, "--on", "fal", "-o", str(out), "--interpolator-model", "none", "--json"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.err.index("price: about $0.2") < told.err.index("shot 1 of 3:")
    assert probe(out).frames == 8 + 7 + 6
    receipt = json.loads(out.with_suffix(".json").read_text())
    assert receipt == {**json.loads(told.out)["receipt"], "file": receipt["file"]}
    assert str(tmp_path) not in json.dumps(receipt)
    bodies = [job.body for job in server.jobs.values()]
    assert [body["prompt"] for body in bodies] == ["a fox", "it jumps", "a ball"]
    assert ["image_url" in body for body in bodies] == [False, True, False]
    assert sorted(tmp_path.glob("*")) == [folder.parent.parent, out.with_suffix(".json"), out]


def test_shots_that_were_bought_are_not_bought_again(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", *BOARD, "--on", "fal", "-o", str(tmp_path / "film.mp4")]
    (folder / "spending.json").write_text(json.dumps({"per_day_usd": 0.6}))  # enough for two
    assert main(command) == 1
    assert len(server.jobs) == 2
    assert not (tmp_path / "film.mp4").exists()
    (folder / "spending.json").unlink()
    assert main(command) == 0
    assert len(server.jobs) == 3


def test_several_shots_are_no_single_order(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="several orders"):
        order_for(parse("shots", {"storyboard": "a | b"}), "fal", tmp_path / "film.mp4")


def test_the_price_of_all_shots_counts_for_the_limit_of_a_run(
    tmp_path: Path, folder: Path, server: FalServer
) -> None:
    (folder / "spending.json").write_text(json.dumps({"per_run_usd": 0.2}))
    assert main(["generate", *BOARD, "--on", "fal", "-o", str(tmp_path / "film.mp4")]) == 1
    assert server.jobs == {}


def test_check_knows_the_prices_of_the_user(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = "fal-ai/wan/v2.2-a14b/text-to-video"
    price = {"unit": "video", "usd": 3.0, "as_of": "2026-11", "source": "my invoice"}
    (folder / "spending.json").write_text(json.dumps({"prices": {endpoint: price}}))
    assert main(["check", "--on", "fal", "--prompt", "x"]) == 0
    assert "about $3.00 (one price for a video of any length; my invoice, 2026-11)" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C cannot be sent to one process there")
def test_ctrl_c_cancels_the_job_at_the_provider(tmp_path: Path, folder: Path, server: FalServer) -> None:
    server.queue_looks = 10**6
    command = ["generate", "--on", "fal", "-o", str(tmp_path / "film.mp4"), "--prompt", "a red ball"]
    process = subprocess.Popen(
        [sys.executable, "-m", "wan_duet", *command],
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background of a shell inherit that this signal is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 30
    while not server.script.calls["status"]:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=30)[1]
    assert process.returncode == 130, told
    assert "stopped; fal says: cancelled" in told
    assert [job.state for job in server.jobs.values()] == ["CANCELLED"]
    assert not list(tmp_path.glob("film*"))


@pytest.mark.parametrize(
    "flags",
    [
        ["--on", "fal", "--model", "toy"],
        ["--model", "toy", "--resubmit"],
        ["--on", "fal", "--device", "cpu"],
        ["--on", "fal", "--precision", "stored"],
        ["--on", "fal", "--allow-partial-loras"],
        ["--on", "fal", "--novita-model", "Wan 2.2"],
        ["--model", "toy", "--novita-model", "Wan 2.2"],
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert main(["generate", "-o", str(tmp_path / "a.mp4"), "--prompt", "x", *flags]) == 2
    assert "given with --on" in capsys.readouterr().err


def test_check_speaks_of_the_model_that_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["check", "--prompt", "x", "--num-inference-steps", "20", "--novita-model", "Wan 2.2"]
    assert main([*asked, "--on", "novita"]) == 2
    assert "num_inference_steps" in capsys.readouterr().out
    assert main([*asked, "--on", "fal"]) == 2
    assert "given with --on fal" in capsys.readouterr().err


def test_an_address_of_the_command_line_goes_before_the_file(
    tmp_path: Path, folder: Path, server: FalServer
) -> None:
    (folder / "providers.json").write_text(json.dumps({"fal": "https://nowhere.test"}))
    assert generate(tmp_path, "--provider-url", server.url, "--allow-loopback") == 0
    assert len(server.jobs) == 1


def test_without_a_key_nothing_is_sent(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    os.unlink(folder / "keys.json")
    assert generate(tmp_path) == 1
    assert "no key" in capsys.readouterr().err
    assert server.jobs == {}


def test_the_key_is_written_nowhere(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tmp_path) == 0
    told = capsys.readouterr()
    secret = KEY.partition(":")[2]
    assert secret not in told.out + told.err
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.name != "keys.json":
            assert secret.encode() not in file.read_bytes(), file


def test_a_job_nobody_knows_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "show", "nonsense"]) == 1
    assert "no job nonsense" in capsys.readouterr().err

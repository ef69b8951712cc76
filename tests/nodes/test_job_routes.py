"""The jobs panel sees and does what `wan-duet jobs` does, and no page of another site gets that far."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from wan_duet.nodes.job_routes import add_job_routes
from wan_duet.pipelines.remote.job_actions import open_journal
from wan_duet.pipelines.remote.job_record import Job, Order
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.request.prices import Price

WORKFLOW = {"nodes": [], "version": 0.4}
CENTS = Price(0.05, 0.05, 0.05, "five cents")


def begin(folder: Path, prompt: str = "a red ball", **about: Any) -> Job:
    """A new job of a process that has ended."""
    owner = OwnerLock(folder / "owners")
    order = Order("fal", "fal-ai/wan", {"prompt": prompt, "seed": 7}, folder / "film.mp4", CENTS, about)
    with open_journal(folder) as journal:
        job = journal.begin(
            order, "0badcafe", owner, reuse=True, resubmit=False, allow=lambda _: None, since=time.time()
        )
        journal.release(job.job_id, owner)
    owner.retire()
    return job


def finish(folder: Path, job: Job, content: bytes) -> None:
    owner, file = OwnerLock(folder / "owners"), folder / "film.mp4"
    file.write_bytes(content)
    with open_journal(folder) as journal:
        journal.claim(job.job_id, owner)
        for state in ("submitting", "submitted", "completed"):
            journal.move(job.job_id, owner, state, money="spent")
        journal.move(job.job_id, owner, "done", file_path=str(file), size_bytes=len(content), charged=0.04)
    owner.retire()


def ask(
    folder: Path,
    path: str = "",
    body: object = None,
    headers: Mapping[str, str] | None = None,
    followed: list[str] | None = None,
) -> tuple[int, bytes]:
    """GET, or POST when there is a body; the status and the answer."""

    async def talk() -> tuple[int, bytes]:
        routes, app = web.RouteTableDef(), web.Application()
        add_job_routes(routes, lambda: folder, ([] if followed is None else followed).append)
        app.add_routes(routes)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/wan_duet/jobs{path}"
        data = None if body is None else json.dumps(body).encode()
        sent = {**({} if data is None else {"Content-Type": "application/json"}), **(headers or {})}
        method = "GET" if data is None else "POST"
        try:
            async with (
                ClientSession() as session,
                session.request(method, url, data=data, headers=sent) as got,
            ):
                return got.status, await got.read()
        finally:
            await runner.cleanup()

    return asyncio.run(talk())


def listed(folder: Path) -> dict[str, Any]:
    status, text = ask(folder)
    assert status == 200
    return dict(json.loads(text))


def test_without_jobs_no_journal_is_made(tmp_path: Path) -> None:
    assert listed(tmp_path) == {"jobs": [], "today": None}
    assert list(tmp_path.iterdir()) == []


def test_every_job_is_listed_with_the_money_of_today(tmp_path: Path) -> None:
    (tmp_path / "spending.json").write_text('{"per_day_usd": 2}', encoding="utf-8")
    done = begin(tmp_path, workflow=WORKFLOW)
    finish(tmp_path, done, b"film")
    waiting = begin(tmp_path, "a blue ball")
    told = listed(tmp_path)
    newest, oldest = told["jobs"]
    assert (newest["job"], newest["state"], newest["open"], newest["prompt"]) == (
        waiting.job_id,
        "intent",
        True,
        "a blue ball",
    )
    assert (newest["has_file"], newest["has_workflow"]) == (False, False)
    assert (oldest["state"], oldest["cost"], oldest["has_file"]) == ("done", "$0.0400 charged", True)
    assert (oldest["has_workflow"], oldest["is_picture"]) == (True, False)
    assert told["today"] == {
        "spent_usd": pytest.approx(0.09),  # an open job counts at the most it may cost
        "jobs_of_unknown_price": 0,
        "per_run_usd": None,
        "per_day_usd": 2.0,
    }


def test_file_and_workflow_are_those_of_the_job(tmp_path: Path) -> None:
    done, plain = begin(tmp_path, workflow=WORKFLOW), begin(tmp_path, "a blue ball")
    finish(tmp_path, done, b"film")
    assert ask(tmp_path, f"/file?job={done.job_id}") == (200, b"film")
    assert json.loads(ask(tmp_path, f"/workflow?job={done.job_id}")[1]) == WORKFLOW
    assert ask(tmp_path, f"/file?job={plain.job_id}")[0] == 404
    assert ask(tmp_path, f"/workflow?job={plain.job_id}")[0] == 400
    (tmp_path / "film.mp4").write_bytes(b"another film")
    assert ask(tmp_path, f"/file?job={done.job_id}")[0] == 404
    assert ask(tmp_path, "/file?job=../keys.json")[0] == 404


def test_attach_cancel_and_forget_do_what_the_command_does(tmp_path: Path) -> None:
    job, followed = begin(tmp_path), []
    body = {"job": job.job_id}
    assert ask(tmp_path, "/attach", body, followed=followed)[0] == 200
    assert followed == [job.job_id]
    assert "stopping" not in listed(tmp_path)["jobs"][0]
    assert ask(tmp_path, "/cancel", body, followed=followed)[0] == 200
    assert followed == [job.job_id] * 2
    assert listed(tmp_path)["jobs"][0]["stopping"] is True
    assert ask(tmp_path, "/forget", body)[0] == 200
    assert listed(tmp_path)["jobs"] == []


def test_a_job_that_may_bring_a_file_is_not_forgotten(tmp_path: Path) -> None:
    job, owner = begin(tmp_path), OwnerLock(tmp_path / "owners")
    with open_journal(tmp_path) as journal:
        journal.claim(job.job_id, owner)
        journal.move(job.job_id, owner, "submitting")
    status, told = ask(tmp_path, "/forget", {"job": job.job_id})
    assert (status, b"may bring a file" in told) == (400, True)
    assert len(listed(tmp_path)["jobs"]) == 1
    owner.retire()


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
@pytest.mark.parametrize("path", ["", "/file?job=JOB", "/workflow?job=JOB", "/attach", "/cancel", "/forget"])
def test_a_page_of_another_site_sees_and_does_nothing(
    tmp_path: Path, path: str, headers: Mapping[str, str]
) -> None:
    job, followed = begin(tmp_path, workflow=WORKFLOW), []
    body = {"job": job.job_id} if path in ("/attach", "/cancel", "/forget") else None
    status, told = ask(tmp_path, path.replace("JOB", job.job_id), body, headers, followed)
    assert status == 403
    assert b"red ball" not in told
    assert followed == []
    (row,) = listed(tmp_path)["jobs"]
    assert "stopping" not in row


@pytest.mark.parametrize(
    "body", [{}, {"job": ""}, {"job": 7}, {"job": "x", "more": ""}, ["x"], {"job": "nobody"}]
)
def test_a_wrong_body_is_refused(tmp_path: Path, body: object) -> None:
    begin(tmp_path)
    for action in ("/attach", "/cancel", "/forget"):
        assert ask(tmp_path, action, body)[0] == 400

"""What the jobs panel shows and does: the same as `wan-duet jobs`.

    GET  /wan_duet/jobs                         -> {"jobs": [newest first], "today": {...}}
    GET  /wan_duet/jobs/file?job=ID             -> the file of a finished job
    GET  /wan_duet/jobs/workflow?job=ID         -> the workflow that ordered it
    POST /wan_duet/jobs/attach|cancel|forget    {"job": ID} -> {"state"}

`own_page` guards all of them: prompts are private, and a cancelled job is lost.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..pipelines.errors import JournalError, WanDuetError
from .own_page import answer, read_body, refusal, require_own_page

if TYPE_CHECKING:
    from ..pipelines.remote.job_record import Job

__all__ = ["add_job_routes"]

_INSTEAD = "jobs are shown on ComfyUI's own page, or by wan-duet jobs"


def add_job_routes(
    routes: web.RouteTableDef, folder: Callable[[], Path], follow: Callable[[str], None]
) -> None:
    """Add the routes. folder: of the journal. follow: resumes a job by its id in the background."""

    @routes.get("/wan_duet/jobs")
    async def tell(request: web.Request) -> web.Response:
        require_own_page(request, _INSTEAD)
        return await answer(lambda: _list(folder()))

    @routes.get("/wan_duet/jobs/file")
    async def send(request: web.Request) -> web.StreamResponse:
        require_own_page(request, _INSTEAD)
        try:
            file = _find(folder(), request.query.get("job", "")).file
        except WanDuetError as error:
            raise refusal(web.HTTPNotFound, str(error)) from None
        if file is None:
            raise refusal(web.HTTPNotFound, "the file of this job is not there")
        return web.FileResponse(file)

    @routes.get("/wan_duet/jobs/workflow")
    async def workflow(request: web.Request) -> web.Response:
        require_own_page(request, _INSTEAD)
        return await answer(lambda: _workflow(_find(folder(), request.query.get("job", ""))))

    @routes.post("/wan_duet/jobs/{action:attach|cancel|forget}")
    async def act(request: web.Request) -> web.Response:
        body = await read_body(request, _INSTEAD, "job")
        if not isinstance(body["job"], str) or not body["job"]:
            raise refusal(web.HTTPBadRequest, "job: give the id of a job")
        return await answer(lambda: _act(request.match_info["action"], folder(), body["job"], follow))


def _list(folder: Path) -> dict[str, Any]:
    """Return all jobs, newest first, and the money spent today. Creates no journal."""
    from ..pipelines.remote.job_actions import money_of_today, open_journal

    if not (folder / "jobs.sqlite").exists():
        return {"jobs": [], "today": None}
    now = time.time()
    with open_journal(folder) as journal:
        jobs = journal.jobs()
        today = money_of_today(journal, folder, now)
    return {"jobs": [_shown(job, now) for job in reversed(jobs)], "today": today}


def _shown(job: Job, now: float) -> dict[str, Any]:
    """Return the facts about a job for a row of the panel: those of the command line without the payload."""
    from ..pipelines.remote.job_actions import cost_text, job_facts

    facts = job_facts(job)
    facts.pop("payload")
    file = job.file
    return {
        **facts,
        "open": job.is_open,
        "prompt": job.ordered("prompt"),
        "cost": cost_text(job),
        "elapsed_s": (job.closed_at or now) - (job.sent_at or job.created_at),
        "has_file": file is not None,
        "is_picture": file is not None and file.suffix in (".png", ".jpg", ".webp"),
        "has_workflow": "workflow" in json.loads(job.about_json),
    }


def _find(folder: Path, job_id: str) -> Job:
    from ..pipelines.remote.job_actions import open_journal

    if not (folder / "jobs.sqlite").exists():
        raise JournalError("there are no jobs yet")
    with open_journal(folder) as journal:
        return journal.job(job_id)


def _workflow(job: Job) -> object:
    about = json.loads(job.about_json)
    if "workflow" not in about:
        raise JournalError(f"job {job.job_id[:8]} was not ordered by a workflow")
    return about["workflow"]


def _act(action: str, folder: Path, job_id: str, follow: Callable[[str], None]) -> dict[str, str]:
    from ..pipelines.remote.job_actions import cancel_job, forget_job

    job = _find(folder, job_id)
    if action == "forget":
        forget_job(folder, job.job_id)
        return {"state": "forgotten"}
    if action == "cancel":
        cancel_job(folder, job.job_id)
    if job.is_open:
        follow(job.job_id)
    return {"state": _find(folder, job_id).state}

"""Nodes that run a request at a provider, or wait for a job started there earlier."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from comfy import model_management

from ..pipelines.errors import RequestError
from ..pipelines.request import NOVITA_MODELS, NovitaModel, RequestWithMedia, class_of
from ..pipelines.request.kinds import TRAININGS
from ..pipelines.request.media_batches import bought_one_by_one
from ..pipelines.request.shots import is_film
from .comfy_interface import io
from .files import EMBED_METADATA, new_video_file, workflow_tags
from .finished_files import note_file, times_lost
from .lora_files import lora_sources
from .outgoing import allowed_file, written_media
from .remote_film import bought_film
from .remote_jobs import PurchaseTerms, purchasing_at, remote_folder, remote_jobs
from .remote_progress import RemoteProgress
from .remote_result import film_outputs, is_picture, result_outputs, to_outputs
from .return_images import images_are_read, require_images_wanted, return_images_input
from .sockets import WanRequestSocket

if TYPE_CHECKING:
    from ..pipelines.remote.film_order import FilmOrder
    from ..pipelines.remote.job_record import Job, Order
    from ..pipelines.remote.payload import Prepared
    from ..pipelines.remote.spending import Spending
    from ..pipelines.remote.spending_limits import SpendingLimits
    from ..pipelines.request import Finding, WanRequest

__all__ = ["RUNNERS", "WanDuetJob", "novita_model_input", "runner_node"]

_DEAREST = 10_000.0  # US dollars; no run costs as much


class Runner(NamedTuple):
    node_id: str
    display_name: str
    provider: str
    description: str
    search_aliases: tuple[str, ...]


RUNNERS = (
    Runner(
        "WanDuetRunFal",
        "Wan Duet Run fal",
        "fal",
        "Runs a request at fal.ai with your own key and saves the video or image in the output folder. "
        "Stop cancels the job at fal. An open job continues after a restart of ComfyUI.",
        ("fal.ai", "fal api", "wan api", "run remotely", "cloud"),
    ),
    Runner(
        "WanDuetRunNovita",
        "Wan Duet Run Novita",
        "novita",
        "Runs a request at Novita AI with your own key and saves the video in the output folder. Novita "
        "cannot cancel a job: after Stop the video is still downloaded, and the same request returns it for "
        "free.",
        ("novita.ai", "novita api", "wan api", "run remotely", "cloud"),
    ),
)


def runner_node(runner: Runner) -> type[io.ComfyNode]:
    """Create the node that runs requests at one provider."""

    class Run(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema(
                node_id=runner.node_id,
                display_name=runner.display_name,
                category="Wan Duet/run",
                description=runner.description,
                search_aliases=list(runner.search_aliases),
                inputs=[*_runner_inputs(), *([novita_model_input()] if runner.provider == "novita" else ())],
                outputs=result_outputs(),
                hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
                has_intermediate_output=True,
            )

        @classmethod
        def fingerprint_inputs(cls, **_: object) -> int:
            return times_lost(cls.hidden.unique_id, reads_images=images_are_read(cls.hidden.unique_id))

        @classmethod
        async def execute(
            cls,
            request: RequestWithMedia,
            filename_prefix: str,
            reuse: bool,
            resubmit: bool,
            max_price_usd: float,
            return_images: bool,
            novita_model: NovitaModel = NOVITA_MODELS[0],
        ) -> io.NodeOutput:
            from ..pipelines.remote.experience import known_spending

            require_images_wanted(cls.hidden, request.request.task, return_images)
            spending = await asyncio.to_thread(known_spending, remote_folder())
            limits = _limits(spending.limits, max_price_usd)
            workflow = (cls.hidden.extra_pnginfo or {}).get("workflow")  # a program may send none
            terms = PurchaseTerms(limits, workflow if EMBED_METADATA else None, reuse, resubmit)
            if is_film(request.request):
                film = await asyncio.to_thread(
                    _film_order, request, runner.provider, filename_prefix, spending, novita_model
                )
                bought = await bought_film(*film, terms, cls.hidden.unique_id, workflow_tags(cls.hidden))
                note_file(cls.hidden.unique_id, bought.path, has_images=return_images or not reuse)
                return film_outputs(bought, film[0].report.told, return_images=return_images)
            # Files are read for their hashes, which must not hold up the nodes beside this one.
            order, prepared = await asyncio.to_thread(
                _order, request, runner.provider, filename_prefix, spending, novita_model
            )
            progress = RemoteProgress(cls.hidden.unique_id, _remarks(order))
            ticket = purchasing_at(runner.provider, terms)(order, prepared, progress.receive)
            job = await ticket.wait(progress.refresh)
            progress.show(_end(job, reused=not progress.has_received))
            return _finished(cls.hidden.unique_id, job, return_images, free=reuse)

    Run.__name__ = Run.__qualname__ = runner.node_id
    return Run


class WanDuetJob(io.ComfyNode):
    """Waits for a job that was started earlier."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetJob",
            display_name="Wan Duet Job",
            category="Wan Duet/run",
            description="Waits for a job that was started at a provider earlier, here or with wan-duet, and "
            "returns its result. Never starts a paid job. Stop cancels the job.",
            search_aliases=["attach job", "resume job", "request id", "lost video"],
            inputs=[
                io.String.Input(
                    "job_id",
                    default="",
                    tooltip="The job id, or its first characters. `wan-duet jobs list` shows all jobs.",
                ),
                return_images_input(),
            ],
            outputs=result_outputs(),
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> int:
        return times_lost(cls.hidden.unique_id, reads_images=images_are_read(cls.hidden.unique_id))

    @classmethod
    async def execute(cls, job_id: str, return_images: bool) -> io.NodeOutput:
        if not job_id.strip():
            raise RequestError.of("job_id", "empty", "give the id of a job; `wan-duet jobs list` shows them")
        thread, accounts = remote_jobs()
        job = thread.journal.find(job_id.strip())
        if job.kind in TRAININGS:
            fix = f"run Wan Duet Train LoRA again, or `wan-duet jobs attach {job.job_id[:8]}`"
            raise RequestError.of("job_id", "a training, which returns no video", fix)
        require_images_wanted(cls.hidden, class_of(job.kind).task, return_images)
        if job.is_open:
            remarks = tuple(finding.line() for finding in job.findings)
            progress = RemoteProgress(cls.hidden.unique_id, remarks)
            job = await thread.attach(job.job_id, accounts.of(job), progress.receive).wait(progress.refresh)
            progress.show(_end(job, reused=False))
        return _finished(cls.hidden.unique_id, job.delivered(), return_images, free=True)


def _runner_inputs() -> list[io.Input]:
    return [
        WanRequestSocket.Input("request", tooltip="The request to run."),
        io.String.Input(
            "filename_prefix",
            default="video/WanDuet",
            tooltip="Start of the file name in the output folder; may contain folders. "
            "%date:yyyy-MM-dd% is replaced.",
        ),
        io.Boolean.Input(
            "reuse",
            default=True,
            tooltip="On: return the file of an identical request that was paid for earlier, for free. If the "
            "file is gone, fetch it from the provider again while it keeps it. Off: start a new paid job "
            "whenever ComfyUI runs the node.",
        ),
        io.Boolean.Input(
            "resubmit",
            default=False,
            tooltip="On: submit again after the answer to an earlier submit was lost and it is unknown "
            "whether the job exists. You may pay twice, so check the provider's site first.",
        ),
        io.Float.Input(
            "max_price_usd",
            default=0.0,
            min=0.0,
            max=_DEAREST,
            step=0.1,
            round=0.001,
            tooltip="Reject a run that may cost more than this, or whose price is unknown. 0: only the "
            "limits in spending.json apply.",
        ),
        return_images_input(),
    ]


def novita_model_input() -> io.Input:
    return io.Combo.Input(
        "novita_model",
        options=list(NOVITA_MODELS),
        default=NOVITA_MODELS[0],
        optional=True,
        tooltip="The Novita model to use. Wan 2.1 accepts steps, guidance and shift; Wan 2.2 chooses them "
        "itself.",
    )


def _order(
    request: RequestWithMedia,
    provider: str,
    filename_prefix: str,
    spending: Spending,
    novita_model: NovitaModel,
) -> tuple[Order, Prepared]:
    """Make the order. Raises RequestError that lists what the provider cannot do. Sends nothing."""
    from ..pipelines.remote.order import order_for

    return order_for(
        request.request,
        provider,
        _new_file(filename_prefix),
        media=written_media(request.media),
        prices=spending.prices,
        find=allowed_file,
        check_stop=model_management.throw_exception_if_processing_interrupted,
        novita_model=novita_model,
        found=[*_found_in_loras(request.request), *bought_one_by_one(request)],
    )


def _film_order(
    request: RequestWithMedia,
    provider: str,
    filename_prefix: str,
    spending: Spending,
    novita_model: NovitaModel,
) -> tuple[FilmOrder, Path]:
    """Order the shots of a request, as `_order` orders one video. Return also the file of the video."""
    from ..pipelines.remote.film_order import FILMS, OrderTerms, film_order

    out = _new_file(filename_prefix)
    check_stop = model_management.throw_exception_if_processing_interrupted
    terms = OrderTerms(provider, spending.prices, novita_model, allowed_file, check_stop, _found_in_loras)
    media = written_media(request.media)
    film = film_order(request.request, terms, remote_folder() / FILMS, media, bought_one_by_one(request))
    return film, out


def _found_in_loras(request: WanRequest) -> list[Finding]:
    from ..pipelines.generate.lora_findings import lora_findings

    return lora_findings(request, lora_sources(online=False))


def _new_file(filename_prefix: str) -> Path:
    for size in ("%width%", "%height%"):
        if size in filename_prefix:
            fix = "leave it out; the provider decides the size"
            raise RequestError.of("filename_prefix", f"{size} is not known before", fix)
    return new_video_file(filename_prefix, save=True, width=0, height=0).path


def _finished(node_id: str | None, job: Job, return_images: bool, *, free: bool) -> io.NodeOutput:
    """Return the outputs of a finished job. free: running the node again buys nothing."""
    file = Path(str(job.file_path))
    # A run that is not free is not repeated only to say that it has no images.
    note_file(node_id, file, has_images=return_images or is_picture(file) or not free)
    return to_outputs(job, return_images=return_images)


def _limits(limits: SpendingLimits, max_price_usd: float) -> SpendingLimits:
    """Return the limits of the settings, or the node's own if it is lower."""
    if not max_price_usd:
        return limits
    per_run = limits.per_run_usd
    return replace(limits, per_run_usd=max_price_usd if per_run is None else min(per_run, max_price_usd))


def _remarks(order: Order) -> tuple[str, ...]:
    """Return the assumptions of the price, and the findings of the check."""
    return (f"price: {order.price.text()}", *(finding.line() for finding in order.findings))


def _end(job: Job, *, reused: bool) -> str:
    """Describe a finished job: how long it took and what it cost."""
    if reused:
        return f"job {job.job_id[:8]} · paid for before, nothing spent now"
    cost = (
        f"price {job.price_text.partition(' (')[0]}" if job.charged is None else f"${job.charged:.4f} charged"
    )
    minutes, seconds = divmod(int((job.closed_at or job.updated_at) - (job.sent_at or job.created_at)), 60)
    return f"job {job.job_id[:8]} · done · {minutes:02}:{seconds:02} · {cost}"

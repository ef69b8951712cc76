"""Several devices for one video: what Load Model says of them, and what Run Local and Check do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..pipelines.errors import RequestError
from ..pipelines.request import WanRequest
from ..pipelines.request.field_rows import is_content_or_address, is_media, with_texts
from ..pipelines.request.parse import parse
from .outgoing import allowed_file

if TYPE_CHECKING:
    from ..pipelines.generate.local_worker import LocalWorker
    from ..pipelines.generate.result import Result
    from ..pipelines.loading.wan_model import GpusOfModel, WanModel
    from ..pipelines.request.report import Report

__all__ = ["expected_on_gpus", "gpus_of_model", "run_on_gpus_of"]


def gpus_of_model(gpus: str, arguments: Mapping[str, Any]) -> GpusOfModel:
    """Return the devices of a text such as "0,1". arguments: those with which the model was loaded.

    Raises RequestError for what is no list of devices, or what several devices cannot do.
    """
    from ..pipelines.loading.wan_model import GpusOfModel
    from ..pipelines.parallel.device_names import devices_of

    devices = devices_of(gpus)
    if arguments["preferences"].compiler is not None:
        fix = "switch compile off, or leave gpus empty"
        raise RequestError.of("compile", "compiled blocks cannot exchange tokens between devices", fix)
    return GpusOfModel(devices, {name: _as_json(value) for name, value in arguments.items()})


def run_on_gpus_of(
    model: WanModel, worker: LocalWorker, request: WanRequest, media: Mapping[str, Path], **options: Any
) -> Result:
    """Run a request on the devices of a model. media: files of connected inputs.

    options: of `run_on_gpus`, which says what is raised.
    """
    from ..pipelines.generate.gpu_process import run_on_gpus

    assert model.gpus is not None  # noqa: S101

    def with_path(field: str, text: str) -> str:
        if not is_media(field) or (field not in media and is_content_or_address(text)):
            return text
        return str(media.get(field) or allowed_file(text, field))

    named = parse(request.kind, with_texts(request.document(), with_path))
    return run_on_gpus(worker, named, gpus=model.gpus, **options)


def expected_on_gpus(model: WanModel, request: WanRequest, report: Report) -> str:
    """Return one line: what the devices of a model are worth. Empty for a request that cannot run here."""
    from ..pipelines.cli.gpu_estimate import estimate_on_gpus
    from ..pipelines.cli.known_rates import known_rates
    from ..pipelines.plan.plan import make_plan

    if model.gpus is None or report.resolved is None or report.resolved.size is None:
        return ""
    plan = make_plan(report.resolved, model.family, seed=0)  # the seed changes no time
    rates = known_rates(request, model).rates
    try:
        return estimate_on_gpus(len(model.gpus.devices), plan, model.family, model, rates).text()
    except RequestError as error:
        return str(error)


def _as_json(value: Any) -> Any:
    """Return an argument of `load_model` as a JSON value."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list):
        return [str(file) for file in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value

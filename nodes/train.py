"""The node that has a LoRA trained at a provider."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import folder_paths

from ..pipelines.errors import RequestError
from ..pipelines.request.contracts import DESCRIPTIONS
from ..pipelines.request.kinds import TRAININGS, training_table
from .comfy_interface import io
from .remote_jobs import remote_folder, remote_jobs
from .remote_progress import RemoteProgress
from .widgets import PROVIDER_DEFAULT, SWITCH

__all__ = ["WanDuetTrainLora"]

_DEFAULTS = {row.name: row.default for row in training_table(next(iter(TRAININGS)))}


class WanDuetTrainLora(io.ComfyNode):
    """Trains a LoRA at fal and saves it in models/loras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetTrainLora",
            display_name="Wan Duet Train LoRA",
            category="Wan Duet/run",
            description="Trains a LoRA for Wan 2.2 A14B at fal.ai with your own key and saves it in "
            "models/loras, with its receipt. Takes minutes to hours and goes on after a restart of ComfyUI: "
            "run the node again to wait for it. Stop cancels the training.",
            search_aliases=["lora training", "fal trainer", "wan-22-trainer", "train lora"],
            inputs=[
                io.String.Input(
                    "dataset",
                    default="",
                    tooltip="A folder or a ZIP file in ComfyUI's input folder, with images and videos, each "
                    "with or without a caption of its name in a .txt file.",
                ),
                io.Combo.Input(
                    "training",
                    options=list(TRAININGS),
                    tooltip="t2v: for text to video; i2v: for image to video, which needs a video in the "
                    "dataset.",
                ),
                io.Int.Input(
                    "number_of_steps",
                    default=_DEFAULTS["number_of_steps"],
                    min=1,
                    max=100_000,
                    tooltip=DESCRIPTIONS["number_of_steps"],
                ),
                io.Float.Input(
                    "learning_rate",
                    default=_DEFAULTS["learning_rate"],
                    min=0.0,
                    max=1.0,
                    step=0.00005,
                    round=False,
                    tooltip=DESCRIPTIONS["learning_rate"],
                ),
                io.String.Input("trigger_phrase", default="", tooltip=DESCRIPTIONS["trigger_phrase"]),
                io.Combo.Input(
                    "auto_scale_input",
                    options=[PROVIDER_DEFAULT, *SWITCH],
                    tooltip=DESCRIPTIONS["auto_scale_input"],
                ),
                io.String.Input(
                    "name", default="", tooltip="Name of the LoRA in models/loras; may contain a folder."
                ),
                io.Boolean.Input(
                    "consent",
                    default=False,
                    tooltip="On: upload the dataset to fal and pay. Off: the node stops with the dataset's "
                    "hash and size and the price, and nothing leaves this machine.",
                ),
                io.Boolean.Input(
                    "resubmit",
                    default=False,
                    tooltip="On: submit again after the answer to an earlier submit was lost. You may pay "
                    "twice, so check the provider's site first.",
                ),
            ],
            outputs=[
                io.String.Output("lora", tooltip="Name of the LoRA below models/loras."),
                io.String.Output("receipt", tooltip="JSON: the settings, the dataset's hash and the price."),
                io.String.Output("job_id", tooltip="Id of the job, for wan-duet jobs."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, dataset: str, training: str, consent: bool, **settings: Any) -> io.NodeOutput:
        from ..pipelines.remote.experience import known_spending
        from ..pipelines.remote.order import uploading
        from ..pipelines.remote.remote_receipt import remote_receipt
        from ..pipelines.remote.training import training_order, without_deadline
        from ..pipelines.remote.training_data import read_dataset

        place, source = _place(settings.pop("name")), _source(dataset)
        resubmit = settings.pop("resubmit")
        spending = await asyncio.to_thread(known_spending, remote_folder())
        with tempfile.TemporaryDirectory(dir=folder_paths.get_temp_directory()) as work:
            data = await asyncio.to_thread(read_dataset, source, Path(work))
            order, prepared = training_order(training, _chosen(settings), data, place, spending.prices)
            if not consent:
                found = f"off. Dataset {data.text()}. Price {order.price.text()}"
                raise RequestError.of("consent", found, "turn it on to upload the dataset to fal and to pay")
            thread, accounts = remote_jobs()
            account = accounts.at("fal")
            progress = RemoteProgress(cls.hidden.unique_id, (f"price: {order.price.text()}",))
            ticket = thread.buy(
                order,
                account,
                limits=without_deadline(spending.limits),
                prepare=uploading(prepared, account),
                on_event=progress.receive,
                resubmit=resubmit,
            )
            job = await ticket.wait(progress.refresh)
        lora = Path(str(job.file_path)).resolve().relative_to(_loras()).as_posix()
        receipt = json.dumps(remote_receipt(job), ensure_ascii=False)
        return io.NodeOutput(lora, receipt, job.job_id)


def _chosen(settings: dict[str, Any]) -> dict[str, Any]:
    scale = settings.pop("auto_scale_input")
    return settings if scale == PROVIDER_DEFAULT else {**settings, "auto_scale_input": SWITCH[scale]}


def _loras() -> Path:
    return Path(folder_paths.get_folder_paths("loras")[0]).resolve()


def _place(name: str) -> Path:
    """Return the file in models/loras. Raises RequestError for a name that is empty or leads out of it."""
    bare = name.strip().removesuffix(".safetensors")
    place = (_loras() / f"{bare}.safetensors").resolve()
    if not bare or not place.is_relative_to(_loras()):
        raise RequestError.of("name", f"got {name!r}", "give a name of a file in models/loras")
    return place


def _source(dataset: str) -> Path:
    """Return a folder or file in the input folder: a workflow of somebody else must upload nothing else."""
    root = Path(folder_paths.get_input_directory()).resolve()
    source = (root / dataset.strip()).resolve()
    if not dataset.strip() or not source.is_relative_to(root) or not source.exists():
        fix = "copy the folder or ZIP file into ComfyUI's input folder and give its name"
        raise RequestError.of("dataset", f"{dataset[:200]!r} is nothing in ComfyUI's input folder", fix)
    return source

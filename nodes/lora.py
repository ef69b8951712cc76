"""LoRAs, on a model and on a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..pipelines.errors import LoraError
from ..pipelines.request import RequestWithMedia, read_loras, with_lora
from ..pipelines.request.contracts import DESCRIPTIONS
from .comfy_interface import io
from .host_progress import NodeProgress
from .lora_choice import NONE, chosen_loras, for_task
from .lora_files import (
    lora_choices,
    lora_sources,
    missing_in_rows,
    stamps,
    stamps_of_rows,
)
from .sockets import WanModelSocket, WanRequestSocket

if TYPE_CHECKING:
    from ..pipelines.loading.host_model import AnyModel


class _LoraNode(io.ComfyNode):
    """The part that both nodes share: checks of the chosen files, and when they have changed."""

    @classmethod
    def validate_inputs(cls, rows: str | None = None) -> bool | str:
        """Check only the rows. ComfyUI shows the answer under each input that is named in this signature."""
        return missing_in_rows(rows or "") or True

    @classmethod
    def chosen(cls, *, rows: str = "", **settings: Any) -> list[Any]:
        """Return `chosen_loras`. Also checks rows from a link, which `validate_inputs` does not see.

        Raises LoraError for a row whose file is missing.
        """
        if problem := missing_in_rows(rows):
            raise LoraError(problem)
        return chosen_loras(rows=rows, **settings)

    @classmethod
    def fingerprint_inputs(
        cls,
        file: str | None,
        path: str | None,
        low_file: str | None = None,
        rows: str | None = None,
        **_others: Any,
    ) -> object:
        return [*stamps((file, path, low_file)), *stamps_of_rows(rows or "")]


class WanDuetLora(_LoraNode):
    """Adds a LoRA, or a pair, to a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetLora",
            display_name="Wan Duet LoRA",
            category="Wan Duet/blocks",
            description="Adds LoRAs to the experts of a model and reports how much of each fits. The table "
            "holds any number of them; their order does not matter.",
            search_aliases=[
                "wan lora loader",
                "lora high low",
                "lora high noise",
                "lora low noise",
                "power lora",
                "lora stack",
                "load lora",
                "lora wan 2.2",
            ],
            inputs=[
                WanModelSocket.Input(
                    "model", tooltip="The model to add the LoRA to. It is not changed itself."
                ),
                *_lora_inputs(),
                io.Boolean.Input(
                    "allow_partial",
                    default=False,
                    optional=True,
                    tooltip="On: apply a LoRA even if only a small part of it fits this model. Off: reject "
                    "it, because it would have little or no effect.",
                ),
                _rows_input(),
            ],
            outputs=[
                WanModelSocket.Output("model", tooltip="The model with this LoRA."),
                io.String.Output(
                    "report", tooltip="What the file contains and how much of it fits each expert."
                ),
            ],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, model: AnyModel, allow_partial: bool = False, **settings: Any) -> io.NodeOutput:
        from ..pipelines.generate.lora_chain import lora_report, with_loras
        from ..pipelines.weights.lora.coverage_picture import coverage_picture

        loras, progress = read_loras(cls.chosen(**settings)), NodeProgress(cls.hidden.unique_id)
        changed = with_loras(model, loras, lora_sources(), progress, allow_partial=allow_partial)
        added = changed.loras[len(model.loras) :]
        report = lora_report(added) or "No LoRA is chosen: the model is unchanged."
        shown: dict[str, Any] = {"text": [report], "wan_duet_picture": [coverage_picture(added)]}
        return io.NodeOutput(changed, report, ui=shown)


class WanDuetRequestLora(_LoraNode):
    """Adds a LoRA, or a pair, to a request."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetRequestLora",
            display_name="Wan Duet Request LoRA",
            category="Wan Duet/request",
            description="Adds LoRAs to a request. The table holds any number of them.",
            search_aliases=["wan lora", "lora high low", "lora high noise", "power lora", "request lora"],
            inputs=[
                WanRequestSocket.Input("request", tooltip="The request to add the LoRA to."),
                *_lora_inputs(),
                _rows_input(),
            ],
            outputs=[WanRequestSocket.Output("request", tooltip="The request with this LoRA.")],
        )

    @classmethod
    def execute(cls, request: RequestWithMedia, **settings: Any) -> io.NodeOutput:
        wanted = request.request
        for lora in for_task(wanted.task, wanted.kind, cls.chosen(**settings)):
            wanted = with_lora(wanted, lora)
        return io.NodeOutput(request._replace(request=wanted))


def _lora_inputs() -> list[io.Input]:
    """In the order that saved workflows know."""
    return [
        io.Combo.Input(
            "file",
            options=lora_choices(),
            default=NONE,
            tooltip="A LoRA in models/loras, or one of the embedded model (toy/...). none: use path instead.",
        ),
        io.String.Input(
            "path",
            default="",
            tooltip="A Hugging Face repository (owner/name) or an https URL, such as one of Civitai. A "
            "local run downloads it once into models/loras. Leave empty to use file.",
        ),
        io.String.Input("weight_name", default="", tooltip=DESCRIPTIONS["weight_name"]),
        _scale_input("scale", DESCRIPTIONS["scale"]),
        io.Combo.Input(
            "transformer",
            options=["high", "low", "both"],
            default="high",
            tooltip=DESCRIPTIONS["transformer"],
        ),
        io.Combo.Input(
            "low_file",
            options=lora_choices(),
            default=NONE,
            optional=True,
            tooltip="For a LoRA that is a pair of files: this one is applied to the low-noise expert, "
            "file to the high-noise one.",
        ),
        _scale_input("low_scale", "Strength of low_file.", optional=True),
        io.String.Input(
            "loras",
            default="",
            optional=True,
            tooltip="For scripts: more LoRAs as a JSON list, as in the field loras of a request. "
            'Example: [{"path": "a.safetensors", "scale": 1.0, "transformer": "both"}].',
        ),
    ]


def _rows_input() -> io.Input:
    """Drawn as a table by web/lora_rows.js. Stands last: it was added when workflows had all the others."""
    return io.String.Input(
        "rows",
        default="[]",
        optional=True,
        tooltip="More LoRAs as a table: one file a row, with its strength on each expert. As JSON: "
        '[{"file": "a.safetensors", "high": 1.0, "low": 1.0, "on": true}]; see docs/lora-rows.md.',
    )


def _scale_input(name: str, tooltip: str, optional: bool = False) -> io.Input:
    return io.Float.Input(
        name,
        default=1.0,
        min=-100.0,
        max=100.0,
        step=0.05,
        round=0.001,
        optional=optional,
        tooltip=tooltip,
    )

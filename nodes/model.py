"""Nodes around a model: load it, and read prompts with its text encoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from comfy_api.latest import io

from ..pipelines.errors import ModelError
from ..pipelines.memory import PRECISIONS, Precision
from .conditioning import to_conditioning
from .listing import find_models, pick, stamp
from .memory import HostMemory
from .progress import NodeProgress
from .sockets import WanModelSocket

if TYPE_CHECKING:
    from ..pipelines.models.wan_model import WanModel

log = logging.getLogger(__name__)

_TOY = "toy"
_FOLDERS = ("diffusers", "diffusion_models")


class WanDuetLoadModel(io.ComfyNode):
    """A model, by name. Loads no weights yet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetLoadModel",
            display_name="Wan Duet Load Model",
            category="Wan Duet/blocks",
            description="Chooses a Wan model. Weights are read when a step needs them, one expert at a time.",
            search_aliases=["wan model loader", "diffusers loader", "load wan 2.2"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[_TOY, *_listed()],
                    default=_TOY,
                    tooltip="toy is tiny, comes with the pack and runs on any machine. "
                    "The others are in models/diffusers or models/diffusion_models.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="auto",
                    tooltip="What networks compute in. auto: fp32 on a CPU, bf16 on most GPUs, else fp16.",
                ),
            ],
            outputs=[WanModelSocket.Output("model", tooltip="Both experts, the VAE and the text encoder.")],
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        if model is None or model == _TOY or pick(model, _listed()) is not None:
            return True
        return f"{model} is not in models/{' or models/'.join(_FOLDERS)}; put it there, or choose another"

    @classmethod
    def fingerprint_inputs(cls, model: str | None, **_others: Any) -> object:
        path = None if model is None else pick(model, _listed())
        return stamp(path) if path else None

    @classmethod
    def execute(cls, model: str, precision: Precision) -> io.NodeOutput:
        from ..pipelines.models.wan_model import load_model

        source: Path | str | None = _TOY if model == _TOY else pick(model, _listed())
        if source is None:
            raise ModelError(
                f"{model}: no longer in models/{' or models/'.join(_FOLDERS)}; choose another model"
            )
        return io.NodeOutput(load_model(source, precision=precision))


class WanDuetEncodePrompt(io.ComfyNode):
    """Prompt and negative prompt -> CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetEncodePrompt",
            display_name="Wan Duet Encode Prompt",
            category="Wan Duet/blocks",
            description="Reads the prompts with the text encoder of the model, then drops the encoder.",
            search_aliases=["umt5", "wan text encode", "clip text encode wan"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The model whose text encoder reads the prompts."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="What the video should show, in any language.",
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    default="",
                    tooltip="What the video should not show. Has no effect where the guidance scale is 1.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="The prompt; core's samplers understand it too."),
                io.Conditioning.Output("negative", tooltip="The negative prompt."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: WanModel, prompt: str, negative_prompt: str) -> io.NodeOutput:
        from ..pipelines.stages import encode_prompts

        encoded = encode_prompts(
            model, [prompt, negative_prompt], HostMemory(), NodeProgress(cls.hidden.unique_id)
        )
        for name, text in zip(("prompt", "negative prompt"), encoded, strict=True):
            if text.dropped:
                log.warning("%s: its last %d tokens did not fit and are not used", name, text.dropped)
        return io.NodeOutput(*(to_conditioning(text.embeddings) for text in encoded))


def _listed() -> dict[str, Path]:
    roots = [root for folder in _FOLDERS for root in folder_paths.get_folder_paths(folder)]
    return find_models(roots)

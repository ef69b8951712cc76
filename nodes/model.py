"""Nodes around a model: load it, and read prompts with its text encoder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import folder_paths
from comfy_api.latest import io

from ..pipelines.device.memory import RESIDENCIES
from ..pipelines.device.precision import PRECISIONS, Precision
from ..pipelines.embedded.toy_model import EMBEDDED
from ..pipelines.errors import ModelError
from ..pipelines.kernels.kernel_names import ATTENTIONS, COMPILER, KERNELS, Attention, Kernels
from .conditioning import to_conditioning
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .listing import find_models, pick, stamp
from .sockets import WanModelSocket

if TYPE_CHECKING:
    from ..pipelines.loading.wan_model import WanModel

log = logging.getLogger(__name__)

_NONE: Final = "none"
_AUTO: Final = "auto"
# The folders that each input looks in, and what it may say instead of naming a file: first the default.
_SLOTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "model": (("diffusers", "diffusion_models"), tuple(EMBEDDED)),
    "low_model": (("diffusers", "diffusion_models"), (_NONE,)),
    "vae": (("vae",), (_AUTO,)),
    "text_encoder": (("text_encoders",), (_AUTO,)),
    "image_encoder": (("clip_vision",), (_AUTO,)),
    "audio_encoder": (("audio_encoders",), (_AUTO,)),
}


class WanDuetLoadModel(io.ComfyNode):
    """A model, by name. Loads no weights yet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetLoadModel",
            display_name="Wan Duet Load Model",
            category="Wan Duet/blocks",
            description="Chooses a Wan model: a folder with everything, or single files. Weights are read "
            "when a step needs them.",
            search_aliases=["wan model loader", "diffusers loader", "load wan 2.2", "unet loader gguf"],
            inputs=[
                _file_input(
                    "model",
                    "toy is tiny, comes with the pack and runs on any machine; toy-image is its pair that "
                    "begins with an image, toy-speech tries speech. The others are in models/diffusers or "
                    "models/diffusion_models. Of the two files of Wan 2.2 A14B, choose the high-noise one.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="auto",
                    tooltip="What networks compute in. auto: what ComfyUI would take for them, by its flags "
                    "and the device: fp32 on a CPU, bf16 on most GPUs.",
                ),
                _file_input(
                    "low_model",
                    "The low-noise file of Wan 2.2 A14B, when model is the high-noise file. Nothing inside "
                    "the files tells the two apart: take care of the order. none for models of one file or "
                    "folder.",
                    optional=True,
                ),
                _file_input(
                    "vae",
                    "A file in models/vae. auto takes the one of the folder; for a model of single files, "
                    "the one in models/vae that fits.",
                    optional=True,
                ),
                _file_input(
                    "text_encoder",
                    "A UMT5 file in models/text_encoders. auto takes the one of the folder; for a model of "
                    "single files, the one in models/text_encoders that fits.",
                    optional=True,
                ),
                io.Combo.Input(
                    "residency",
                    options=list(RESIDENCIES),
                    default="auto",
                    optional=True,
                    tooltip="How much of the experts lies on the device while they run. auto: what fits. "
                    "resident: all of it. ring: a few blocks at a time, the rest comes while they compute. "
                    "The result is the same to the bit.",
                ),
                _file_input(
                    "image_encoder",
                    "A CLIP file in models/clip_vision. Only Wan 2.1 image to video needs one; auto takes "
                    "the one that fits.",
                    optional=True,
                ),
                _file_input(
                    "audio_encoder",
                    "Only for speech to video: a wav2vec 2.0 file in models/audio_encoders. auto takes the "
                    "one of the folder; for a model of single files, the one of models/audio_encoders that "
                    "fits.",
                    optional=True,
                ),
                io.Combo.Input(
                    "attention",
                    options=[_AUTO, *ATTENTIONS],
                    default=_AUTO,
                    optional=True,
                    tooltip="The kernel of the experts' attention. auto: the quickest exact one that the "
                    "device has. sage is lossy, and on some GPUs quicker still; it needs the package "
                    "sageattention.",
                ),
                io.Boolean.Input(
                    "compile",
                    default=False,
                    optional=True,
                    tooltip="Compile the experts' block, in the first forward: less memory beside the "
                    "weights, seldom less time. Needs triton on a GPU, a C++ compiler on a CPU.",
                ),
                io.Combo.Input(
                    "kernels",
                    options=[_AUTO, *KERNELS],
                    default=_AUTO,
                    optional=True,
                    tooltip="Who does the element-wise work of the experts and of the VAE. auto: the "
                    "quickest that runs on the device, which is tried. plain: torch alone, on every device. "
                    "kitchen needs the package comfy-kitchen, triton its package and a C compiler.",
                ),
            ],
            outputs=[WanModelSocket.Output("model", tooltip="Both experts, the VAE and the text encoder.")],
        )

    @classmethod
    def validate_inputs(
        cls,
        model: str | None,
        low_model: str | None = None,
        vae: str | None = None,
        text_encoder: str | None = None,
        image_encoder: str | None = None,
        audio_encoder: str | None = None,
    ) -> bool | str:
        from ..pipelines.loading.missing_files import public_page

        chosen = {
            "model": model,
            "low_model": low_model,
            "vae": vae,
            "text_encoder": text_encoder,
            "image_encoder": image_encoder,
            "audio_encoder": audio_encoder,
        }
        for slot, name in chosen.items():
            if name not in (None, *_SLOTS[slot][1]) and pick(name, _listed(slot)) is None:
                page = public_page(_SLOTS[slot][0][-1])
                return f"{_missing(slot, name)}; put it there, or choose another. Such files are at {page}"
        return True

    @classmethod
    def fingerprint_inputs(cls, **chosen: str | None) -> object:
        """Of every file that may be read. A value that comes over a link is None."""
        names = {slot: chosen.get(slot, instead[0]) for slot, (_, instead) in _SLOTS.items()}
        whole = _is_whole(names["model"])
        return [stamp(path) for slot, name in names.items() for path in _may_read(slot, name, whole)]

    @classmethod
    def execute(
        cls,
        model: str,
        precision: Precision,
        low_model: str = _NONE,
        vae: str = _AUTO,
        text_encoder: str = _AUTO,
        residency: str = "auto",
        image_encoder: str = _AUTO,
        audio_encoder: str = _AUTO,
        attention: Attention | Literal["auto"] = _AUTO,
        compile: bool = False,  # noqa: A002  the name of the input
        kernels: Kernels | Literal["auto"] = _AUTO,
    ) -> io.NodeOutput:
        from ..pipelines.kernels.choices import Preferences
        from ..pipelines.loading.wan_model import load_model

        whole = _is_whole(model)
        loaded = load_model(
            model if model in EMBEDDED else _chosen("model", model),
            low=None if low_model == _NONE else _chosen("low_model", low_model),
            vae=_part("vae", vae, whole),
            text_encoder=_part("text_encoder", text_encoder, whole),
            precision=precision,
            image_encoder=_part("image_encoder", image_encoder, whole),
            residency=residency,
            audio_encoder=_part("audio_encoder", audio_encoder, whole),
            preferences=Preferences(
                attention=None if attention == _AUTO else attention,
                kernels=None if kernels == _AUTO else kernels,
                compiler=COMPILER if compile else None,
            ),
        )
        return io.NodeOutput(loaded)


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
        from ..pipelines.generate.stages import encode_prompts

        encoded = encode_prompts(
            model, [prompt, negative_prompt], HostMemory(), NodeProgress(cls.hidden.unique_id)
        )
        for name, text in zip(("prompt", "negative prompt"), encoded, strict=True):
            if text.dropped:
                log.warning("%s: its last %d tokens did not fit and are not used", name, text.dropped)
        return io.NodeOutput(*(to_conditioning(text.embeddings) for text in encoded))


def _file_input(slot: str, tooltip: str, optional: bool = False) -> io.Input:
    instead = _SLOTS[slot][1]
    return io.Combo.Input(
        slot, options=[*instead, *_listed(slot)], default=instead[0], tooltip=tooltip, optional=optional
    )


def _listed(slot: str) -> dict[str, Path]:
    folders = _SLOTS[slot][0]
    return find_models(root for folder in folders for root in folder_paths.get_folder_paths(folder))


def _is_whole(model: str | None) -> bool:
    """Whether the model brings its own VAE and text encoder."""
    found = None if model is None or model in EMBEDDED else pick(model, _listed("model"))
    return found is None or (found / "model_index.json").is_file()


def _part(slot: str, name: str, whole: bool) -> Path | list[Path] | None:
    """The file that was chosen; on auto the model's own (None), or, where it has none, all there are."""
    if name != _AUTO:
        return _chosen(slot, name)
    return None if whole else list(_listed(slot).values())


def _may_read(slot: str, name: str | None, whole: bool) -> list[Path]:
    if name == _AUTO:
        return [] if whole else list(_listed(slot).values())
    found = None if name is None else pick(name, _listed(slot))
    return [] if found is None else [found]


def _chosen(slot: str, name: str) -> Path:
    found = pick(name, _listed(slot))
    if found is None:
        raise ModelError(f"{_missing(slot, name)} any more; choose another")
    return found


def _missing(slot: str, name: str) -> str:
    return f"{slot}: {name} is not in models/{' or models/'.join(_SLOTS[slot][0])}"

"""Nodes that load a model and encode prompts with its text encoder."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import folder_paths

from ..pipelines.device.memory import RESIDENCIES
from ..pipelines.device.precision import PRECISIONS, Precision
from ..pipelines.embedded.toy_model import EMBEDDED
from ..pipelines.errors import ModelError
from ..pipelines.files.moved_file import moved_to
from ..pipelines.kernels.kernel_names import ATTENTIONS, COMPILER, KERNELS, Attention, Kernels
from ..pipelines.request.contracts import DESCRIPTIONS
from .comfy_interface import io
from .conditioning import to_conditioning
from .findings import NodeFindings, notes_of_model, with_findings
from .gpus_of_model import gpus_of_model
from .host_memory import HostMemory
from .host_progress import NodeProgress
from .inputs import DYNAMIC
from .listing import FileChoices, find_models, pick, stamp
from .sockets import WanModelSocket

if TYPE_CHECKING:
    from ..pipelines.loading.host_model import AnyModel
    from ..pipelines.request.prompt_weights import PromptSyntax

log = logging.getLogger(__name__)

_NONE: Final = "none"
_AUTO: Final = "auto"
# {input: (folders of its files, values that are no file)}. The first value is the default.
_SLOTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # An all-in-one file lies where ComfyUI's Load Checkpoint looks.
    "model": (("diffusers", "diffusion_models", "checkpoints"), tuple(EMBEDDED)),
    "low_model": (("diffusers", "diffusion_models", "checkpoints"), (_NONE,)),
    "vae": (("vae",), (_AUTO,)),
    "text_encoder": (("text_encoders",), (_AUTO,)),
    "image_encoder": (("clip_vision",), (_AUTO,)),
    "audio_encoder": (("audio_encoders",), (_AUTO,)),
}


class WanDuetLoadModel(io.ComfyNode):
    """Chooses a model by name. Weights are loaded later."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetLoadModel",
            display_name="Wan Duet Load Model",
            category="Wan Duet/blocks",
            description="Chooses a Wan model: a complete diffusers folder, or single files. Weights are "
            "loaded when a step needs them.",
            search_aliases=[
                "wan model loader",
                "diffusers loader",
                "load wan 2.2",
                "unet loader gguf",
                "block swap",
            ],
            inputs=[
                _file_input(
                    "model",
                    "toy, toy-image (image to video) and toy-speech are tiny models that come with the pack "
                    "and run on any machine. Others are found in models/diffusers, models/diffusion_models "
                    "and, if they hold all parts, models/checkpoints. For Wan 2.2 A14B as two files, choose "
                    "the high-noise one.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="auto",
                    tooltip="Number format to compute in. auto: as ComfyUI chooses by its flags and the "
                    "device: fp32 on a CPU, bf16 on most GPUs. stored: multiply on the numbers of quantised "
                    "files where the device can; lossy, and takes less memory. Check and the receipt say "
                    "what each format does.",
                ),
                _file_input(
                    "low_model",
                    "The low-noise file of Wan 2.2 A14B if model is the high-noise file. The two files "
                    "cannot be told apart by their content, so do not swap them. none for a model of one "
                    "file or folder.",
                    optional=True,
                ),
                _file_input(
                    "vae",
                    "A file in models/vae. auto: the VAE of the model folder or of a file that holds all "
                    "parts, else the one in models/vae that fits the model.",
                    optional=True,
                ),
                _file_input(
                    "text_encoder",
                    "A UMT5 file in models/text_encoders. auto: the encoder of the model folder or of "
                    "a file that holds all parts, else the one in models/text_encoders that fits the model.",
                    optional=True,
                ),
                io.Combo.Input(
                    "residency",
                    options=list(RESIDENCIES),
                    default="auto",
                    optional=True,
                    tooltip="How much of the experts to keep in device memory. auto: as much as fits. "
                    "resident: everything. ring: a few blocks at a time; the others are streamed while "
                    "earlier blocks run. The result is bit-identical.",
                ),
                _file_input(
                    "image_encoder",
                    "Wan 2.1 image to video only: a CLIP vision file in models/clip_vision. auto: the one "
                    "that fits the model.",
                    optional=True,
                ),
                _file_input(
                    "audio_encoder",
                    "Speech to video only: a wav2vec 2.0 file in models/audio_encoders. auto: the encoder "
                    "of the model folder, or, for single files, the one in models/audio_encoders that fits "
                    "the model.",
                    optional=True,
                ),
                io.Combo.Input(
                    "attention",
                    options=[_AUTO, *ATTENTIONS],
                    default=_AUTO,
                    optional=True,
                    tooltip="Attention kernel of the experts. auto: the fastest exact one available on the "
                    "device. sage is lossy and faster on some GPUs; it needs the package sageattention.",
                ),
                io.Boolean.Input(
                    "compile",
                    default=False,
                    optional=True,
                    tooltip="Run the experts' blocks through torch.compile: saves working memory, rarely "
                    "time. Needs triton on a GPU, a C++ compiler on a CPU.",
                ),
                io.Combo.Input(
                    "kernels",
                    options=[_AUTO, *KERNELS],
                    default=_AUTO,
                    optional=True,
                    tooltip="Kernels for element-wise operations of the experts and the VAE. auto: the "
                    "fastest that passes a test run on the device. plain: torch only, on every device. "
                    "kitchen needs the package comfy-kitchen; triton needs its package and a C compiler.",
                ),
                io.String.Input(
                    "gpus",
                    default="",
                    optional=True,
                    tooltip="Several GPUs that compute one video together in Run Local: their numbers, such "
                    "as 0,1,2,3. Empty: one device. Results differ from those of one device by rounding "
                    "only. cpu,cpu shares one CPU.",
                ),
            ],
            outputs=[WanModelSocket.Output("model", tooltip="The model: its experts, VAE and text encoder.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **chosen: str | None) -> object:
        """Return the stamps of all files that may be read. A linked value is None."""
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
        gpus: str = "",
    ) -> io.NodeOutput:
        from ..pipelines.kernels.choices import Preferences
        from ..pipelines.loading.wan_model import load_model

        whole = _is_whole(model)
        preferences = Preferences(
            attention=None if attention == _AUTO else attention,
            kernels=None if kernels == _AUTO else kernels,
            compiler=COMPILER if compile else None,
        )
        arguments: dict[str, Any] = {
            "source": model if model in EMBEDDED else _chosen("model", model),
            "low": None if low_model == _NONE else _chosen("low_model", low_model),
            "vae": _part("vae", vae, whole),
            "text_encoder": _part("text_encoder", text_encoder, whole),
            "precision": precision,
            "image_encoder": _part("image_encoder", image_encoder, whole),
            "residency": residency,
            "audio_encoder": _part("audio_encoder", audio_encoder, whole),
            "preferences": preferences,
            "open_pickles": _opens_pickles(),
        }
        loaded = load_model(**arguments)
        if gpus.strip():
            loaded = replace(loaded, gpus=gpus_of_model(gpus, arguments))
        return io.NodeOutput(loaded, ui=notes_of_model(cls.hidden.unique_id, loaded))


class WanDuetEncodePrompt(io.ComfyNode):
    """Encodes prompt and negative prompt to CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetEncodePrompt",
            display_name="Wan Duet Encode Prompt",
            category="Wan Duet/blocks",
            description="Encodes the prompts with the text encoder of the model, then frees the encoder.",
            search_aliases=["umt5", "wan text encode", "clip text encode wan"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The model whose text encoder to use."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    dynamic_prompts=True,
                    tooltip=f"What the video should show, in any language. {DYNAMIC}",
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    default="",
                    dynamic_prompts=True,
                    tooltip="What the video should not show. Has no effect if the guidance scale is 1.",
                ),
                io.Combo.Input(
                    "prompt_syntax",
                    options=["plain", "comfy"],
                    default="plain",
                    optional=True,
                    tooltip=DESCRIPTIONS["prompt_syntax"],
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive", tooltip="The encoded prompt; also works with ComfyUI's own samplers."
                ),
                io.Conditioning.Output("negative", tooltip="The encoded negative prompt."),
            ],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, model: AnyModel, prompt: str, negative_prompt: str, prompt_syntax: PromptSyntax = "plain"
    ) -> io.NodeOutput:
        from ..pipelines.generate.prompt import cut_prompts
        from ..pipelines.generate.stages import encode_prompts
        from ..pipelines.loading.host_model import HostModel
        from ..pipelines.request.prompt_syntax import require_possible, syntax_findings

        texts = {"prompt": prompt, "negative_prompt": negative_prompt}
        findings, on_host = NodeFindings(cls.hidden.unique_id), isinstance(model, HostModel)
        findings.tell(
            require_possible(syntax_findings(texts, prompt_syntax, "ComfyUI" if on_host else "here"))
        )
        if isinstance(model, HostModel):
            conditions = model.networks.encode_prompts(list(texts.values()))
            return io.NodeOutput(*conditions, ui=with_findings(None, findings.found))
        progress = NodeProgress(cls.hidden.unique_id)
        encoded = encode_prompts(model, list(texts.values()), HostMemory(), progress, prompt_syntax)
        findings.tell(cut_prompts(texts, encoded))
        conditions = [to_conditioning(text.embeddings) for text in encoded]
        return io.NodeOutput(*conditions, ui=with_findings(None, findings.found))


def _file_input(slot: str, tooltip: str, optional: bool = False) -> io.Input:
    from ..pipelines.loading.missing_files import public_page

    folders, instead = _SLOTS[slot]
    page = public_page("diffusion_models" if "diffusion_models" in folders else folders[-1])
    choices = FileChoices(
        [*instead, *_listed(slot)],
        f"models/{' or models/'.join(folders)}; put it there, or choose another file. It can be downloaded "
        f"from {page}",
    )
    return io.Combo.Input(slot, options=choices, default=instead[0], tooltip=tooltip, optional=optional)


def _listed(slot: str) -> dict[str, Path]:
    folders = _SLOTS[slot][0]
    pickles = slot in ("vae", "text_encoder") and _lists_pickles()
    roots = [root for folder in folders for root in folder_paths.get_folder_paths(folder)]
    return find_models(roots, pickles=pickles)


def _lists_pickles() -> bool:
    """Return whether .pth files are listed. Settings that cannot be read stop a run, not a list."""
    try:
        return _opens_pickles()
    except ModelError as error:
        log.warning("%s", error)
        return False


def _opens_pickles() -> bool:
    """Return whether the user's files.json allows .pth files. Raises ModelError if it cannot be read."""
    from ..pipelines.loading.file_settings import opens_pickles

    return opens_pickles(Path(folder_paths.get_system_user_directory("wan_duet")))


def _is_whole(model: str | None) -> bool:
    """Return whether the model has its own VAE and text encoder."""
    found = None if model is None or model in EMBEDDED else pick(model, _listed("model"))
    return found is None or (found / "model_index.json").is_file()


def _part(slot: str, name: str, whole: bool) -> Path | list[Path] | None:
    """Return the chosen file. For auto, None for a whole model, else all files that might fit."""
    if name != _AUTO:
        return _chosen(slot, name)
    return None if whole else list(_listed(slot).values())


def _may_read(slot: str, name: str | None, whole: bool) -> list[Path]:
    if name == _AUTO:
        return [] if whole else list(_listed(slot).values())
    found = None if name is None else pick(name, _listed(slot))
    return [] if found is None else [found]


def _chosen(slot: str, name: str) -> Path:
    listed = _listed(slot)
    found = pick(name, listed)
    if found is None:
        folders = " or models/".join(_SLOTS[slot][0])
        raise ModelError(
            f"{slot}: {name} is not in models/{folders} any more; choose another file{moved_to(name, listed)}"
        )
    return found

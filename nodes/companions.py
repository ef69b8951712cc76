"""Nodes that choose a helper model: a prompt expander or a safety checker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths

from ..pipelines.errors import ModelError
from ..pipelines.files.moved_file import moved_to
from .comfy_interface import io
from .listing import find_companions, pick, stamp
from .sockets import WanModelSocket

if TYPE_CHECKING:
    from ..pipelines.loading.host_model import AnyModel

_NONE = "none"


class WanDuetPromptExpander(io.ComfyNode):
    """Chooses a language model for requests whose enable_prompt_expansion is on."""

    FOLDER = "LLM"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetPromptExpander",
            display_name="Wan Duet Prompt Expander",
            category="Wan Duet/blocks",
            description="Chooses the language model that adds detail to the prompt of a request whose "
            "enable_prompt_expansion is on. Connect it between the model and the runner.",
            search_aliases=["enhance prompt", "prompt extend", "llm", "rewrite prompt"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The Wan model that generates."),
                io.Combo.Input(
                    "language_model",
                    options=[_NONE, *_listed(cls.FOLDER)],
                    default=_NONE,
                    tooltip="An instruct model in models/LLM, as a transformers folder.",
                ),
            ],
            outputs=[WanModelSocket.Output("model", tooltip="The same model, with its prompt expander.")],
        )

    @classmethod
    def validate_inputs(cls, language_model: str | None) -> bool | str:
        return _missing(cls.FOLDER, language_model) or True

    @classmethod
    def fingerprint_inputs(cls, language_model: str | None = None, **_: object) -> object:
        return _stamp(cls.FOLDER, language_model)

    @classmethod
    def execute(cls, model: AnyModel, language_model: str) -> io.NodeOutput:
        return io.NodeOutput(replace(model, prompt_expander=_chosen(cls.FOLDER, language_model)))


class WanDuetSafetyChecker(io.ComfyNode):
    """Chooses classifiers for requests whose safety switches are on."""

    FOLDER = "safety_checkers"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetSafetyChecker",
            display_name="Wan Duet Safety Checker",
            category="Wan Duet/blocks",
            description="Chooses the classifiers that check prompts, inputs and results of a request whose "
            "safety switches are on. Flagged content stops the run. Connect it between the model and the "
            "runner.",
            search_aliases=["nsfw filter", "content filter", "moderation"],
            inputs=[
                WanModelSocket.Input("model", tooltip="The Wan model that generates."),
                io.Combo.Input(
                    "checker",
                    options=[_NONE, *_listed(cls.FOLDER)],
                    default=_NONE,
                    tooltip="A text or image classifier in models/safety_checkers, as a transformers "
                    "folder; or a folder with one of each in its subfolders text and image.",
                ),
            ],
            outputs=[WanModelSocket.Output("model", tooltip="The same model, with its safety checker.")],
        )

    @classmethod
    def validate_inputs(cls, checker: str | None) -> bool | str:
        return _missing(cls.FOLDER, checker) or True

    @classmethod
    def fingerprint_inputs(cls, checker: str | None = None, **_: object) -> object:
        return _stamp(cls.FOLDER, checker)

    @classmethod
    def execute(cls, model: AnyModel, checker: str) -> io.NodeOutput:
        return io.NodeOutput(replace(model, safety_checker=_chosen(cls.FOLDER, checker)))


def _listed(folder: str) -> dict[str, Path]:
    """Return {name: folder}. ComfyUI has no list of these, unless another pack registered the folder."""
    if folder in folder_paths.folder_names_and_paths:
        return find_companions(folder_paths.get_folder_paths(folder))
    return find_companions([str(Path(folder_paths.models_dir) / folder)])


def _missing(folder: str, name: str | None) -> str | None:
    listed = _listed(folder)
    if name in (None, _NONE) or pick(str(name), listed) is not None:
        return None
    advice = f"put it there, or choose another model{moved_to(str(name), listed)}"
    return f"{name} is not in models/{folder}; {advice}"


def _stamp(folder: str, name: str | None) -> object:
    found = None if name in (None, _NONE) else pick(str(name), _listed(folder))
    return None if found is None else stamp(found)


def _chosen(folder: str, name: str) -> Path | None:
    if missing := _missing(folder, name):
        raise ModelError(missing)
    return None if name == _NONE else pick(name, _listed(folder))

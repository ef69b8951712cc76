"""A list of prompts, so that every node behind it runs once per prompt."""

from __future__ import annotations

from ..pipelines.request.many_prompts import prompts_of
from .comfy_interface import io
from .outgoing import allowed_file


class WanDuetPromptList(io.ComfyNode):
    """Gives prompts one at a time, from a text or a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanDuetPromptList",
            display_name="Wan Duet Prompt List",
            category="Wan Duet/request",
            description="Gives a list of prompts. Connect it to the prompt of a request: each node behind it "
            "runs once per prompt, and a provider is paid for each.",
            search_aliases=["prompts from file", "batch prompts", "many prompts", "wildcards", "queue list"],
            inputs=[
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="",
                    tooltip="One prompt a line. Empty lines are left out.",
                ),
                io.String.Input(
                    "file",
                    default="",
                    tooltip="Name of a text file in ComfyUI's input folder, one prompt a line (UTF-8). Its "
                    "prompts follow those above. Empty: no file.",
                ),
            ],
            outputs=[io.String.Output("prompt", tooltip="The prompts, one at a time.", is_output_list=True)],
        )

    @classmethod
    def fingerprint_inputs(cls, prompts: str, file: str) -> str:
        return "\n".join(_prompts(prompts, file))  # a file may have changed

    @classmethod
    def execute(cls, prompts: str, file: str) -> io.NodeOutput:
        return io.NodeOutput(_prompts(prompts, file))


def _prompts(prompts: str, file: str) -> list[str]:
    return prompts_of(prompts, allowed_file(file, "file") if file.strip() else None)

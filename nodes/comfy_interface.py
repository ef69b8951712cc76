"""Imports ComfyUI's node interface. The only module that does, because the interface changes with ComfyUI.

ComfyUI 0.25 and 0.33 re-export `latest` as their numbered version.
"""

from comfy_api.latest import ComfyExtension, Input, InputImpl, io, ui
from comfy_execution.graph_utils import ExecutionBlocker

__all__ = ["ComfyExtension", "ExecutionBlocker", "Input", "InputImpl", "io", "ui"]

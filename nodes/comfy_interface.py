"""What ComfyUI gives to nodes. The only module that imports its node interface, which changes with ComfyUI.

`latest` is what the numbered versions of ComfyUI 0.25 and 0.33 re-export.
"""

from comfy_api.latest import ComfyExtension, Input, InputImpl, io, ui
from comfy_execution.graph_utils import ExecutionBlocker

__all__ = ["ComfyExtension", "ExecutionBlocker", "Input", "InputImpl", "io", "ui"]

"""The switch `return_images` of the runners, and what is said when images are connected without it."""

from __future__ import annotations

from ..pipelines.errors import RequestError
from ..pipelines.request.implied import IMAGE_TASKS
from .comfy_interface import ExecutionBlocker, io
from .links import is_read, readers

__all__ = ["IMAGES_SLOT", "NO_IMAGES", "images_are_read", "require_images_wanted", "return_images_input"]

IMAGES_SLOT = 1  # the output `images` of every runner
NO_IMAGES = ExecutionBlocker("The frames of a video are returned only if return_images is on.")


def return_images_input() -> io.Input:
    return io.Boolean.Input(
        "return_images",
        default=False,
        tooltip="On: also return the frames of a video in images, which holds all of them in memory. "
        "An image is always returned.",
    )


def require_images_wanted(hidden: io.HiddenHolder, task: str, return_images: bool) -> None:
    """Raise RequestError if images of a video are connected but not returned: a blocked node is no error to
    ComfyUI, so its history would say that all went well.
    """
    if return_images or task in IMAGE_TASKS:
        return
    wanting = readers(hidden.unique_id, IMAGES_SLOT, hidden.prompt or {})
    if wanting:
        found = f"off, but images is connected to {', '.join(wanting)}"
        raise RequestError.of("return_images", found, "switch it on, or disconnect images")


def images_are_read(node_id: str | None) -> bool:
    """Return whether `images` of a node is connected in the graph that runs now."""
    return is_read(node_id, IMAGES_SLOT)

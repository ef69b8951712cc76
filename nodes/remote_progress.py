"""Shows a remote job's events in the node that waits for it, and reacts to the Stop button."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from comfy import model_management
from comfy.utils import ProgressBar
from server import PromptServer

if TYPE_CHECKING:
    from ..pipelines.remote.job_event import JobEvent

__all__ = ["RemoteProgress"]


class RemoteProgress:
    """Shows the events of one job in one node, and passes on a Stop of the user.

    Events arrive on the remote thread and are only stored there. Drawing a progress bar may raise ComfyUI's
    interrupt exception, which must be raised on the thread of the graph, because it would end that of the
    jobs.

    remarks: lines below each event.
    """

    def __init__(self, node_id: str | None, remarks: tuple[str, ...] = ()) -> None:
        self._node_id, self._remarks = node_id, remarks
        self._latest: tuple[JobEvent, float] | None = None  # with the time it arrived
        self._bar: tuple[float, ProgressBar] | None = None  # with its total
        self._text = ""

    def receive(self, event: JobEvent) -> None:
        """Store the event. Called on the remote thread."""
        self._latest = (event, time.monotonic())

    @property
    def has_received(self) -> bool:
        """Return whether any event arrived. A job that was already finished sends none."""
        return self._latest is not None

    def refresh(self) -> None:
        """Show the latest event. Raises ComfyUI's exception after a Stop of the user."""
        model_management.throw_exception_if_processing_interrupted()
        if self._latest is None:
            return
        event, arrived_at = self._latest
        self.show(replace(event, elapsed_s=event.elapsed_s + time.monotonic() - arrived_at).text())
        if event.percent is not None:
            self._show_bar(event.percent, 100)
        elif event.bytes_done is not None and event.bytes_total:
            self._show_bar(event.bytes_done, event.bytes_total)

    def show(self, line: str) -> None:
        """Show a line and the remarks, unless they are shown already."""
        text = "\n".join((line, *self._remarks))
        if text != self._text:
            self._text = text
            PromptServer.instance.send_progress_text(text, self._node_id)

    def _show_bar(self, done: float, total: float) -> None:
        """Show a bar. The model counts percent and the download counts bytes, so each has its own."""
        if self._bar is None or self._bar[0] != total:
            self._bar = (total, ProgressBar(total, self._node_id))
        self._bar[1].update_absolute(done)

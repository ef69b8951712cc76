"""What a remote job tells, in the node that waits for it, and the Stop button."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from comfy import model_management
from comfy.utils import ProgressBar
from server import PromptServer

if TYPE_CHECKING:
    from ..pipelines.remote.news import News

__all__ = ["NodeNews"]


class NodeNews:
    """One node and one job.

    The job tells from the remote thread. There the news are only kept: showing a bar may raise ComfyUI's
    stop, which is meant for the thread of the graph and would end the job's.

    remarks: lines that stay below what the job tells.
    """

    def __init__(self, node_id: str | None, remarks: tuple[str, ...] = ()) -> None:
        self._node_id, self._remarks = node_id, remarks
        self._news: tuple[News, float] | None = None  # and when they came
        self._bar: tuple[float, ProgressBar] | None = None  # and its total
        self._text = ""

    def hear(self, news: News) -> None:
        """For the remote thread."""
        self._news = (news, time.monotonic())

    @property
    def heard(self) -> bool:
        """Whether there were news: a job that was finished before tells nothing."""
        return self._news is not None

    def look(self) -> None:
        """Show what is new. Raises ComfyUI's own exception when the user has pressed Stop."""
        model_management.throw_exception_if_processing_interrupted()
        if self._news is None:
            return
        news, came_at = self._news
        self.say(replace(news, elapsed_s=news.elapsed_s + time.monotonic() - came_at).text())
        if news.percent is not None:
            self._show(news.percent, 100)
        elif news.bytes_done is not None and news.bytes_total:
            self._show(news.bytes_done, news.bytes_total)

    def say(self, line: str) -> None:
        text = "\n".join((line, *self._remarks))
        if text != self._text:
            self._text = text
            PromptServer.instance.send_progress_text(text, self._node_id)

    def _show(self, done: float, total: float) -> None:
        """Percent of the model and bytes of the file are different bars."""
        if self._bar is None or self._bar[0] != total:
            self._bar = (total, ProgressBar(total, self._node_id))
        self._bar[1].update_absolute(done)

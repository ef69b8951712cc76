"""One download of weight files at a time, beside whoever asked for it: it says how far it is, and stops."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import DownloadError, WanDuetError
from ..progress import Progress
from .inventory import Found

__all__ = ["BackgroundDownload"]

log = logging.getLogger(__name__)

Get = Callable[[Sequence[Found], Progress], Sequence[Path]]


class _StoppedError(Exception):
    """The user stopped the download."""


class BackgroundDownload:
    """get: `get_files` with its web. It runs on a thread that ends with the process."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._state: dict[str, Any] = {"stage": "", "done": 0, "total": 0, "unit": "", "error": None}

    def start(self, found: Sequence[Found]) -> None:
        """Begin. Raises DownloadError while another download runs."""
        with self._lock:
            if self._runs():
                raise DownloadError("another download is running; wait for it, or stop it first")
            self._stop.clear()
            self._state.update(stage="starting", done=0, total=0, unit="", error=None)
            self._thread = threading.Thread(
                target=self._work, args=(found,), name="wan-duet-model-files", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Ask it to end. What has arrived stays for the next time."""
        self._stop.set()

    def state(self) -> dict[str, Any]:
        """running; stage, done, total and unit as `Progress` has them; error: why it ended early, or None."""
        with self._lock:
            return {"running": self._runs(), **self._state}

    def begin(self, stage: str, total: int, unit: str) -> None:
        self._state.update(stage=stage, done=0, total=total, unit=unit)

    def advance(self, done: int, preview: object = None) -> None:
        del preview
        self._state["done"] = done

    def check(self) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self, found: Sequence[Found]) -> None:
        try:
            places = self._get(found, self)
            log.info("downloaded: %s", ", ".join(place.name for place in places) or "nothing was missing")
            self._state.update(stage="done")
        except _StoppedError:
            self._state["error"] = "stopped; what has arrived is kept, and continued next time"
        except (WanDuetError, OSError) as error:
            log.warning("%s", error)
            self._state["error"] = str(error)
        except Exception:
            self._state["error"] = "the download failed; the log of ComfyUI says why"
            raise

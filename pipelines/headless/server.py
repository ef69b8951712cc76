"""A ComfyUI process without a window, on folders of its own, that is always gone afterwards.

The host's input, output, temp and user folders stay as they are: the process gets a temporary folder instead,
with the pack linked into a `custom_nodes` there, unless it already lies in the host's. Only this pack is
loaded besides ComfyUI's own nodes, so that other packs neither slow the start nor change the result.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import HostError
from .client import ComfyClient, Workflow, WorkflowProgress, WorkflowResult
from .host import Host, without_our_python

__all__ = ["HeadlessComfyUI", "link_folder"]

_log = logging.getLogger(__name__)

_LINK = "wan-duet"  # the pack's name in the custom_nodes of ours
_A_NODE = "WanDuetTextToVideo"  # a node that is there when the pack has loaded
_TAIL_LINES = 40


class HeadlessComfyUI:
    """`with HeadlessComfyUI(host) as comfyui: comfyui.run(workflow)`.

    Inside, `url` is where it listens and `output`, `input`, `temp` and `user` are its folders. They and the
    process are gone when the block is left, whatever happened in it.

    clock: in seconds, for how long the start takes.
    popen: starts the process.
    """

    def __init__(
        self,
        host: Host,
        *,
        extra_args: Sequence[str] = (),
        start_timeout_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
    ) -> None:
        self.host, self._clock, self._popen = host, clock, popen
        self.url = ""
        self._extra_args = tuple(extra_args)
        self._start_timeout_s = start_timeout_s
        self._base: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._client: ComfyClient | None = None

    def __enter__(self) -> HeadlessComfyUI:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self.stop()

    @property
    def base(self) -> Path:
        """The temporary folder that everything lies in."""
        if self._base is None:
            raise RuntimeError("This ComfyUI is not running: use it inside its `with`.")
        return self._base

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def user(self) -> Path:
        return self.base / "user"

    @property
    def temp(self) -> Path:
        return self.base / "temp" / "temp"  # ComfyUI appends its own "temp" to --temp-directory

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("This ComfyUI is not running: use it inside its `with`.")
        return self._process.pid

    @property
    def client(self) -> ComfyClient:
        """A client of this ComfyUI, made once."""
        if self._client is None:
            self._client = ComfyClient(self.url)
        return self._client

    def run(
        self,
        workflow: Workflow,
        *,
        on_progress: Callable[[WorkflowProgress], None] | None = None,
        extra_data: dict[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> WorkflowResult:
        """As ComfyClient.run; when the process died under it, the error ends with its last words."""
        try:
            return self.client.run(
                workflow, on_progress=on_progress, extra_data=extra_data, timeout_s=timeout_s
            )
        except HostError as error:
            if not self._has_died(patience_s=2.0):  # the connection ends a moment before the process does
                raise
            raise HostError(f"{error}\n{self._last_words()}") from error

    def log(self) -> str:
        """All that the process has printed."""
        return (self.base / "comfyui.log").read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def stop(self) -> None:
        """End the process with all its children and remove its folders. May be called again."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._base is not None:
            _remove(self._base)
            self._base = None

    # ---- starting

    def _start(self) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="wan-duet-comfyui-"))
        for folder in ("output", "input", "user", "temp", "custom_nodes"):
            (self._base / folder).mkdir()
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        new_group: dict[str, Any] = {
            "start_new_session": True
        }  # so that Ctrl-C comes to us, and children end with it
        if sys.platform == "win32":
            new_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        with (self._base / "comfyui.log").open("wb") as log:
            self._process = self._popen(
                self._command(port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.host.path,
                env={**without_our_python(), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                **new_group,
            )
        self._wait_until_ready(port)

    def _command(self, port: int) -> list[str]:
        base = self.base
        command = [
            str(self.host.python),
            str(self.host.path / "main.py"),
            "--listen",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        for name in ("output", "input", "temp", "user"):
            command += [f"--{name}-directory", str(base / name)]
        command += ["--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"]
        command += ["--disable-auto-launch", "--disable-api-nodes", "--disable-all-custom-nodes"]
        command += ["--whitelist-custom-nodes", self.host.pack_name or _LINK]
        if self.host.pack_name is None:
            link_folder(base / "custom_nodes" / _LINK, self.host.pack)
            paths = base / "paths.yaml"
            # JSON strings are YAML strings, whatever letters the path has.
            folder = json.dumps(str(base / "custom_nodes"), ensure_ascii=False)
            paths.write_text(f"wan_duet:\n  custom_nodes: {folder}\n", encoding="utf-8")
            command += ["--extra-model-paths-config", str(paths)]
        if self.host.cpu:
            command.append("--cpu")
        return [*command, *self._extra_args]

    def _wait_until_ready(self, port: int) -> None:
        deadline = self._clock() + self._start_timeout_s
        while (left_s := deadline - self._clock()) > 0:
            found = _object_info(port, _A_NODE, left_s)
            if found:
                return
            if found is not None:
                raise HostError(f"ComfyUI runs, but it could not load this pack.\n{self._last_words()}")
            if self._has_died():
                raise HostError(f"ComfyUI ended while starting.\n{self._last_words()}")
            time.sleep(0.25)
        raise HostError(f"ComfyUI has not started after {self._start_timeout_s:.0f} s.\n{self._last_words()}")

    def _has_died(self, patience_s: float = 0.0) -> bool:
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        return self._process is None or self._process.returncode is not None

    def _last_words(self) -> str:
        return f"The last lines of its log:\n{self.log_tail()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _object_info(port: int, node: str, timeout_s: float) -> dict[str, Any] | None:
    """What ComfyUI knows of a node, empty for nothing; None while it does not answer yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", f"/object_info/{node}")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if answer.status != 200:
        raise HostError(f"ComfyUI answered {answer.status} to /object_info/{node}: {body[:200]!r}")
    found: dict[str, Any] = json.loads(body)
    return found


def link_folder(link: Path, target: Path) -> None:
    """Make `link` another name of the folder `target`, on any system without asking for rights."""
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))  # a symbolic link would need administrator rights
    else:
        link.symlink_to(target, target_is_directory=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it started."""
    if sys.platform == "win32":
        kill = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(kill, capture_output=True, check=False)
        process.wait()
        return
    for how, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(
                process.pid, how
            )  # the process leads its group; after its end this reaches its children
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)


def _remove(base: Path) -> None:
    """Remove the temporary folder: first the link to the pack, never what it points to."""
    link = base / "custom_nodes" / _LINK
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        os.rmdir(link)  # a junction: this takes away the junction only
    for _ in range(20):  # Windows lets go of the log and the database a moment after the process is gone
        shutil.rmtree(base, ignore_errors=True)
        if not base.exists():
            return
        time.sleep(0.25)
    _log.warning("The temporary folder %s could not be removed.", base)

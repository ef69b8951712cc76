"""Runs a ComfyUI process without a window, on temporary folders, and always stops it.

The host's own input, output, temp and user folders are not used. The pack is linked into a temporary
`custom_nodes` unless the host already has it. No other pack is loaded, because it could slow the start or
change the result.
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

_LINK = "wan-duet"  # name of the pack in the temporary custom_nodes
_A_NODE = "WanDuetTextToVideo"  # exists once the pack is loaded
_TAIL_LINES = 40


class HeadlessComfyUI:
    """A running ComfyUI: `with HeadlessComfyUI(host) as comfyui: comfyui.run(workflow)`.

    Inside the block, `url` is its address, and `output`, `input`, `temp` and `user` are its folders. The end
    of the block always stops the process and removes the folders.

    extra_args:      more arguments for main.py.
    start_timeout_s: the longest time that the start may take.
    clock:           seconds, for that timeout.
    popen:           starts the process.

    Raises HostError when ComfyUI does not start or does not load the pack.
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
        """The temporary folder that contains the others."""
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
        """The client of this ComfyUI, made on first use."""
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
        """As `ComfyClient.run`. If the process has ended, the error includes the end of its log."""
        try:
            return self.client.run(
                workflow, on_progress=on_progress, extra_data=extra_data, timeout_s=timeout_s
            )
        except HostError as error:
            if not self._has_died(patience_s=2.0):  # the connection ends a moment before the process does
                raise
            raise HostError(f"{error}\n{self._end_of_log()}") from error

    def log(self) -> str:
        """Return everything that the process has printed."""
        return (self.base / "comfyui.log").read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def stop(self) -> None:
        """End the process and its children, and remove its folders. May be called again."""
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
        # A group of its own: Ctrl-C reaches only us, and its children can be stopped with it.
        new_group: dict[str, Any] = {"start_new_session": True}
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
            # A JSON string is a valid YAML string for any path.
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
                raise HostError(f"ComfyUI runs, but did not load this pack.\n{self._end_of_log()}")
            if self._has_died():
                raise HostError(f"ComfyUI ended during its start.\n{self._end_of_log()}")
            time.sleep(0.25)
        raise HostError(f"ComfyUI has not started after {self._start_timeout_s:.0f} s.\n{self._end_of_log()}")

    def _has_died(self, patience_s: float = 0.0) -> bool:
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        return self._process is None or self._process.returncode is not None

    def _end_of_log(self) -> str:
        return f"The last lines of its log:\n{self.log_tail()}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _object_info(port: int, node: str, timeout_s: float) -> dict[str, Any] | None:
    """Return /object_info of a node, {} if there is no such node. None while ComfyUI does not answer."""
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
    """Make `link` point to the folder `target`. Needs no administrator rights on any system."""
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))  # a symbolic link may need administrator rights
    else:
        link.symlink_to(target, target_is_directory=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all its children."""
    if sys.platform == "win32":
        kill = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(kill, capture_output=True, check=False)
        process.wait()
        return
    for how, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)  # its group: children that outlive it too
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)


def _remove(base: Path) -> None:
    """Remove the temporary folder. Removes the link to the pack first, so that the pack itself stays."""
    link = base / "custom_nodes" / _LINK
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        os.rmdir(link)  # removes the junction, not its target
    for _ in range(20):  # Windows keeps the log and the database open a little longer than the process
        shutil.rmtree(base, ignore_errors=True)
        if not base.exists():
            return
        time.sleep(0.25)
    _log.warning("The temporary folder %s could not be removed.", base)

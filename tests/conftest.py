"""What every test may rely on: nothing remote, and a word at the end about tests that had no ComfyUI."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Tiny networks run faster on one thread, on a busy machine many times. Set before torch is imported;
# a ComfyUI that a test starts inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# triton reads it on import, and diffusers, which the first tests need, imports triton.
if not any(Path("/dev", gpu).exists() for gpu in ("nvidiactl", "kfd")):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shell lets what it starts in the background ignore Ctrl-C, which tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, settings

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.host import Host, examine, find_comfyui

from .key_watch import LogWatch, files_with_keys
from .windows import rules

# How long an example takes says nothing on a busy machine. Each run draws other examples.
LONG = "WAN_DUET_LONG" in os.environ
settings.register_profile(
    "patient",
    deadline=None,
    max_examples=200 if LONG else 25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")

HERE = Path(__file__).parent
HOST_TESTS = HERE / "host"
# Longest first: a long file that began last would keep one process busy while the others have nothing to do.
LONGEST = (
    "host/test_browser.py",
    "host/core/test_patches.py",
    "host/core/test_host_kinds.py",
    "host/test_template_runs.py",
    "host/test_workflows.py",
    "embedded/test_embedded.py",
    "remote/test_http_answers.py",
    "cli/test_commands.py",
    "train_embedded/test_training.py",
    "video/test_time_and_sound.py",
    "generate/test_local_run.py",
    "remote/test_fault_matrix.py",
    "generate/test_extra_guidance.py",
    "cli/test_findings.py",
    "golden/test_speech.py",
    "embedded/test_embedded_image.py",
    "cli/test_batch_command.py",
    "cli/test_started_commands.py",
    "cli/test_demo.py",
)
# Optional packages, and what is skipped without them.
OPTIONAL = {"ray": "fleets of several nodes", "schemathesis": "wan-duet serve by its OpenAPI document"}
HOST_KEY = pytest.StashKey["Host | str"]()  # the ComfyUI of this run, or why there is none


def pytest_configure() -> None:
    """Keep compiled files, also where a container says not to.

    Else every run compiles the tests again, and every process that a test starts what it imports.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    longest_first(items)
    needing = [item for item in items if HOST_TESTS in item.path.parents]
    if not needing:
        return
    try:
        host = look_for_host()
    except pytest.UsageError as error:
        if not hasattr(config, "workerinput"):
            raise
        host = str(error)  # the process that started this one says it, below, before any test starts
    config.stash[HOST_KEY] = host
    for item in needing:
        item.add_marker(pytest.mark.host)
        if isinstance(host, str):
            item.add_marker(pytest.mark.skip(reason=host))


def longest_first(items: list[pytest.Item]) -> None:
    places = {HERE / file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))  # all others stay in their order


@pytest.hookimpl(optionalhook=True)  # there is none without xdist
def pytest_xdist_node_collection_finished(node: object, ids: list[str]) -> None:
    """Raise what the processes that run the tests cannot: it would be an internal error of pytest there."""
    if any(name.startswith("tests/host/") for name in ids):
        look_for_host()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that counts them, from the reports: the processes that skip the tests have no terminal."""
    reports = terminalreporter.stats.get("skipped", [])
    skipped = [report for report in reports if Path(report.fspath).is_relative_to("tests/host")]
    if skipped and isinstance(host := look_for_host(), str):
        line = f"HOST TESTS SKIPPED: {len(skipped)} ({host})"
        terminalreporter.write_line(line, yellow=True, bold=True)
    for package, untested in OPTIONAL.items():
        if importlib.util.find_spec(package) is None:
            line = f"{package.upper()} NOT INSTALLED, NOT TESTED: {untested}"
            terminalreporter.write_line(line, yellow=True, bold=True)
    if "WAN_DUET_REAL_RIFE" not in os.environ:
        line = (
            "REAL RIFE WEIGHTS NOT TESTED: see tests/interpolation/test_real_rife.py; set WAN_DUET_REAL_RIFE"
        )
        terminalreporter.write_line(line, yellow=True, bold=True)
    if not LONG:
        line = (
            "LONG TESTS NOT RUN: LoRA rows, jobs panel, 50 jobs, Get files, both canvases, 300 encodes, HTTP "
            "errors in every form, two processes on two rows, 200 examples of a property; set WAN_DUET_LONG"
        )
        terminalreporter.write_line(line, yellow=True, bold=True)


@pytest.fixture(scope="session", autouse=True)
def no_key_is_left_anywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of the tests as a whole, whatever they did."""
    watch = LogWatch()
    logging.getLogger().addHandler(watch)
    yield
    logging.getLogger().removeHandler(watch)
    assert watch.found == []
    assert list(files_with_keys(tmp_path_factory.getbasetemp())) == []


@pytest.fixture(scope="session", autouse=True)
def files_are_as_hard_to_replace_as_on_windows() -> Iterator[None]:
    with rules.kept():
        yield


@pytest.fixture(scope="session")
def comfyui(request: pytest.FixtureRequest) -> Host:
    """The ComfyUI on disk, for host tests that start it in their own way."""
    host = request.config.stash[HOST_KEY]
    assert isinstance(host, Host)
    return host


@cache
def look_for_host() -> Host | str:
    """The ComfyUI in $COMFYUI_PATH, or in ~/ComfyUI; or why there is none to test with.

    One that was named and cannot run the pack is a failure of the run, not a reason to skip.
    """
    named = os.environ.get("COMFYUI_PATH")
    path = Path(named or "~/ComfyUI").expanduser()
    if not named and not path.exists():
        return "no ComfyUI at ~/ComfyUI; set COMFYUI_PATH"
    try:
        found = find_comfyui(None if named else path)  # which names in its message what it looked at
        assert found is not None
        return examine(found.path)
    except HostError as error:
        if named:
            raise pytest.UsageError(str(error)) from error
        return str(error)

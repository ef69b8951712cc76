"""`wan-duet models` and `models get`, against a server on this machine that the user's own list names."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.model_files.catalogue import AS_OF, OWN_LIST, read_catalogue
from wan_duet.pipelines.plan.expectation import Rates, write_rates

from ..download.small_web import Reply, Site, ranged, served

KIND = "small-text-to-video"
TAG = {"ETag": '"one"'}
FILES = {file.name: file for file in read_catalogue().choose(KIND, None).files}
RATES = Rates("cpu", "float32", 4, 1e11, 1e11, 1e10, "plain", "2026-11-29")


@pytest.fixture
def site() -> Iterator[Site]:
    with served() as made:
        yield made


@pytest.fixture
def comfyui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> Path:
    """A ComfyUI whose own list has tiny files in place of the published ones of `KIND`, at `site`."""
    folder, own = tmp_path / "ComfyUI", {}
    (folder / "models").mkdir(parents=True)
    for number, (name, file) in enumerate(FILES.items()):
        own[name] = publish(site, name, weights(number), file.folder)
    write_own_list(folder, own)
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    return folder


def weights(seed: int, rows: int = 40) -> bytes:
    return save({"blocks.0.weight": torch.randn(rows, 256, generator=torch.Generator().manual_seed(seed))})


def publish(site: Site, name: str, content: bytes, folder: str) -> dict[str, Any]:
    host = f"127.0.0.1:{site.port}"
    site.file(host, f"/{name}", content, **TAG)
    sha256 = hashlib.sha256(content).hexdigest()
    return {"folder": folder, "url": f"http://{host}/{name}", "size_bytes": len(content), "sha256": sha256}


def write_own_list(comfyui: Path, files: dict[str, Any]) -> None:
    file = comfyui / "user" / "__wan_duet" / OWN_LIST
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"files": files, "allow_loopback": True}), encoding="utf-8")


def own_list(comfyui: Path) -> dict[str, Any]:
    content = json.loads((comfyui / "user" / "__wan_duet" / OWN_LIST).read_text(encoding="utf-8"))
    return dict(content["files"])


def placed(comfyui: Path) -> dict[str, bytes]:
    files = (file for file in (comfyui / "models").rglob("*") if file.is_file())
    return {file.relative_to(comfyui / "models").as_posix(): file.read_bytes() for file in files}


def test_the_files_of_a_kind_are_fetched_into_the_folders_of_comfyui(
    comfyui: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "get", KIND, "--yes", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert placed(comfyui) == {
        f"{file.folder}/{name}": weights(number) for number, (name, file) in enumerate(FILES.items())
    }
    assert sorted(answer["model"]) == ["model", "text_encoder", "vae"]
    assert sorted(answer["downloaded"]) == sorted(answer["model"].values())
    assert main(["models", "get", KIND]) == 0  # nothing to ask for
    assert "All files are here." in capsys.readouterr().out


def test_nothing_is_fetched_unasked(
    comfyui: Path, site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    assert main(["models", "get", KIND]) == 2
    assert "--yes: not set, and nobody can answer: Download 3 of 3 files, 0.12 MB" in capsys.readouterr().err
    assert (site.asked, placed(comfyui)) == ([], {})


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 1), ("no\n", 1)])
def test_the_user_is_asked_with_sizes(comfyui: Path, site: Site, answer: str, code: int) -> None:
    shown, said = in_a_terminal(["models", "get", KIND], answer)
    assert said == code
    assert "Download 3 of 3 files, 0.12 MB, from http://127.0.0.1" in shown
    assert bool(site.asked) == (code == 0)
    assert len(placed(comfyui)) == (3 if code == 0 else 0)


def test_the_list_says_what_is_here_what_fits_and_how_long_it_takes(
    comfyui: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vae = next(name for name, file in FILES.items() if file.folder == "vae")
    place = comfyui / "models" / "vae" / vae
    place.parent.mkdir()
    place.write_bytes(weights(1))
    assert main(["models", "--json"]) == 0
    group = group_of(KIND, json.loads(capsys.readouterr().out))
    (size,) = group["sizes"]
    assert {file["file"]: file["state"] for file in size["files"]} == {
        name: "here" if name == vae else "missing" for name in FILES
    }
    assert (size["size"], size["model"], size["seconds"]) == ("fp16", "wan2.2-ti2v-5b", None)
    assert "GB are free" in size["fit"]
    (tmp_path / "data").mkdir(exist_ok=True)
    write_rates(next(iter(rates_files(tmp_path))), RATES)
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert f"As of {AS_OF}" in shown
    assert "a default request takes about" in shown
    assert f"here    vae/{vae}" in shown
    assert "small-fast-video\n  needs the folder https://huggingface.co/FastVideo/" in shown


def test_the_models_folder_may_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    assert main(["models"]) == 2
    assert (
        "--models: not given; give the models folder of a ComfyUI, or set COMFYUI_PATH"
        in capsys.readouterr().err
    )
    assert main(["models", "--models", str(tmp_path / "no")]) == 2
    assert main(["models", "--models", str(tmp_path), "--json"]) == 0
    assert main(["models", "--models", str(tmp_path / "no"), "get", KIND]) == 2


def test_a_download_that_was_killed_is_continued(comfyui: Path, site: Site) -> None:
    content, never = weights(9, rows=4000), threading.Event()
    own = own_list(comfyui)
    name = next(iter(FILES))
    own[name] = publish(site, name, content, "diffusion_models")
    write_own_list(comfyui, own)
    host, half = f"127.0.0.1:{site.port}", len(content) // 2
    first = [Reply(content, 200, TAG, breaks_after=half, pause=never)]
    site.pages[host, f"/{name}"] = lambda asked: first.pop() if first else ranged(content, asked, TAG)
    part = comfyui / "models" / "diffusion_models" / f"{name}.part"
    process = subprocess.Popen([sys.executable, "-m", "wan_duet", "models", "get", KIND, "--yes"])
    try:
        while not part.exists() or part.stat().st_size < half:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        process.wait()
        never.set()
    assert main(["models", "get", KIND, "--yes"]) == 0
    assert placed(comfyui)[f"diffusion_models/{name}"] == content
    ranges = [asked.headers.get("Range") for asked in site.asked if asked.path == f"/{name}"]
    assert ranges == [None, f"bytes={half}-"]
    assert len(placed(comfyui)) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX systems do")
def test_a_disk_that_fills_up_on_the_way_is_told_and_what_came_is_kept(comfyui: Path, site: Site) -> None:
    own, name = own_list(comfyui), next(iter(FILES))
    own[name] = publish(site, name, weights(9, rows=4000), "diffusion_models")
    write_own_list(comfyui, own)
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)); "
        f"from wan_duet.pipelines.cli import main; sys.exit(main(['models', 'get', '{KIND}', '--yes']))"
    )
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be written: File too large" in done.stderr
    assert main(["models", "get", KIND, "--yes"]) == 0
    assert [asked.headers.get("Range") for asked in site.asked if asked.path == f"/{name}"][1] is not None


def test_a_size_that_no_disk_has_is_refused_before_the_question(
    comfyui: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    own = own_list(comfyui)
    own[next(iter(FILES))]["size_bytes"] = 10**16
    write_own_list(comfyui, own)
    assert main(["models", "get", KIND, "--yes"]) == 1
    assert "GB are free, the files need 10000000.0 GB" in capsys.readouterr().err
    assert site.asked == []


def group_of(kind: str, answer: dict[str, Any]) -> dict[str, Any]:
    return next(group for group in answer["groups"] if kind in group["kinds"])


def rates_files(tmp_path: Path) -> Iterator[Path]:
    from wan_duet.pipelines.cli.models_command import rates_file

    yield rates_file()
    assert tmp_path in rates_file().parents


def in_a_terminal(arguments: list[str], answer: str) -> tuple[str, int]:
    """What a user sees who types `answer`, and the exit code."""
    import pty

    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "wan_duet", *arguments], stdin=there, stderr=subprocess.PIPE, text=True
    )
    os.write(here, answer.encode())
    _, shown = process.communicate(timeout=120)
    os.close(here)
    os.close(there)
    return shown, process.returncode

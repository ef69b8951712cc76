"""A slot of a fleet without Ray: what travels, and when a task ends. Needs no ray."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import KeyProblemError, LoraError, MediaError, PackageError
from wan_duet.pipelines.fleet import cluster_access, ray_slot
from wan_duet.pipelines.fleet.cluster_access import make_token, require_same, token_file, versions
from wan_duet.pipelines.fleet.ray_slot import RaySlot
from wan_duet.pipelines.fleet.travelling_files import ContentFolder, travelling, with_paths
from wan_duet.pipelines.fleet.worker import MadeFile, Task

from .batches import SETTINGS, Painter


@dataclass
class Held(Painter):
    """Paints when `free` is set, and beats until then."""

    free: threading.Event | None = None

    def make(self, task: Task) -> MadeFile:
        while self.free is not None and not self.free.wait(0.01):
            task.beat()
        return super().make(task)


def slot(tmp_path: Path, worker: Painter | None = None) -> RaySlot:
    return RaySlot(lambda: (worker or Painter(), SETTINGS), str(tmp_path / "contents"))


def task(prompt: str = "a") -> bytes:
    request = {"prompt": prompt, "seed": 1}
    given = {"kind": "text-to-video", "request": request, "name": "row", "attempt": 1, "smaller": 0}
    return json.dumps(given).encode()


def test_a_result_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_slot, "PIECE_BYTES", 100)
    here = slot(tmp_path)
    said = json.loads(here.make("me", task()))
    for file in said["files"]:
        pieces = [here.read(file["name"], number) for number in range(-(-file["size"] // 100))]
        assert hashlib.sha256(b"".join(pieces)).hexdigest() == file["sha256"]
    assert [Path(file["name"]).suffix for file in said["files"]] == [".png", ".json"]


def test_a_slot_says_how_much_memory_its_gpu_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_slot, "versions", dict)  # Ray need not be installed
    assert json.loads(slot(tmp_path, Painter(memory_bytes=24 << 30)).describe())["memory_bytes"] == 24 << 30


def test_a_failure_says_its_cause(tmp_path: Path) -> None:
    assert json.loads(slot(tmp_path).make("me", task("fails"))) == {
        "failed": "failed",
        "error": "fails: no such model",
    }


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_a_task_ends_when_its_driver_says_so_or_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "silent":
        monkeypatch.setattr(ray_slot, "DRIVER_SILENT_S", 0.05)
    here, answers = slot(tmp_path, Held(free=threading.Event())), []
    thread = threading.Thread(target=lambda: answers.append(here.make("me", task())))
    thread.start()
    while json.loads(here.beat("somebody else"))["owner"] != "me":
        assert thread.is_alive()
    here.stop("somebody else")  # is not its driver
    if how == "stopped":
        here.stop("me")
    thread.join(10)
    assert json.loads(answers[0]) == {"stopped": True}


def test_files_travel_by_their_content(tmp_path: Path) -> None:
    image, lora = tmp_path / "a.png", tmp_path / "b.safetensors"
    image.write_bytes(b"picture" * 10)
    lora.write_bytes(b"weights")
    document = {
        "prompt": "content:nothing",
        "image_url": str(image),
        "loras": [{"path": str(lora), "scale": 1.0}, {"path": "toy/red"}, {"path": "owner/name"}],
    }
    sent, files = travelling(document)
    assert [file.path.name for file in files] == ["a.png", "b.safetensors"]
    assert str(tmp_path) not in json.dumps(sent)
    folder = ContentFolder(tmp_path / "contents")
    for file in files:
        assert not folder.holds(file.sha256, file.path.name)
        content = file.path.read_bytes()
        for number, at in enumerate(range(0, len(content), 10)):
            last = at + 10 >= len(content)
            folder.take(file.sha256, file.path.name, number, content[at : at + 10], last=last)
        assert folder.holds(file.sha256, file.path.name)
    arrived = with_paths(sent, folder)
    assert Path(arrived["image_url"]).read_bytes() == image.read_bytes()
    assert Path(arrived["loras"][0]["path"]).read_bytes() == b"weights"
    assert (arrived["prompt"], arrived["loras"][1:]) == (document["prompt"], document["loras"][1:])


def test_what_arrives_damaged_is_not_kept(tmp_path: Path) -> None:
    folder = ContentFolder(tmp_path)
    with pytest.raises(MediaError, match="damaged"):
        folder.take("0" * 64, "a.png", 0, b"other", last=True)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@given(name=st.sampled_from(["..", ".", "a/b", "a\\b", "", "a\0b"]) | st.text("/\\.", max_size=4))
def test_a_name_from_another_machine_stays_in_the_folder(name: str) -> None:
    folder = ContentFolder(Path("/contents"))
    try:
        place = folder.place("0" * 64, name)
    except ValueError:
        return
    assert place.parent == Path("/contents") / ("0" * 64)
    assert place.name == name not in (".", "..")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="image_url"):
        travelling({"image_url": str(tmp_path / "nothing.png")})
    with pytest.raises(LoraError):
        travelling({"loras": [{"path": str(tmp_path / "nothing.safetensors")}]})


def test_a_token_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = make_token(tmp_path)
    assert make_token(tmp_path) == file == token_file(tmp_path)
    assert len(file.read_text()) == 64
    file.chmod(0o640)
    with pytest.raises(KeyProblemError, match="chmod 600"):
        token_file(tmp_path)
    with pytest.raises(KeyProblemError, match="--insecure"):
        token_file(tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "version", "fits"),
    [("Python", "3.99.0", False), ("ray", "1.0.0", False), ("wan-duet", "9.0.0", False), ("", "", True)],
)
def test_another_minor_version_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, version: str, fits: bool
) -> None:
    monkeypatch.setattr(cluster_access.importlib.metadata, "version", lambda _: "2.60.0")
    theirs: dict[str, str] = {**versions(), **({name: version} if name else {})}
    if fits:
        require_same(theirs, "slot-1")
        return
    with pytest.raises(PackageError, match=f"^slot-1: {name} {version} there and [^\n]*$"):
        require_same(theirs, "slot-1")


def test_a_missing_ray_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_access.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PackageError, match=r"pip install 'wan-duet\[ray\]'"):
        cluster_access.require_ray()

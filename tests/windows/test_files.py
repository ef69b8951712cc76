"""What becomes of files while somebody has them open, under the rules of Windows (see rules.py)."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import KeyProblemError, MediaError
from wan_duet.pipelines.files.on_disk import FileInUseError, discard, move_into_place, remove
from wan_duet.pipelines.generate.render import render
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.keys import Key, find_key, keep_key
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.video.edit import Edit
from wan_duet.pipelines.video.latent_file import LatentFile, read_latents, write_latents
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.weights.stored_tensors import Files

from ..download.conftest import MakeDownloads, downloads, loopback, server, site, weights
from ..download.small_web import Site
from ..download.test_downloads import HOST, PATH, get
from ..video.clips import write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is open is read from /proc")

__all__ = ["downloads", "loopback", "server", "site", "weights"]  # fixtures of the downloads

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def opened(file: Path) -> Iterator[None]:
    with file.open("rb"):
        yield


@contextmanager
def mapped(file: Path) -> Iterator[None]:
    tensor = torch.from_file(str(file), shared=False, size=file.stat().st_size, dtype=torch.uint8)
    yield
    del tensor


InUse = Callable[[Path], AbstractContextManager[None]]
both_ways = pytest.mark.parametrize("used", [opened, mapped])


def as_our_code(text: str, **names: object) -> None:
    exec(compile(text, str(ROOT / "pipelines" / "any.py"), "exec"), {"os": os, **names})  # noqa: S102


@both_ways
def test_a_file_in_use_is_neither_replaced_nor_removed(tmp_path: Path, used: InUse) -> None:
    file, part = tmp_path / "a", tmp_path / "a.part"
    file.write_bytes(b"old")
    part.write_bytes(b"new")
    with used(file):
        for act in (lambda: move_into_place(part, file), lambda: move_into_place(file, part)):
            with pytest.raises(FileInUseError, match="another program has it open"):
                act()
        with pytest.raises(FileInUseError):
            remove(file)
        discard(file)
    assert (file.read_bytes(), part.read_bytes()) == (b"old", b"new")
    move_into_place(part, file)
    assert file.read_bytes() == b"new"
    remove(file)
    assert list(tmp_path.iterdir()) == []


def test_what_a_scanner_holds_for_a_moment_is_replaced_after_it(tmp_path: Path) -> None:
    file, part = tmp_path / "a", tmp_path / "a.part"
    file.write_bytes(b"old")
    part.write_bytes(b"new")
    scanner, waits = part.open("rb"), []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            scanner.close()

    move_into_place(part, file, sleep=sleep)
    assert waits == [0.05, 0.1]
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize(("seconds", "is_waited_for"), [(1.0, True), (5.0, False)])
def test_a_file_in_use_is_waited_for_a_second_and_not_five(
    tmp_path: Path, seconds: float, is_waited_for: bool
) -> None:
    file, waits = tmp_path / "a", [0.0]
    file.touch()
    scanner = file.open("rb")

    def sleep(wait_s: float) -> None:
        waits.append(wait_s)
        if sum(waits) >= seconds:
            scanner.close()

    with closing(scanner), nullcontext() if is_waited_for else pytest.raises(FileInUseError):
        remove(file, sleep=sleep)
    assert file.exists() is not is_waited_for
    assert sum(waits) < 5.0


def test_a_refusal_that_is_none_of_a_file_in_use_is_not_tried_again(tmp_path: Path) -> None:
    def sleep(seconds: float) -> None:
        pytest.fail("waited")

    with pytest.raises(FileNotFoundError):
        move_into_place(tmp_path / "missing", tmp_path / "a", sleep=sleep)


def test_our_code_gets_no_link_no_fork_and_no_odd_name(tmp_path: Path) -> None:
    """Of the rules themselves: without them each of these would work here."""
    (tmp_path / "a").write_bytes(b"1234")
    for text, number in (
        ("os.symlink(place / 'a', place / 'b')", errno.EPERM),
        ("os.fork()", errno.ENOSYS),
        ("open(place / 'a:b', 'w')", errno.EINVAL),
        ("(place / 'Nul.mp4').touch()", errno.EINVAL),
    ):
        with pytest.raises(OSError) as caught:  # noqa: PT011
            as_our_code(text, place=tmp_path)
        assert caught.value.errno == number, text
    with mapped(tmp_path / "a"):
        for text in ("open(place / 'a', 'w')", "os.truncate(place / 'a', 0)"):
            with pytest.raises(OSError, match="user-mapped"):
                as_our_code(text, place=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    os.symlink(tmp_path / "a", tmp_path / "b")  # a test may


def test_a_video_that_is_played_stays_and_the_latents_of_the_new_one_are_kept(tmp_path: Path) -> None:
    model, out = load_model("toy"), tmp_path / "a.mp4"
    latents = torch.randn(1, 16, 2, 4, 8, generator=torch.Generator().manual_seed(0))
    edit, memory = Edit(probe_rate := write(out).fps, write_mode="fast"), DeviceMemory("cpu")
    before = out.read_bytes()
    with (
        opened(out),
        pytest.raises(MediaError, match=r"another program has it open.*kept in .*a\.mp4\.latent"),
    ):
        render(model, latents, out, edit, memory, Silent())
    assert out.read_bytes() == before
    kept = tmp_path / "a.mp4.latent"
    assert sorted(tmp_path.iterdir()) == [out, kept]
    file = read_latents(kept)
    assert torch.equal(file.latents, latents)
    render(model, file.latents, out, edit, memory, Silent())
    assert (probe(out).frames, probe(out).fps) == (5, probe_rate)
    discard(kept)
    assert list(tmp_path.iterdir()) == [out]


def test_a_video_that_is_played_is_noticed_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.mp4"
    write(out)
    with opened(out):
        assert main(["generate", "--prompt", "a red ball", "--model", "toy", "-o", str(out)]) == 1
    shown = capsys.readouterr().err
    assert "a.mp4: another program has it open; close it there" in shown
    assert "text:" not in shown


def test_a_video_can_be_converted_onto_itself(tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    write(out)
    assert main(["media", "convert", str(out), "-o", str(out), "--fps", "8"]) == 0
    assert probe(out).fps == 8
    assert list(tmp_path.iterdir()) == [out]


def test_latents_that_were_read_can_be_removed(tmp_path: Path) -> None:
    file = tmp_path / "a.latent"
    write_latents(file, LatentFile(torch.ones(1, 16, 1, 4, 4)))
    held = read_latents(file).latents
    remove(file)
    assert not file.exists()
    assert torch.equal(held, torch.ones_like(held))


def test_a_lora_that_changed_while_a_model_has_it_mapped_is_fetched_beside_it(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.file(HOST, PATH, weights)
    file = get(downloads())
    os.utime(file, (1, 1))  # no longer as it was downloaded
    held = Files(torch.device("cpu")).raw(file, 0, len(weights))
    again = get(downloads())
    assert again != file
    assert again.read_bytes() == file.read_bytes() == weights
    assert get(downloads()) == again
    assert len(site.asked) == 2
    assert held.numpy().tobytes() == weights
    assert not list(file.parent.glob("*.part*"))


def test_a_dead_owner_is_known_while_another_process_looks_at_its_lock(tmp_path: Path) -> None:
    owner, dead = OwnerLock(tmp_path), tmp_path / "dead.lock"
    dead.touch()
    with opened(dead):
        assert not owner.is_alive("dead")
        assert dead.exists()
    assert not owner.is_alive("dead")
    assert not dead.exists()
    with opened(tmp_path / f"{owner.token}.lock"):
        owner.retire()
    assert not OwnerLock(tmp_path).is_alive(owner.token)


def test_keys_that_are_being_read_stay_as_they_are(tmp_path: Path) -> None:
    keep_key("fal", "old", tmp_path)
    (file,) = tmp_path.iterdir()
    with opened(file), pytest.raises(KeyProblemError, match="another program has it open"):
        keep_key("fal", "new", tmp_path)
    assert list(tmp_path.iterdir()) == [file]
    keep_key("fal", "newer", tmp_path)
    assert find_key("fal", tmp_path, {}).account == Key("fal", "newer").account


def test_a_closed_journal_can_be_removed(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    with closing(Journal(file, lambda: 0.0)), pytest.raises(FileInUseError):
        remove(file)
    remove(file)
    assert list(tmp_path.iterdir()) == []

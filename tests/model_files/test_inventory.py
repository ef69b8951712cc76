"""What is here is found, what is not has a place, and a disk without room is known before the first byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import DownloadError
from wan_duet.pipelines.model_files.inventory import (
    Folders,
    Found,
    comfyui_folders,
    find_files,
    part_of,
    require_room,
    to_fetch,
)

from .conftest import published

FILE = published(b"12345", "a.safetensors", "diffusion_models")
MARGIN = 256 * 2**20


@pytest.mark.parametrize("place", ["diffusion_models", "diffusion_models/wan/2.2", "unet"])
def test_a_file_is_found_in_each_folder_of_its_kind_and_below(folders: Folders, place: str) -> None:
    file = folders["vae"][0].parent / place / FILE.name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"12345")
    (found,) = find_files([FILE], folders)
    assert (found.state, found.place, found.left_bytes) == ("here", file, 0)
    assert to_fetch([found]) == []


def test_what_is_not_here_belongs_into_the_folder_of_its_own_name(folders: Folders) -> None:
    (found,) = find_files([FILE], {**folders, FILE.folder: [Path("unet"), *folders[FILE.folder]]})
    assert found.place == folders["diffusion_models"][0] / FILE.name
    assert (found.state, found.left_bytes) == ("missing", 5)
    part_of(found.place).parent.mkdir()
    part_of(found.place).write_bytes(b"123")
    (found,) = find_files([FILE], folders)
    assert (found.state, found.have_bytes, found.left_bytes) == ("partly", 3, 2)


def test_another_file_of_that_name_is_never_replaced(folders: Folders) -> None:
    file = folders["diffusion_models"][0] / FILE.name
    file.parent.mkdir()
    file.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"has 4 bytes, the published file of this name has 5; rename"):
        to_fetch(find_files([FILE], folders))
    assert file.read_bytes() == b"mine"


@given(sizes=st.lists(st.integers(1, 10**10), min_size=1, max_size=4), free=st.integers(0, 3 * 10**10))
def test_all_files_together_must_fit_with_the_margin(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], free: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    wanted = [
        Found(published(b"", f"{number}.gguf", size_bytes=size), folder / str(number) / "x", "missing")
        for number, size in enumerate(sizes)
    ]
    if sum(sizes) + MARGIN <= free:
        require_room(wanted, lambda _: free)
    else:
        with pytest.raises(DownloadError, match=r"GB are free, the files need .* make room there"):
            require_room(wanted, lambda _: free)


def test_what_has_arrived_already_needs_no_room(tmp_path: Path) -> None:
    found = Found(published(b"", size_bytes=10**12), tmp_path / "x", "partly", have_bytes=10**12 - 10)
    require_room([found], lambda _: MARGIN + 10)
    with pytest.raises(DownloadError):
        require_room([found], lambda _: MARGIN + 9)


def test_the_folders_are_those_that_comfyui_reads(tmp_path: Path) -> None:
    folders = comfyui_folders(tmp_path)
    assert folders["diffusion_models"] == [tmp_path / "diffusion_models", tmp_path / "unet"]
    assert folders["vae"] == [tmp_path / "vae"]

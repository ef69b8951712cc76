"""What the path of a LoRA means: an embedded one, a file in the folders, a repository, an address."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import ones

from wan_duet.pipelines.download.downloads import Downloads
from wan_duet.pipelines.download.public_web import PublicTransport
from wan_duet.pipelines.download.web import Web
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.errors import LoraError
from wan_duet.pipelines.request.lora_weight import place_of
from wan_duet.pipelines.weights.lora.find import LoraSources

ADDRESS = "https://files.example/style.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "loras" / "style"
    made.mkdir(parents=True)
    (made / "a.safetensors").touch()
    (tmp_path / "secret.safetensors").touch()
    return made.parent


def offline(folder: Path) -> Downloads:
    """Where nobody answers."""

    class Nobody(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("the network is down")

    return Downloads(folder, Web(PublicTransport(Nobody(), lambda *_: ["1.1.1.1"])))


def online(folder: Path, body: bytes) -> Downloads:
    """Where every address answers with `body`."""
    answers = httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(body)))
    return Downloads(folder, Web(PublicTransport(answers, lambda *_: ["1.1.1.1"])))


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("https://a.b/c.safetensors", "address"),
        ("toy/circling", "embedded"),
        ("owner/name", "repository"),
        ("owner/name-v1.0", "repository"),
        ("toy/mine.safetensors", "file"),
        ("style.safetensors", "file"),
        ("style", "file"),
        ("a/b/c", "file"),
        ("./style", "file"),
        ("/style", "file"),
        ("~/style", "file"),
        ("a\\b", "file"),
        ("C:\\loras\\a.safetensors", "file"),
    ],
)
def test_a_path_means_one_thing(path: str, place: str) -> None:
    assert place_of(path) == place


@pytest.mark.parametrize("path", ["style/a.safetensors", "style\\a.safetensors"])
def test_a_name_of_either_system_is_found_below_its_folder(folder: Path, path: str) -> None:
    assert LoraSources([folder]).find(path) == folder / "style" / "a.safetensors"


def test_a_whole_path_is_read_inside_the_folders_only(folder: Path) -> None:
    inside, outside = folder / "style" / "a.safetensors", folder.parent / "secret.safetensors"
    assert LoraSources([folder]).find(str(inside)) == inside
    with pytest.raises(LoraError, match="is outside"):
        LoraSources([folder]).find(str(outside))
    assert LoraSources().find(str(outside)) == outside


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "linked.safetensors").symlink_to(folder.parent / "secret.safetensors")
    (folder / "far").symlink_to(folder.parent)
    for path in ("linked.safetensors", "far/secret.safetensors"):
        with pytest.raises(LoraError, match="is outside"):
            LoraSources([folder]).find(path)


@given(st.lists(st.sampled_from(["..", ".", "", "style", "secret.safetensors"]), max_size=5))
def test_no_path_leads_out_of_the_folders(parts: list[str]) -> None:
    here = Path(__file__).parent
    sources = LoraSources([here / "style"])
    for slash in "/\\":
        with pytest.raises(LoraError):
            sources.find(slash.join(["..", *parts, "test_recipe.py"]))


def test_a_missing_file_is_named_with_its_folders(folder: Path) -> None:
    with pytest.raises(LoraError, match=r"gone\.safetensors not found in .*loras; put the file there"):
        LoraSources([folder]).find("gone.safetensors")


def test_a_missing_file_that_lies_elsewhere_is_told(folder: Path) -> None:
    with pytest.raises(
        LoraError, match=r"put the file there\. A file of that name is at style/a\.safetensors"
    ):
        LoraSources([folder]).find("old\\A.safetensors")


def test_embedded_loras_are_found_by_name_and_listed_when_not(folder: Path) -> None:
    sources = LoraSources([folder], {"toy/circling": folder / "style" / "a.safetensors"})
    assert sources.find("toy/circling") == folder / "style" / "a.safetensors"
    with pytest.raises(LoraError, match=r"toy/other is not an embedded LoRA; give one of toy/circling"):
        sources.find("toy/other")
    with pytest.raises(LoraError, match="this installation has none"):
        LoraSources([folder]).find("toy/circling")


def test_what_is_embedded_exists() -> None:
    assert all(name.startswith("toy/") and file.is_file() for name, file in embedded_loras().items())


@pytest.mark.parametrize("path", ["style/a.safetensors", "toy/circling"])
def test_a_weight_name_beside_a_file_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(LoraError, match=r"weight_name chooses a file of a repository, and .* is a file"):
        LoraSources([folder]).find(path, "b.safetensors")


@pytest.mark.parametrize("path", [ADDRESS, "owner/name"])
def test_nothing_is_fetched_where_nothing_may_be(path: str) -> None:
    with pytest.raises(LoraError, match="downloads are off here"):
        LoraSources().find(path)


def test_an_address_is_fetched_once_and_then_needs_no_network(tmp_path: Path) -> None:
    body = save({"a": ones(3)})
    file = LoraSources(downloads=online(tmp_path, body)).find(ADDRESS)
    assert file.read_bytes() == body
    assert LoraSources(downloads=offline(tmp_path)).find(ADDRESS) == file


@pytest.mark.parametrize("path", [ADDRESS, "owner/name"])
def test_without_a_network_the_address_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(LoraError, match=f"^loras: {path}.*the network is down"):
        LoraSources(downloads=offline(tmp_path)).find(path)


@pytest.mark.parametrize("address", [ADDRESS, "https://huggingface.co/owner/name/blob/main/a.safetensors"])
def test_a_weight_name_beside_the_address_of_a_file_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(LoraError, match=r"weight_name chooses .* the address of a file"):
        LoraSources(downloads=offline(tmp_path)).find(address, "b.safetensors")


@pytest.mark.parametrize("repository", ["owner/name", "https://huggingface.co/owner/name"])
def test_a_weight_name_that_leads_out_of_its_repository_is_refused(tmp_path: Path, repository: str) -> None:
    with pytest.raises(LoraError, match=r"weight_name: .* is outside the repository"):
        LoraSources(downloads=offline(tmp_path)).find(repository, "../../b.safetensors")

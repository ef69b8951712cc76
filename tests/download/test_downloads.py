"""A file of the web, from its address to the folder it is kept in."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.download.address import HubFile, WebFile, read_address
from wan_duet.pipelines.download.downloads import Downloads
from wan_duet.pipelines.download.store import origin_of
from wan_duet.pipelines.errors import DownloadError
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.weights.lora.metadata import adapter_config_beside

from .conftest import MakeDownloads
from .small_web import Site

HOST, PATH = "files.example", "/a/style.safetensors"
ADDRESS = f"https://{HOST}{PATH}"
COMMIT = "0123456789abcdef" * 2 + "01234567"


def web_file(text: str = ADDRESS) -> WebFile:
    found = read_address(text)
    assert isinstance(found, WebFile)
    return found


def get(downloads: Downloads, wanted: WebFile | HubFile | None = None, progress: Any = None) -> Path:
    return downloads.get(wanted or web_file(), progress or Silent())


def test_a_file_is_fetched_once_and_named_after_itself_and_its_content(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.file(HOST, PATH, weights)
    file = get(downloads())
    digest = hashlib.sha256(weights).hexdigest()
    assert file.read_bytes() == weights
    assert file.name == f"style.{digest[:12]}.safetensors"
    assert get(downloads()) == file
    assert len(site.asked) == 1


def test_the_second_run_says_where_its_file_comes_from(
    site: Site, downloads: MakeDownloads, weights: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    site.file(HOST, PATH, weights)
    get(downloads())
    with caplog.at_level(logging.INFO):
        file = get(downloads())
    assert f"{ADDRESS}: using {file.name}, downloaded before" in caplog.text


def test_two_addresses_of_one_content_are_kept_once(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.file(HOST, PATH, weights)
    site.file("other.example", "/b.safetensors", weights)
    one = get(downloads())
    assert get(downloads(), web_file("https://other.example/b.safetensors")) == one
    assert [file.name for file in one.parent.glob("*.safetensors")] == [one.name]


def test_a_deleted_or_changed_file_is_fetched_again(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.file(HOST, PATH, weights)
    file = get(downloads())
    file.unlink()
    assert get(downloads()).read_bytes() == weights
    file.write_bytes(b"not what was downloaded")
    assert get(downloads()).read_bytes() == weights
    assert len(site.asked) == 3


def test_a_kept_file_tells_where_it_came_from(site: Site, downloads: MakeDownloads, weights: bytes) -> None:
    site.file(HOST, PATH, weights)
    file = get(downloads(), web_file(f"{ADDRESS}?X-Signature=s3cret&format=SafeTensor"))
    origin = origin_of(file)
    assert origin is not None
    assert origin.address == f"{ADDRESS}?format=SafeTensor"
    assert origin.sha256 == hashlib.sha256(weights).hexdigest()
    assert "s3cret" not in (file.parent / "index.json").read_text()


def test_a_file_of_the_user_has_no_origin(tmp_path: Path, weights: bytes) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(weights)
    assert origin_of(file) is None
    (tmp_path / "index.json").write_text('{"somebody": "else"}')
    assert origin_of(file) is None


def test_the_server_may_name_the_file_but_not_its_place(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.file(
        HOST,
        "/7",
        weights,
        **{"Content-Disposition": 'attachment; filename="../../evil dir/x y.safetensors"'},
    )
    made = downloads()
    file = get(made, web_file(f"https://{HOST}/7"))
    assert file.parent == made.folder
    assert file.name.startswith("x-y.")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"file": "../x.safetensors"}}', '{"a": 1}'])
def test_a_damaged_index_is_named_and_nothing_is_fetched(
    site: Site, downloads: MakeDownloads, weights: bytes, text: str
) -> None:
    made = downloads()
    made.folder.mkdir()
    (made.folder / "index.json").write_text(text)
    with pytest.raises(DownloadError, match=r"index\.json: damaged .* delete it"):
        get(made)
    assert site.asked == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, downloads: MakeDownloads) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="the download folder cannot be used"):
        get(downloads(tmp_path / "file" / "below"))


HOLDER = """
import pathlib, sys
from wan_duet.pipelines.download.store import Store
with Store(pathlib.Path(sys.argv[1])).locked(lambda: None):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_never_download_into_one_folder_at_once(
    site: Site, downloads: MakeDownloads, weights: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    site.file(HOST, PATH, weights)
    made = downloads()
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDER, str(made.folder)]
    other = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"

    class Impatient(Silent):
        looked = 0

        def check(self) -> None:
            self.looked += 1
            if self.looked == 3:
                raise KeyboardInterrupt

    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        get(made, progress=Impatient())
    assert "another process downloads into" in caplog.text
    assert site.asked == []
    other.communicate("go\n")
    assert get(made).read_bytes() == weights


def repository(
    site: Site, weights: bytes, *names: str, commit: str = COMMIT, sha256: str | None = None
) -> None:
    """`owner/name` on the Hub, with these files."""
    digest = hashlib.sha256(weights).hexdigest() if sha256 is None else sha256
    files = [{"rfilename": name, "lfs": {"sha256": digest}} for name in names]
    listing = json.dumps({"sha": commit, "siblings": [{"rfilename": "README.md"}, *files]}).encode()
    site.file("huggingface.co", "/api/models/owner/name/revision/main", listing)
    for name in names:
        site.file("huggingface.co", f"/owner/name/resolve/{commit}/{name}", weights)


def test_a_repository_with_one_file_needs_no_name_and_its_commit_is_noted(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    repository(site, weights, "style.safetensors")
    file = get(downloads(), HubFile("owner/name"))
    origin = origin_of(file)
    assert origin is not None
    assert (origin.address, origin.revision) == ("owner/name/style.safetensors", COMMIT)
    asked = len(site.asked)
    assert get(downloads(), HubFile("owner/name")) == file
    assert len(site.asked) == asked


def adapter(site: Site, weights: bytes, alpha: int, *, name: str = "adapter_model.safetensors") -> None:
    """Publish `owner/name` as a repository of PEFT."""
    repository(site, weights, name)
    config = f"{name.rpartition('adapter')[0]}adapter_config.json"
    listing = {"sha": COMMIT, "siblings": [{"rfilename": name}, {"rfilename": config}]}
    site.file("huggingface.co", "/api/models/owner/name/revision/main", json.dumps(listing).encode())
    text = json.dumps({"r": 4, "lora_alpha": alpha, "peft_type": "LORA"})
    site.file("huggingface.co", f"/owner/name/resolve/{COMMIT}/{config}", text.encode())


@pytest.mark.parametrize("folder", ["", "high/"])
def test_an_adapter_of_peft_comes_with_the_configuration_that_has_its_alpha(
    site: Site, downloads: MakeDownloads, weights: bytes, folder: str
) -> None:
    adapter(site, weights, 16, name=f"{folder}adapter_model.safetensors")
    file = get(downloads(), HubFile("owner/name"))
    config = adapter_config_beside(file)
    assert config is not None
    assert json.loads(config.read_text())["lora_alpha"] == 16
    assert get(downloads(), HubFile("owner/name")) == file
    config.unlink()
    assert get(downloads(), HubFile("owner/name")) == file
    assert config.is_file()


def test_equal_weights_with_another_alpha_are_refused(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    adapter(site, weights, 16)
    made = downloads()
    file = get(made, HubFile("owner/name"))
    (made.folder / "index.json").unlink()
    adapter(site, weights, 32)
    with pytest.raises(DownloadError, match=r"adapter_config\.json: these weights are kept with another"):
        get(made, HubFile("owner/name"))
    assert json.loads(file.with_suffix(".adapter_config.json").read_text())["lora_alpha"] == 16


def test_an_adapter_whose_configuration_does_not_come_is_not_kept(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    adapter(site, weights, 16)
    del site.pages["huggingface.co", f"/owner/name/resolve/{COMMIT}/adapter_config.json"]
    made = downloads()
    with pytest.raises(DownloadError, match=r"its adapter_config\.json cannot be read, the Hub answered 404"):
        get(made, HubFile("owner/name"))
    assert list(made.folder.glob("*.safetensors")) == []


def test_a_repository_with_several_files_lists_them(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    repository(site, weights, "high.safetensors", "sub/low.safetensors")
    with pytest.raises(DownloadError, match=r"has 2 .* weight_name: high\.safetensors, sub/low\.safetensors"):
        get(downloads(), HubFile("owner/name"))
    with pytest.raises(DownloadError, match=r"has no file low\.safetensors; give one of"):
        get(downloads(), HubFile("owner/name", "low.safetensors"))
    assert get(downloads(), HubFile("owner/name", "sub/low.safetensors")).name.startswith("low.")


def test_a_repository_without_safetensors_is_refused(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    repository(site, weights)
    with pytest.raises(DownloadError, match=r"has no \.safetensors file"):
        get(downloads(), HubFile("owner/name"))


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "a/../../x.safetensors",
        "/etc/x.safetensors",
        "..\\x.safetensors",
        "C:/x.safetensors",
        "a//b.safetensors",
    ],
)
def test_a_weight_name_that_leads_out_is_refused_before_anybody_is_asked(
    site: Site, downloads: MakeDownloads, name: str
) -> None:
    with pytest.raises(DownloadError, match=r"weight_name: .* is outside the repository"):
        get(downloads(), HubFile("owner/name", name))
    assert site.asked == []


@pytest.mark.parametrize("name", ["owner/..", "../name", "own er/name", "owner/na?me", "owner/na#me"])
def test_a_repository_name_that_is_none_is_refused_before_anybody_is_asked(
    site: Site, downloads: MakeDownloads, name: str
) -> None:
    with pytest.raises(DownloadError, match="not a repository name"):
        get(downloads(), HubFile(name))
    assert site.asked == []


def test_other_content_than_the_hub_lists_is_not_kept(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    repository(site, weights, "style.safetensors", sha256="0" * 64)
    made = downloads()
    with pytest.raises(DownloadError, match=r"has sha256 .* but the repository lists 000000000000"):
        get(made, HubFile("owner/name"))
    assert sorted(file.name for file in made.folder.iterdir() if file.suffix != ".lock") == []


def test_content_that_is_kept_already_is_not_fetched_for_another_repository(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.file(HOST, PATH, weights)
    file = get(downloads())
    repository(site, weights, "style.safetensors")
    assert get(downloads(), HubFile("owner/name")) == file
    assert "resolve" not in site.asked[-1].path


def test_a_repository_that_is_not_shown_asks_for_the_token(downloads: MakeDownloads) -> None:
    with pytest.raises(DownloadError, match=r"owner/name: .* no such public repository.*HF_TOKEN"):
        get(downloads(), HubFile("owner/name"))


@pytest.mark.parametrize(
    "listing",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        "{}",
        '{"siblings": null}',
        '{"siblings": [null, 1, {"rfilename": 1}]}',
        '{"siblings": [{"rfilename": "a.safetensors", "lfs": 1}]}',
        '{"siblings": [{"rfilename": "a.safetensors"}], "sha": "../../evil"}',
        '{"siblings": [{"rfilename": "a.safetensors"}], "sha": 1}',
    ],
    ids=lambda text: text[:60],
)
def test_an_odd_answer_of_the_hub_is_refused_and_nothing_is_kept(
    site: Site, downloads: MakeDownloads, listing: str
) -> None:
    site.file("huggingface.co", "/api/models/owner/name/revision/main", listing.encode())
    made = downloads()
    with pytest.raises(DownloadError, match="owner/name"):
        get(made, HubFile("owner/name"))
    assert list(made.folder.glob("*.safetensors")) == []
    assert len(site.asked) == 1

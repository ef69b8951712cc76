"""Pickles of the official repositories: read where the user allows it, and even then without their code."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_files as tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.loading.file_settings import opens_pickles
from wan_duet.pipelines.loading.identify import read_part
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.weights.pickled_file import read_pickle
from wan_duet.pipelines.weights.stored_tensors import Files

CPU = torch.device("cpu")


def saved(file: Path, content: object, **more: Any) -> Path:
    torch.save(content, file, **more)
    return file


@pytest.mark.parametrize("kind", ["VAE", "text encoder"])
def test_an_official_file_is_read_where_the_user_allows_it(tmp_path: Path, kind: str) -> None:
    weights = tiny.vae("2.1") if kind == "VAE" else tiny.text_encoder()
    names = tiny.wan_vae_names(weights) if kind == "VAE" else tiny.wan_text_names(weights)
    file = saved(tmp_path / "Wan2.1.pth", tiny.cast(names, torch.bfloat16))
    recipe = read_part(file, kind, "part", open_pickles=True)  # type: ignore[arg-type]
    plain = read_part(
        tiny.save(tmp_path / "m.safetensors", tiny.cast(names, torch.bfloat16)),
        kind,
        "part",  # type: ignore[arg-type]
    )
    assert recipe.config == plain.config
    assert recipe.files == (file,)
    with Files(CPU) as files:
        for name, tensor in plain.tensors.items():
            assert torch.equal(recipe.tensors[name].compute(files), tensor.compute(files))
    with pytest.raises(ModelError, match="can run any code"):
        read_part(file, kind, "part")  # type: ignore[arg-type]


def test_a_model_takes_them_as_vae_and_text_encoder_only(tmp_path: Path) -> None:
    names = tiny.wan_transformer_names(tiny.transformer(channels=48, out=48))
    model = tiny.save(tmp_path / "m.safetensors", names)
    vae = saved(tmp_path / "Wan2.2_VAE.pth", tiny.wan_vae_names(tiny.vae("2.2")))
    text = saved(tmp_path / "umt5.pth", tiny.wan_text_names(tiny.text_encoder()))
    (tmp_path / "spiece.model").write_bytes(tiny.spiece_model())
    made = load_model(model, vae=vae, text_encoder=text, open_pickles=True)
    assert (made.vae.files, made.text_encoder.files) == ((vae,), (text,))
    with pytest.raises(ModelError, match="can run any code"):
        load_model(model, vae=vae, text_encoder=text)
    with pytest.raises(ModelError, match="can run any code"):
        load_model(saved(tmp_path / "m.pth", names), vae=vae, text_encoder=text, open_pickles=True)


class Harm:
    """What runs code when it is unpickled as usual."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.file),)


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    file = saved(tmp_path / "m.pth", {"a": torch.ones(2), "b": Harm(tmp_path / "harmed")})
    with pytest.raises(ModelError, match=r"m\.pth: cannot be opened as weights alone"):
        read_pickle(file)
    assert not (tmp_path / "harmed").exists()
    torch.load(file, weights_only=False)  # else the test would prove nothing
    assert (tmp_path / "harmed").exists()


def compressed(file: Path) -> Path:
    saved(file, {"a": torch.zeros(10_000)})
    with zipfile.ZipFile(file) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return file


def cut_short(file: Path) -> Path:
    file.write_bytes(b"PK" * 40)
    return file


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "compressed": (compressed, "is compressed"),
    "another format": (
        lambda file: saved(file, {"a": torch.ones(2)}, _use_new_zipfile_serialization=False), "not an archive"
    ),
    "grown from one number": (lambda file: saved(file, {"a": torch.ones(1).expand(2**40)}), "not a plain"),
    "whole numbers": (lambda file: saved(file, {"a": torch.ones(2, dtype=torch.int64)}), "a is not a plain"),
    "nested": (lambda file: saved(file, {"model": {"a": torch.ones(2)}}), "model is not a plain float"),
    "a list": (lambda file: saved(file, [torch.ones(2)]), "holds a list"),
    "empty": (lambda file: saved(file, {}), "holds a dict"),
    "cut short": (cut_short, "not an archive"),
    "missing": (lambda file: file, "not found"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_anything_but_a_table_of_plain_tensors_is_refused(tmp_path: Path, what: str) -> None:
    make, message = REFUSED[what]
    with pytest.raises(ModelError, match=message) as caught:
        read_pickle(make(tmp_path / "m.pth"))
    assert "m.pth" in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_spoiled_file_is_read_or_refused_by_name(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(saved(tmp_path / "m.pth", {f"a{i}": torch.ones(5) for i in range(3)}).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 8))
        content[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8) | st.just(b"\xff" * 8))
    (tmp_path / "m.pth").write_bytes(
        content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))]
    )
    problem = None
    try:
        found = read_pickle(tmp_path / "m.pth")
    except ModelError as error:
        problem, found = str(error), {}
    assert problem is None or "m.pth" in problem
    for source in found.values():
        assert source.read(Files(CPU)).shape == source.shape


def test_a_file_whose_names_are_no_text_is_refused(tmp_path: Path) -> None:
    """Of all damage, this was an exception that named no file."""
    file = saved(tmp_path / "m.pth", {"a": torch.ones(5)})
    content = file.read_bytes()
    at = content.rindex(b"PK\x01\x02")  # the last entry of the archive's list
    flagged = bytearray(content)
    flagged[at + 8 : at + 10] = (0x800).to_bytes(2, "little")  # its name is UTF-8
    flagged[at + 46 : at + 48] = b"\xf1\xf1"
    file.write_bytes(flagged)
    with pytest.raises(ModelError, match=r"m\.pth: not an archive of torch"):
        read_pickle(file)


def test_a_file_larger_than_the_largest_official_one_is_not_opened(tmp_path: Path) -> None:
    file = saved(tmp_path / "m.pth", {"a": torch.ones(1000)})
    assert read_pickle(file, most_bytes=file.stat().st_size)
    with pytest.raises(ModelError, match="more than 1000"):
        read_pickle(file, most_bytes=1000)


def test_the_switch_is_off_unless_the_file_turns_it_on(tmp_path: Path) -> None:
    assert not opens_pickles(tmp_path)
    for content, expected in (
        ('{"open_pickles": true}', True),
        ('{"open_pickles": false}', False),
        ("{}", False),
    ):
        (tmp_path / "files.json").write_text(content)
        assert opens_pickles(tmp_path) is expected


@pytest.mark.parametrize(
    "content", ["[", "[]", '{"open_pickles": "yes"}', '{"open_pickles": 1}', '{"open": true}']
)
def test_a_switch_that_is_misread_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "files.json").write_text(content)
    with pytest.raises(ModelError, match=r"files\.json: (found|cannot be read)"):
        opens_pickles(tmp_path)

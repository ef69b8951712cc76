"""Single weight files on the command line: named part by part, and told apart before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_files as tiny

from wan_duet.pipelines.cli import main


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A Wan 2.2 text-to-video model as flags, one container for each expert."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "spiece.model").write_bytes(tiny.spiece_model())
    low, _ = tiny.save_gguf(folder / "low.gguf", tiny.wan_transformer_names(tiny.transformer(2)), "Q8_0")
    return {
        "--model": str(tiny.save(folder / "a.safetensors", tiny.wan_transformer_names(tiny.transformer(1)))),
        "--low-model": str(low),
        "--vae": str(tiny.save(folder / "v.safetensors", tiny.wan_vae_names(tiny.vae("2.1")))),
        "--text-encoder": str(tiny.save(folder / "t.safetensors", tiny.wan_text_names(tiny.text_encoder()))),
    }


def check(flags: dict[str, str], *more: str) -> int:
    named = [part for flag in flags.items() for part in flag]
    return main(["check", "--prompt", "a red ball", *named, *more])


def test_check_reads_the_family_from_files(flags: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert check(flags) == 0
    assert "local on wan2.2-t2v-a14b" in capsys.readouterr().out
    assert check({name: flags[name] for name in flags if name != "--low-model"}, "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "--vae"}, "v.safetensors is a VAE; a transformer is needed"),
        ({"--vae": "--text-encoder"}, "vae: "),
        ({"--low-model": "--model"}, "is the same as the high-noise expert"),
    ],
)
def test_a_file_in_the_wrong_place_is_said_to_be_what_it_is(
    flags: dict[str, str], capsys: pytest.CaptureFixture[str], change: dict[str, str], message: str
) -> None:
    assert check(flags | {slot: flags[other] for slot, other in change.items()}) == 1
    assert message in capsys.readouterr().err


def test_a_missing_part_is_named_with_where_to_get_it(
    flags: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check({name: flags[name] for name in ("--model", "--low-model", "--text-encoder")}) == 1
    assert "put wan_2.1_vae.safetensors into models/vae (https://huggingface.co/" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--low-model", "--vae", "--text-encoder", "--tokenizer"])
def test_a_part_without_its_model_is_refused(
    flag: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert check({flag: str(tmp_path / "x.safetensors")}) == 2
    assert f"{flag}: given without --model" in capsys.readouterr().err

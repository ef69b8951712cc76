"""`wan-duet lora inspect`, through the command line's own entry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.embedded.toy_model import toy_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"


def lora(file: Path, *modules: str, width: int = 256) -> Path:
    weights = {}
    for module in modules:
        weights[f"transformer.{module}.lora_A.weight"] = torch.ones(2, width)
        weights[f"transformer.{module}.lora_B.weight"] = torch.ones(width, 2)
    save_file(weights, file, metadata={"ss_sd_model_name": "wan2.2_t2v_low_noise_14B.safetensors"})
    return file


def test_a_file_alone_tells_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lora", "inspect", str(lora(tmp_path / "a.safetensors", "blocks.0.attn1.to_q"))]) == 0
    out = capsys.readouterr().out
    for line in ("a.safetensors", "dialect: transformer., diffusers names", "rank 2, no alpha", "low"):
        assert line in out


def test_with_a_model_every_expert_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = lora(tmp_path / "a.safetensors", "blocks.0.attn1.to_q", "blocks.9.attn1.to_q")
    assert main(["lora", "inspect", str(file), "--model", "toy", "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["base"]["version"] == "2.2"
    assert answer["intended"]["expert"] == "low"
    assert answer["experts"].keys() == {"high", "low"}
    assert (answer["experts"]["high"]["matched"], answer["experts"]["high"]["unmatched"]) == (2, 2)
    assert "only 50% of its keys fit" in answer["experts"]["low"]["refused"]


def test_a_fitting_file_is_not_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = lora(tmp_path / "a.safetensors", "blocks.0.attn1.to_q")
    assert main(["lora", "inspect", str(file), "--model", "toy"]) == 0
    out = capsys.readouterr().out
    assert "high at 1: 2 keys matched, 1 tensors changed" in out
    assert "seems to be made for the low-noise expert" in out
    assert "refused" not in out


def test_an_embedded_lora_goes_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lora", "inspect", "toy/circling", "--model", "toy"]) == 0
    assert "intended for: high" in capsys.readouterr().out
    assert main(["lora", "inspect", "toy/nothing"]) == 1
    assert "give one of toy/circling" in capsys.readouterr().err


def test_two_files_are_a_model_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    high, low = (str(toy_folder() / part / WEIGHTS) for part in ("transformer", "transformer_2"))
    file = str(lora(tmp_path / "a.safetensors", "blocks.0.attn1.to_q"))
    assert main(["lora", "inspect", file, "--model", high, "--low-model", low, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["experts"].keys() == {"high", "low"}
    assert main(["lora", "inspect", file, "--low-model", low]) == 2
    assert "--low-model: given without --model" in capsys.readouterr().err


def test_what_nobody_knows_is_said_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"te_text_model.lora_up.weight": torch.ones(1, 1)}, tmp_path / "a.safetensors")
    assert main(["lora", "inspect", str(tmp_path / "a.safetensors")]) == 2
    assert "1 unknown keys, such as te_text_model" in capsys.readouterr().out


def test_a_damaged_file_is_an_error_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 9)
    assert main(["lora", "inspect", str(tmp_path / "a.safetensors"), "--json"]) == 1
    assert json.loads(capsys.readouterr().err)["error"] == "LoraError"


@pytest.mark.parametrize(
    ("number", "told"), [(0.0, "every change is zero"), (float("nan"), "lora_B.weight contains NaN or Inf")]
)
def test_a_lora_of_zeros_or_nan_is_told_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: float, told: str
) -> None:
    module = "transformer.blocks.0.attn1.to_q"
    weights = {
        f"{module}.lora_A.weight": torch.ones(2, 256),
        f"{module}.lora_B.weight": torch.full((256, 2), number),
    }
    save_file(weights, tmp_path / "a.safetensors")
    assert main(["lora", "inspect", str(tmp_path / "a.safetensors"), "--model", "toy"]) == 2
    assert f"warning: {'a.safetensors: ' + module + '.' if number else ''}{told}" in capsys.readouterr().out
    assert main(["lora", "inspect", str(tmp_path / "a.safetensors"), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert (answer["without_effect"], len(answer["damaged"])) == ((1, 0) if number == 0 else (0, 1))


def test_a_folder_of_peft_is_a_lora(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "style"
    folder.mkdir()
    lora(folder / "adapter_model.safetensors", "blocks.0.attn1.to_q")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 8}))
    assert main(["lora", "inspect", str(folder), "--model", "toy"]) == 0
    assert "rank 2, alpha 8, effective scale 4" in capsys.readouterr().out

"""A folder in diffusers layout is held against its network before anything else, by headers alone."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.loading.architecture import _DEFAULTS, _shapes_of
from wan_duet.pipelines.loading.wan_model import load_model

WEIGHTS = "diffusion_pytorch_model.safetensors"
Tensors = dict[str, Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_folder(), tmp_path / "model"))


def edit(part: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(part / WEIGHTS)
    change(tensors)
    save_file(tensors, part / WEIGHTS)


def spoil(tensors: Tensors) -> None:
    tensors["blocks.1.ffn.net.2.bias"] = torch.zeros(7)
    tensors["blocks.0.attn1.to_q.extra"] = torch.zeros(1)
    del tensors["blocks.0.attn2.to_k.weight"]


@pytest.mark.parametrize("part", ["transformer", "transformer_2"])
@pytest.mark.parametrize("command", [["check"], ["plan"], ["generate", "-o", "out.mp4"]])
def test_missing_extra_and_misshapen_tensors_are_all_named_before_any_work(
    folder: Path, part: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    edit(folder / part, spoil)
    assert main([*command, "--prompt", "a red ball", "--model", str(folder)]) != 0
    told = capsys.readouterr().err
    assert f"{folder / part}: has no tensor for blocks.0.attn2.to_k.weight (1 missing)" in told
    assert "no place for, such as blocks.0.attn1.to_q.extra (1 in all)" in told
    assert "blocks.1.ffn.net.2.bias has shape [7]; by its config.json it should be [256]" in told


@pytest.mark.parametrize("layers", ["three", 10**9, -1, None, 2.0])
def test_a_configuration_without_counts_is_refused(folder: Path, layers: object) -> None:
    config = json.loads((folder / "transformer" / "config.json").read_text()) | {"num_layers": layers}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"config\.json: num_layers is .*; a count is needed"):
        load_model(folder)


def test_a_vae_in_a_folder_is_held_against_its_network_too(folder: Path) -> None:
    edit(folder / "vae", lambda tensors: tensors.pop("quant_conv.bias"))
    with pytest.raises(ModelError, match=r"vae: has no tensor for quant_conv\.bias"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("attn2.norm_added_q.weight", "the result is the same without them"),
        ("cross_attn.norm_q_img.weight", "the result is the same without them"),
        ("to_gate_compress.weight", "this model was trained with it"),
    ],
)
@pytest.mark.parametrize("single", [False, True])
def test_tensors_that_nothing_uses_are_left_out_and_told(
    folder: Path, name: str, said: str, single: bool
) -> None:
    for part in ("transformer", "transformer_2"):
        edit(folder / part, lambda tensors: tensors.update({f"blocks.0.{name}": torch.ones(256)}))
    plain, parts = load_model(toy_folder()), {}
    source = folder
    if single:
        source = folder / "transformer" / WEIGHTS
        low = folder / "transformer_2" / WEIGHTS
        parts = {"low": low, "vae": folder / "vae", "text_encoder": folder / "text_encoder"}
    model = load_model(source, **parts)
    assert model.experts["high"].tensors.keys() == plain.experts["high"].tensors.keys()
    (note,) = model.notes
    assert note.startswith(f"1 tensors {name.removesuffix('.weight')} are left out")
    assert said in note


def test_what_was_left_out_stands_in_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(
        folder / "transformer",
        lambda tensors: tensors.update({"blocks.0.to_gate_compress.bias": torch.ones(1)}),
    )
    assert main(["check", "--prompt", "a red ball", "--model", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert any("gates of sparse attention" in finding["reason"] for finding in found)


def test_sixteen_shards_are_read_by_their_headers_alone(folder: Path) -> None:
    """The bytes of every tensor are damaged; only their headers are right."""
    part = folder / "transformer"
    tensors = load_file(part / WEIGHTS)
    (part / WEIGHTS).unlink()
    weight_map = {name: f"shard-{index % 16:05}.safetensors" for index, name in enumerate(sorted(tensors))}
    for shard in set(weight_map.values()):
        file = part / shard
        save_file({name: tensors[name] for name in tensors if weight_map[name] == shard}, file)
        content = file.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        file.write_bytes(content[:start] + b"\xff" * (len(content) - start))
    (part / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert len(load_model(folder).experts["high"].files) == 16


SMALL = {
    "num_attention_heads": 1,
    "attention_head_dim": 24,
    "ffn_dim": 40,
    "num_layers": 1,
    "text_dim": 16,
    "freq_dim": 8,
}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"in_channels": 36},
        {"in_channels": 48, "out_channels": 48},
        {"image_dim": 32, "added_kv_proj_dim": 24, "in_channels": 36},
        {"image_dim": 32, "added_kv_proj_dim": 24, "pos_embed_seq_len": 6},
        {"image_dim": 32},
        {"added_kv_proj_dim": 24},
        {"cross_attn_norm": False},
        {"patch_size": (1, 1, 2)},
        {"num_layers": 3},
    ],
)
def test_the_shapes_of_a_configuration_are_those_of_the_network(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = WanTransformer3DModel(**{**SMALL, **config})
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert _shapes_of({**_DEFAULTS, **SMALL, **config}) == expected


def test_what_a_configuration_leaves_out_is_what_diffusers_takes() -> None:
    signature = inspect.signature(WanTransformer3DModel.__init__)
    stated = {name: parameter.default for name, parameter in signature.parameters.items()}
    assert {name: stated[name] for name in _DEFAULTS} == _DEFAULTS

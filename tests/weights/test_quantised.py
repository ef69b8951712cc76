"""Every quantised format of this year's files loads to the numbers it means, with and without a LoRA."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import quantised_files as files
import tiny_files as tiny
import torch
from fake_streams import FakeStreams
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.loading.architecture import transformer_recipe
from wan_duet.pipelines.loading.identify import identify, read_part
from wan_duet.pipelines.streaming.transfer import DeviceTransfer, padded_bytes
from wan_duet.pipelines.weights.checkpoint import read_checkpoint
from wan_duet.pipelines.weights.format_counts import format_counts
from wan_duet.pipelines.weights.lora.attach import attach_lora
from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.pinned_staging import StagedFiles, Staging
from wan_duet.pipelines.weights.quantised_tensor import QuantisedTensor, unpadded, unrotated
from wan_duet.pipelines.weights.recipe import Recipe
from wan_duet.pipelines.weights.stored_tensors import Files

CPU = torch.device("cpu")
# Across the borders of squares of 128, tiles of 128 x 4 scales, and of padding; rotated groups of both sizes.
SHAPES = [(300, 272), (100, 272), (384, 512), (300, 256)]
TOLERANCE = 1e-6  # of the largest value, where a rotation is undone in float32


def bound(kind: str) -> float:
    return TOLERANCE if kind in files.ROTATED else 0.0


def all_matrices(name: str, tensor: Tensor) -> bool:
    return name.endswith(".weight") and tensor.dim() == 2


@pytest.fixture(scope="module")
def weights() -> tiny.Weights:
    """A transformer whose feed-forward layers are no whole tiles of any format."""
    return tiny.transformer(ffn_dim=304)


@pytest.mark.parametrize("in_metadata", [False, True])
@pytest.mark.parametrize("kind", files.FORMATS)
def test_matrices_of_any_shape_mean_their_numbers(tmp_path: Path, kind: str, in_metadata: bool) -> None:
    held, meant, said = files.quantised(files.matrices(SHAPES), kind, all_matrices, in_metadata=in_metadata)
    found = read_checkpoint(tiny.save(tmp_path / "m.safetensors", held, **said)).tensors
    found = unpadded(found, {name: tuple(tensor.shape) for name, tensor in meant.items()})
    assert found.keys() == meant.keys()
    quantised = 0
    with Files(CPU) as opened:
        for name, tensor in meant.items():
            quantised += isinstance(found[name], QuantisedTensor)
            assert files.largest_error(found[name].read(opened), tensor) <= bound(kind)
    assert quantised >= 2


@pytest.mark.parametrize("kind", files.FORMATS)
def test_a_quantised_transformer_is_made_of_them_and_takes_a_lora(
    tmp_path: Path, weights: tiny.Weights, kind: str
) -> None:
    names = tiny.wan_transformer_names(weights, "model.diffusion_model.")
    held, meant, said = files.quantised(names, kind, tiny.is_linear)
    file = tiny.save(tmp_path / "m.safetensors", held, **said)
    assert identify(file).kind == "transformer"
    recipe = transformer_recipe(read_checkpoint(file))
    down, up = torch.randn(2, tiny.WIDTH), torch.randn(tiny.WIDTH, 2)
    sides = {"lora_A.weight": down, "lora_B.weight": up}
    module = "diffusion_model.blocks.1.cross_attn.v"
    lora = read_lora(
        tiny.save(tmp_path / "lora.safetensors", {f"{module}.{part}": side for part, side in sides.items()})
    )
    changed = attach_lora(recipe, lora, 0.5, "high")[0]
    with Files(CPU) as opened:
        for (own, tensor), name in zip(meant.items(), weights, strict=True):
            assert files.largest_error(recipe.tensors[name].compute(opened), tensor) <= bound(kind)
            delta = 0.5 * up.double() @ down.double() if "1.cross_attn.v.weight" in own else 0.0
            added = changed.tensors[name].compute(opened)
            assert files.largest_error(added, tensor.double() + delta) <= TOLERANCE


@pytest.mark.parametrize("kind", files.FORMATS)
def test_stored_bytes_travel_to_the_slot_and_are_decoded_there(tmp_path: Path, kind: str) -> None:
    held, meant, said = files.quantised(files.matrices(SHAPES), kind, all_matrices)
    found = read_checkpoint(tiny.save(tmp_path / "m.safetensors", held, **said)).tensors
    found = unpadded(found, {name: tuple(tensor.shape) for name, tensor in meant.items()})
    recipe = Recipe.of({}, found)
    streams, sent = FakeStreams(), []

    class Counting(Staging):
        def send(self, source: Tensor, target: Tensor) -> None:
            sent.append(source.numel())
            target.copy_(source)

    staging = Counting(streams=streams)

    class OfOneDevice(DeviceTransfer):
        def _device_files(self) -> Files:
            return StagedFiles(self._device, staging)

    size = padded_bytes(recipe.tensors, lambda name: torch.float32)
    transfer = OfOneDevice(CPU, lambda name: torch.float32, 1, size, staging=staging)
    made, _ = transfer.fill(0, recipe.tensors, None, lambda: None)
    for name, tensor in meant.items():
        assert files.largest_error(made[name], tensor) <= bound(kind)
    assert sum(sent) == sum(tensor.source.stored_bytes for tensor in recipe.tensors.values())
    quantised = [
        tensor.source for tensor in recipe.tensors.values() if isinstance(tensor.source, QuantisedTensor)
    ]
    assert all(source.stored_bytes < 4 * source.weight.stored_bytes for source in quantised)


@pytest.mark.parametrize(
    "kind",
    ["fp8 in squares", "int8_tensorwise rotated by 256", "mxfp8", "nvfp4 smoothed", "convrot_w4a4 by 256",
     "asym_w4a8_int8 by 16"],
)  # fmt: skip
def test_a_large_matrix_is_decoded_in_pieces_that_fit_together(tmp_path: Path, kind: str) -> None:
    held, meant, _ = files.quantised(files.matrices([(2100, 512)]), kind, all_matrices)
    found = unpadded(
        read_checkpoint(tiny.save(tmp_path / "m.safetensors", held)).tensors, {"layer0.weight": (2100, 512)}
    )
    assert files.largest_error(found["layer0.weight"].read(Files(CPU)), meant["layer0.weight"]) <= bound(kind)


def test_rotations_are_undone_in_every_size() -> None:
    for group in (4, 16, 64, 256, 1024):
        weight = torch.randn(3, 2 * group, generator=torch.Generator().manual_seed(1))
        turned = files.rotated(weight, group).float()
        assert files.largest_error(unrotated(turned, group), weight) <= TOLERANCE
        assert files.largest_error(turned, weight) > 0.1


def test_without_its_rotation_a_weight_would_be_noise(tmp_path: Path) -> None:
    """What the tolerance above guards against is no small error."""
    held, meant, _ = files.quantised(files.matrices([(64, 256)]), "convrot_w4a4 by 256", all_matrices)
    (source,) = read_checkpoint(tiny.save(tmp_path / "m.safetensors", held)).tensors.values()
    assert isinstance(source, QuantisedTensor)
    plain = QuantisedTensor(source.numbers, source.shape).read(Files(CPU))
    assert files.largest_error(plain, meant["layer0.weight"]) > 0.3


def test_a_quantised_text_encoder_is_read(tmp_path: Path) -> None:
    weights = tiny.text_encoder()
    held, meant, _ = files.quantised(weights, "nvfp4", tiny.is_linear)
    recipe = read_part(tiny.save(tmp_path / "t.safetensors", held), "text encoder", "text_encoder")
    with Files(CPU) as opened:
        for name, tensor in meant.items():
            assert torch.equal(recipe.tensors[name].compute(opened).float(), tensor)


def test_scales_of_a_rotated_format_may_be_said_under_params(tmp_path: Path) -> None:
    """Beside the format wins over `params`, as in ComfyUI."""
    held = files.int8_rotated(files.matrices([(64, 256)])["layer0.weight"], 16).beside
    meant = files.int8_rotated(files.matrices([(64, 256)])["layer0.weight"], 16).meant
    said = {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 16}
    held["comfy_quant"] = files.hint(**said, params={"convrot": False, "convrot_groupsize": 256})
    named = {f"layer.{part}": stored for part, stored in held.items()}
    (source,) = read_checkpoint(tiny.save(tmp_path / "m.safetensors", named)).tensors.values()
    assert files.largest_error(source.read(Files(CPU)), meant) <= TOLERANCE


def _set(**tensors: Any) -> Callable[[tiny.Weights], object]:
    return lambda held: held.update({f"layer0.{part}": stored for part, stored in tensors.items()})


def _w4a4(group: object) -> Tensor:
    return files.hint(format="convrot_w4a4", convrot_groupsize=group)


# What is wrong: in which format, the change, and how the message names it.
SPOILED: dict[str, tuple[str, Callable[[tiny.Weights], object], str]] = {
    "too few block scales": ("mxfp8", _set(weight_scale=torch.zeros(128, 4).to(torch.uint8)), "block scales"),
    "scales of another type": ("nvfp4", _set(weight_scale=torch.zeros(384, 20)), "block scales in F32"),
    "no second scale": ("nvfp4", lambda w: w.pop("layer0.weight_scale_2"), "no weight_scale_2"),
    "an odd width": ("nvfp4", _set(weight=torch.zeros(304, 130, dtype=torch.uint8)), "whole blocks of 16"),
    "marked as another type": ("mxfp8", _set(comfy_quant=files.hint(format="nvfp4")), "marked as nvfp4"),
    "a scale too many": ("int8 per row", _set(weight_scale_inv=torch.ones(3, 3)), "two scales"),
    "a codebook for nothing": ("int8 per row", _set(weight_codebook=torch.ones(16)), "with weight_codebook"),
    "another codebook": ("asym_w4a8_int8 by 16", _set(weight_codebook=torch.ones(8)), "16 numbers"),
    "other groups": ("asym_w4a8_int8 by 16", _set(weight_s_rel=torch.ones(300, 9)), "one per 16 of 272"),
    "a group of three": (
        "convrot_w4a4 by 16", _set(comfy_quant=_w4a4(3)), "power of 4"
    ),
    "a group of eight": (
        "convrot_w4a4 by 16", _set(comfy_quant=_w4a4(8)), "power of 4"
    ),
    "a group of no number": (
        "convrot_w4a4 by 16", _set(comfy_quant=_w4a4("x")),
        "states convrot_groupsize as x",
    ),
    "groups that do not fit": (
        "convrot_w4a4 by 16", _set(comfy_quant=_w4a4(256)),
        "groups of 256 rotated columns",
    ),
    "an unknown option": (
        "int8_tensorwise", _set(comfy_quant=files.hint(format="int8_tensorwise", zero_point=3)),
        "int8_tensorwise with zero_point",
    ),
    "an unknown format": (
        "int8_tensorwise", _set(comfy_quant=files.hint(format="int3_best")), "quantised as int3_best"
    ),
    "blocks that do not fit": ("fp8 in squares", _set(weight_scale_inv=torch.ones(7, 271)), "one scale"),
    "a smoothing of another width": ("nvfp4", _set(pre_quant_scale=torch.ones(5)), "5 numbers as pre_quant"),
    "nunchaku": (
        "fp8 per row",
        _set(qweight=torch.zeros(2, 2, dtype=torch.int8), wscales=torch.ones(2, 2)),
        "SVDQuant of nunchaku",
    ),
    "bitsandbytes": ("fp8 per row", _set(**{"weight.absmax": torch.ones(9)}), "bitsandbytes"),
    "quanto with 4 bits": ("fp8 per row", _set(**{"weight._shift": torch.ones(9)}), "quanto with 4 bits"),
    "a zero point": ("int8 per row", _set(weight_zero_point=torch.ones(300, 1)), "with a zero point"),
    "torchao": ("fp8 per row", _set(weight_qdata=torch.ones(9)), "torchao"),
    "HQQ": ("fp8 per row", _set(W_q=torch.ones(9)), "HQQ"),
    "quanto beside a plain weight": ("quanto", _set(weight=torch.ones(300, 272)), "two weights|two scales"),
    "nvfp4 without a word": ("nvfp4", lambda w: w.pop("layer0.comfy_quant"), "unsupported format: U8"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILED)
def test_what_does_not_fit_together_is_named(tmp_path: Path, what: str) -> None:
    kind, spoil, message = SPOILED[what]
    held, _, _ = files.quantised(files.matrices([(300, 272)]), kind, all_matrices)
    spoil(held)
    file = tiny.save(tmp_path / "m.safetensors", held)
    with pytest.raises(ModelError, match=message) as caught:
        read_checkpoint(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("what", ["nunchaku", "an unknown format", "nvfp4 without a word"])
def test_what_is_not_read_says_where_a_readable_version_is(tmp_path: Path, what: str) -> None:
    kind, spoil, _ = SPOILED[what]
    held, _, _ = files.quantised(files.matrices([(300, 272)]), kind, all_matrices)
    spoil(held)
    with pytest.raises(ModelError, match=r"https://huggingface\.co/Comfy-Org/"):
        read_checkpoint(tiny.save(tmp_path / "m.safetensors", held))


STORED = st.sampled_from(
    [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float32, torch.bfloat16, torch.int32]
)
PARTS = st.sampled_from(
    ["weight", "weight._data", "weight._scale", "weight_scale", "weight_scale_2", "weight_scale_inv",
     "scale_weight", "scale_weight_tensor", "weight_s_rel", "weight_s_channel", "weight_codebook",
     "pre_quant_scale", "bias"]
)  # fmt: skip
HINTS = st.fixed_dictionaries(
    {"format": st.sampled_from(["mxfp8", "nvfp4", "int8_tensorwise", "convrot_w4a4", "asym_w4a8_int8"])},
    optional={
        "convrot": st.booleans(),
        "convrot_groupsize": st.integers(-4, 300) | st.sampled_from([4, 16, 64, 256]),
        "group_size": st.integers(-4, 300),
        "params": st.none()
        | st.dictionaries(st.sampled_from(["group_size", "convrot"]), st.integers(-1, 64)),
    },
)


def read_or_refuse(file: Path) -> None:
    """What the header does not rule out can be decoded; a refusal names the file."""
    problem = None
    try:
        found = read_checkpoint(file).tensors
    except ModelError as error:
        problem, found = str(error), {}
    assert problem is None or file.name in problem
    for source in found.values():
        assert source.read(Files(CPU)).shape == source.shape


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.dictionaries(
        PARTS,
        st.tuples(STORED, st.lists(st.sampled_from([0, 1, 4, 16, 32, 128, 130]), max_size=3)),
        max_size=5,
    ),
    said=st.none() | HINTS,
)
def test_any_header_is_decoded_whole_or_refused_by_name(
    tmp_path: Path, parts: dict[str, tuple[torch.dtype, list[int]]], said: dict[str, Any] | None
) -> None:
    held = {f"a.{part}": torch.zeros(shape).to(dtype) for part, (dtype, shape) in parts.items()}
    more = {} if said is None else {"_quantization_metadata": json.dumps({"layers": {"a": said}})}
    read_or_refuse(tiny.save(tmp_path / "m.safetensors", held, **more))


@pytest.mark.parametrize("shape", [[0], [0, 4], [4, 0]])
def test_a_matrix_without_numbers_is_read_as_one(tmp_path: Path, shape: list[int]) -> None:
    held = {"a.weight": torch.zeros(shape, dtype=torch.int8), "a.weight._scale": torch.tensor(1.0)}
    read_or_refuse(tiny.save(tmp_path / "m.safetensors", held))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(list(files.FORMATS)), data=st.data())
def test_any_spoiled_part_of_a_format_is_refused_or_decoded(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    held, _, _ = files.quantised(files.matrices([(48, 256)]), kind, all_matrices)
    part = data.draw(st.sampled_from(sorted(held)))
    action = data.draw(st.sampled_from(["drop", "reshape", "retype"]))
    if action == "drop":
        held.pop(part)
    elif action == "reshape":
        held[part] = held[part].reshape(-1)[: data.draw(st.integers(0, held[part].numel()))].clone()
    else:
        held[part] = torch.zeros(held[part].shape).to(data.draw(STORED))
    read_or_refuse(tiny.save(tmp_path / "m.safetensors", held))


def uneven() -> dict[str, Tensor]:
    """Return three matrices in fp8, with a scale each."""
    held: dict[str, Tensor] = {}
    for number in range(3):
        held[f"blocks.{number}.q.weight"] = torch.ones(4, 8).to(torch.float8_e4m3fn)
        held[f"blocks.{number}.q.weight_scale"] = torch.tensor(0.5)
    return held


def test_one_matrix_without_its_scale_is_named(tmp_path: Path) -> None:
    held = uneven()
    del held["blocks.1.q.weight_scale"]
    with pytest.raises(ModelError, match=r"m\.safetensors: blocks\.1\.q\.weight has no scale, but"):
        read_checkpoint(tiny.save(tmp_path / "m.safetensors", held))


def test_fp8_without_any_scale_stays_what_it_is(tmp_path: Path) -> None:
    held = {"blocks.a.weight": torch.ones(4, 8).to(torch.float8_e4m3fn)}
    assert read_checkpoint(tiny.save(tmp_path / "m.safetensors", held)).tensors.keys() == held.keys()


def test_a_format_that_is_stated_for_no_layer_is_named(tmp_path: Path) -> None:
    said = json.dumps({"layers": {"blocks.7.q": {"format": "float8_e4m3fn"}}})
    file = tiny.save(tmp_path / "m.safetensors", uneven(), _quantization_metadata=said)
    with pytest.raises(ModelError, match=r"states that blocks\.7\.q is float8_e4m3fn, but has no weight"):
        read_checkpoint(file)


@pytest.mark.parametrize("stated", ["", "model.diffusion_model."])
def test_the_header_may_state_formats_with_and_without_the_prefix_of_the_tensors(
    tmp_path: Path, weights: tiny.Weights, stated: str
) -> None:
    prefix = "model.diffusion_model."
    names = tiny.wan_transformer_names(weights, stated)
    held, meant, said = files.quantised(names, "mxfp8", tiny.is_linear, in_metadata=True)
    held = {prefix + key.removeprefix(prefix): tensor for key, tensor in held.items()}
    recipe = transformer_recipe(read_checkpoint(tiny.save(tmp_path / "m.safetensors", held, **said)))
    with Files(CPU) as opened:
        for tensor, name in zip(meant.values(), weights, strict=True):
            assert torch.equal(recipe.tensors[name].compute(opened), tensor)


@pytest.mark.parametrize("beside", ["float8_e4m3fn", "float8_e5m2"])
def test_a_format_may_be_stated_twice_but_not_in_two_ways(tmp_path: Path, beside: str) -> None:
    said = json.dumps({"layers": {"blocks.1.q": {"format": "float8_e4m3fn"}}})
    held = uneven() | {"blocks.1.q.comfy_quant": files.hint(format=beside)}
    file = tiny.save(tmp_path / "m.safetensors", held, _quantization_metadata=said)
    if beside == "float8_e4m3fn":
        assert len(read_checkpoint(file).tensors) == 3
        return
    with pytest.raises(ModelError, match=r"q\.comfy_quant and _quantization_metadata in the header state"):
        read_checkpoint(file)


def test_a_tensor_in_two_shards_is_named(tmp_path: Path) -> None:
    for number in (1, 2):
        tiny.save(tmp_path / f"model-0000{number}-of-00002.safetensors", {"a.weight": torch.ones(2, 2)})
    with pytest.raises(ModelError, match=r"00002-of-00002\.safetensors: has a\.weight, which model-00001"):
        read_checkpoint(tmp_path / "model-00001-of-00002.safetensors")


def test_formats_of_an_uneven_file_are_counted(tmp_path: Path) -> None:
    held = {
        **files.quantised(files.matrices([(384, 512)]), "mxfp8", all_matrices)[0],
        "blocks.0.weight": torch.ones(4, 8).to(torch.bfloat16),
        "blocks.1.weight": torch.ones(4, 8).to(torch.bfloat16),
        "blocks.2.weight": torch.ones(4, 8).to(torch.int8),
        "blocks.2.weight_scale": torch.ones(4, 1),
        "blocks.0.bias": torch.ones(4),
    }
    tensors = read_checkpoint(tiny.save(tmp_path / "m.safetensors", held)).tensors
    counts = format_counts(Recipe.of({}, tensors))
    assert counts == {"bfloat16": 2, "mxfp8": 1, "int8 per row": 1}

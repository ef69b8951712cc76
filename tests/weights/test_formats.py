"""Weight files: every layout that real ones have loads to the same numbers, and all others are refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_files as tiny
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.loading.architecture import families_of, transformer_recipe
from wan_duet.pipelines.networks.expert import meta_expert
from wan_duet.pipelines.weights.checkpoint import read_checkpoint
from wan_duet.pipelines.weights.ggml_blocks import FORMATS, numbers_of
from wan_duet.pipelines.weights.lora.attach import attach_lora
from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.recipe import Recipe, keeping_fp32, materialise
from wan_duet.pipelines.weights.stored_tensors import Files

CPU = torch.device("cpu")
PREFIXES = (
    *("", "model.diffusion_model.", "diffusion_model.", "model.", "net.", "transformer.", "module."),
    *("pipe.dit.", "module.model.", "unet.", "base_model.model.", "high_noise_model."),
)


@pytest.fixture(scope="module")
def weights() -> tiny.Weights:
    return tiny.transformer()


def recipe_of(file: Path) -> Recipe:
    return transformer_recipe(read_checkpoint(file))


def made(recipe: Recipe, dtype: torch.dtype = torch.float32) -> WanTransformer3DModel:
    network = meta_expert(recipe)
    materialise(recipe, network, CPU, keeping_fp32((), dtype), lambda: None)
    return network


def reference(weights: tiny.Weights) -> WanTransformer3DModel:
    """The network as diffusers alone makes it from `weights` in its own names."""
    network = WanTransformer3DModel(
        num_attention_heads=2,
        in_channels=weights["patch_embedding.weight"].shape[1],
        out_channels=weights["proj_out.weight"].shape[0] // 4,
        text_dim=tiny.TEXT,
        ffn_dim=512,
        num_layers=2,
    )
    network.load_state_dict(weights)
    return network.eval()


@torch.inference_mode()
def output(network: WanTransformer3DModel) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    channels = network.config.in_channels
    return network(
        torch.randn(1, channels, 2, 4, 4, generator=generator),
        torch.tensor([500.0]),
        torch.randn(1, 5, tiny.TEXT, generator=generator),
        return_dict=False,
    )[0]


def is_made_of(network: WanTransformer3DModel, weights: tiny.Weights) -> bool:
    """Whether every parameter is exactly that, and the network computes what diffusers' own does."""
    same = all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    # Not to the bit: in a mapped file tensors are aligned otherwise, and kernels take other paths.
    return same and relative(output(network), output(reference(weights))) < 1e-5


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("prefix", PREFIXES)
def test_wan_names_with_any_prefix_give_the_same_output(
    tmp_path: Path, weights: tiny.Weights, prefix: str
) -> None:
    file = tiny.save(tmp_path / "m.safetensors", tiny.wan_transformer_names(weights, prefix))
    assert is_made_of(made(recipe_of(file)), weights)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_diffusers_names_give_the_same_output(tmp_path: Path, weights: tiny.Weights, prefix: str) -> None:
    file = tiny.save(tmp_path / "m.safetensors", {prefix + name: tensor for name, tensor in weights.items()})
    assert is_made_of(made(recipe_of(file)), weights)


# What rounding the stored numbers does to the output of this network, with half as much again for other seeds
# and machines. The numbers themselves are exact, which is asserted too.
PLAIN_ERROR = {
    torch.bfloat16: 0.006,
    torch.float16: 0.0007,
    torch.float8_e4m3fn: 0.09,
    torch.float8_e5m2: 0.17,
}
SCALED_ERROR = {"e4m3fn": 0.045, "e5m2": 0.085}
GGUF_ERROR = {
    "F32": 1e-5,
    "F16": 0.0007,
    "BF16": 0.006,
    "Q8_0": 0.015,
    "Q5_1": 0.11,
    "Q5_0": 0.12,
    "Q4_1": 0.23,
    "Q4_0": 0.28,
}


@pytest.mark.parametrize(("dtype", "bound"), PLAIN_ERROR.items(), ids=str)
def test_plain_low_precision_means_its_own_numbers(
    tmp_path: Path, weights: tiny.Weights, dtype: torch.dtype, bound: float
) -> None:
    low = tiny.cast(weights, dtype)
    file = tiny.save(tmp_path / "m.safetensors", tiny.wan_transformer_names(low))
    network = made(recipe_of(file))
    assert is_made_of(network, tiny.cast(low, torch.float32))
    assert 0 < relative(output(network), output(reference(weights))) < bound


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("kind", list(tiny.FP8))
@pytest.mark.parametrize("spelling", ["scale_weight", "weight_scale", "metadata"])
def test_scaled_fp8_means_numbers_times_scales(
    tmp_path: Path, weights: tiny.Weights, spelling: str, kind: str, per_row: bool
) -> None:
    names = tiny.wan_transformer_names(weights, "model.diffusion_model.")
    held, meant = tiny.scaled(names, spelling, kind, per_row)
    said = (
        {"_quantization_metadata": tiny.quantisation_metadata(names, kind)} if spelling == "metadata" else {}
    )
    network = made(recipe_of(tiny.save(tmp_path / "m.safetensors", held, **said)))
    expected = {name: meant[own] for own, name in zip(names, weights, strict=True)}
    assert is_made_of(network, expected)
    assert relative(output(network), output(reference(weights))) < SCALED_ERROR[kind]


@pytest.mark.parametrize(("device", "scaled_on"), [("cpu", "cpu"), ("meta", "meta"), ("mps", "cpu")])
def test_scaled_fp8_is_computed_on_the_device_unless_that_has_no_8_bit_floats(
    tmp_path: Path, weights: tiny.Weights, device: str, scaled_on: str
) -> None:
    held, _ = tiny.scaled(tiny.wan_transformer_names(weights), "scale_weight")
    recipe = recipe_of(tiny.save(tmp_path / "m.safetensors", held))
    source = recipe.tensors["blocks.0.attn1.to_q.weight"].source
    assert source.read(Files(torch.device(device))).device == torch.device(scaled_on)


def test_a_scaled_file_without_its_scales_would_be_noise(tmp_path: Path, weights: tiny.Weights) -> None:
    """What the tests above guard against is no small error."""
    held, _ = tiny.scaled(weights, "scale_weight")
    bare = {name: tensor.float() for name, tensor in held.items() if name in weights}
    assert relative(output(reference(bare)), output(reference(weights))) > 0.5


@pytest.mark.parametrize(("kind", "bound"), GGUF_ERROR.items())
def test_gguf_means_what_the_gguf_package_says(
    tmp_path: Path, weights: tiny.Weights, kind: str, bound: float
) -> None:
    names = tiny.wan_transformer_names(weights)
    file, meant = tiny.save_gguf(tmp_path / "m.gguf", names, kind)
    recipe = recipe_of(file)
    assert recipe.tensors["patch_embedding.weight"].shape == (tiny.WIDTH, 16, 1, 2, 2)
    expected = {name: meant[own] for own, name in zip(names, weights, strict=True)}
    network = made(recipe)
    assert is_made_of(network, expected)
    assert relative(output(network), output(reference(weights))) <= bound


def readable_types() -> list[gguf.GGMLQuantizationType]:
    """Every compressed type that the package can read, whether or not it can write it."""
    found = []
    for kind in gguf.GGMLQuantizationType:
        try:
            gguf.quants.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
        except NotImplementedError:
            continue
        if kind.name not in ("F32", "F16"):
            found.append(kind)
    return found


@pytest.mark.parametrize("kind", readable_types(), ids=lambda kind: kind.name)
def test_every_type_the_package_reads_is_read_alike(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(3).integers(0, 256, (64, 2 * size), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "wan")
    writer.add_tensor("t", blocks, raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    (source,) = read_checkpoint(tmp_path / "t.gguf").tensors.values()
    assert source.shape == (64, 2 * numbers)
    with Files(CPU) as files, np.errstate(all="ignore"):  # any bits at all: some scales are no numbers
        found = source.read(files)
        expected = torch.from_numpy(gguf.quants.dequantize(blocks, kind)).to(found.dtype)
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(0), expected.nan_to_num(0))
    assert found.nan_to_num(0).any()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_large_tensor_is_undone_in_pieces_that_fit_together(kind: str) -> None:
    numbers, size, _ = FORMATS[kind]
    blocks = np.random.default_rng(4).integers(0, 60, (2**20 // numbers + 3, size), dtype=np.uint8)
    expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
    assert torch.equal(
        numbers_of(torch.from_numpy(blocks).flatten(), kind), torch.from_numpy(expected).flatten()
    )


def test_shards_in_wan_names_are_one_transformer(tmp_path: Path, weights: tiny.Weights) -> None:
    names = tiny.wan_transformer_names(weights)
    halves = [dict(list(names.items())[part::2]) for part in (0, 1)]
    stem = "diffusion_pytorch_model"
    for index, half in enumerate(halves):
        tiny.save(tmp_path / f"{stem}-0000{index + 1}-of-00002.safetensors", half)
    where = {
        key: f"{stem}-0000{index + 1}-of-00002.safetensors"
        for index, half in enumerate(halves)
        for key in half
    }
    (tmp_path / f"{stem}.safetensors.index.json").write_text(tiny.json.dumps({"weight_map": where}))
    assert is_made_of(made(recipe_of(tmp_path)), weights)


@pytest.mark.parametrize(
    ("file", "families"),
    [
        (lambda: tiny.transformer(), ("wan2.2-t2v-a14b", "wan2.1-t2v-1.3b")),
        (lambda: tiny.transformer(channels=36), ("wan2.2-i2v-a14b",)),
        (lambda: tiny.transformer(channels=36, image=96), ("wan2.1-i2v-14b",)),
        (lambda: tiny.transformer(channels=36, image=96, pos_embed_seq_len=10), ("wan2.1-flf2v-14b",)),
        (lambda: tiny.transformer(channels=48, out=48), ("wan2.2-ti2v-5b",)),
    ],
    ids=["t2v", "i2v-a14b", "i2v-2.1", "flf2v", "ti2v-5b"],
)
def test_the_family_follows_from_shapes(
    tmp_path: Path, file: Callable[[], tiny.Weights], families: tuple[str, ...]
) -> None:
    path = tiny.save(tmp_path / "anything.safetensors", tiny.wan_transformer_names(file()))
    recipe = recipe_of(path)
    assert families_of(recipe.config) == families
    made(recipe)  # the network has exactly these parameters


@pytest.mark.parametrize("container", ["scaled", "gguf"])
def test_a_lora_is_added_to_what_compressed_numbers_mean(
    tmp_path: Path, weights: tiny.Weights, container: str
) -> None:
    names = tiny.wan_transformer_names(weights)
    if container == "gguf":
        file, meant = tiny.save_gguf(tmp_path / "m.gguf", names, "Q4_0")
    else:
        held, meant = tiny.scaled(names, "scale_weight")
        file = tiny.save(tmp_path / "m.safetensors", held)
    down, up = torch.randn(2, tiny.WIDTH), torch.randn(tiny.WIDTH, 2)
    module = "diffusion_model.blocks.1.cross_attn.v"
    sides = {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    lora = read_lora(tiny.save(tmp_path / "lora.safetensors", sides))
    network = made(attach_lora(recipe_of(file), lora, 0.5, "high")[0])
    expected = meant["blocks.1.cross_attn.v.weight"].double() + 0.5 * up.double() @ down.double()
    assert relative(network.blocks[1].attn2.to_v.weight.double(), expected) <= 1e-6
    assert torch.equal(network.blocks[1].attn2.to_k.weight, meant["blocks.1.cross_attn.k.weight"])


def test_sparse_attention_of_fastwan_is_left_out(tmp_path: Path, weights: tiny.Weights) -> None:
    names = tiny.wan_transformer_names(weights)
    gates = {
        f"blocks.{index}.to_gate_compress.{leaf}": torch.ones(1)
        for index in (0, 1)
        for leaf in ("weight", "bias")
    }
    file = tiny.save(tmp_path / "m.safetensors", {**names, **gates})
    assert is_made_of(made(recipe_of(file)), weights)


def linear(weights: tiny.Weights) -> str:
    return next(name for name, tensor in weights.items() if tiny.is_linear(name, tensor)).removesuffix(
        ".weight"
    )


def spoiled(weights: tiny.Weights, change: Callable[[tiny.Weights, str], object]) -> tiny.Weights:
    names = tiny.wan_transformer_names(weights)
    change(names, linear(names))
    return names


UNKNOWN = {
    "rotated fp8": (
        lambda w, layer: w.update(
            {
                f"{layer}.weight": torch.zeros(256, 256, dtype=torch.float8_e4m3fn),
                f"{layer}.weight_scale": torch.ones(()),
                f"{layer}.comfy_quant": tiny.hint({"format": "float8_e4m3fn", "convrot": True}),
            }
        ),
        "float8_e4m3fn with convrot",
    ),
    "bitsandbytes": (
        lambda w, layer: w.update(
            {
                f"{layer}.weight": torch.zeros(32768, 1, dtype=torch.uint8),
                f"{layer}.weight.absmax": torch.ones(1024),
                f"{layer}.weight.quant_map": torch.ones(16),
            }
        ),
        "quantised as bitsandbytes",
    ),
    "integers without a scale": (
        lambda w, layer: w.update({f"{layer}.weight": torch.zeros(256, 256, dtype=torch.int8)}),
        "self_attn.q.weight is quantised in an unsupported format: I8",
    ),
    "scales per column": (
        lambda w, layer: w.update(
            {
                f"{layer}.weight": torch.zeros(256, 256, dtype=torch.float8_e4m3fn),
                f"{layer}.scale_weight": torch.ones(256, 250),
            }
        ),
        "one scale per weight, per row or per block",
    ),
    "two scales": (
        lambda w, layer: w.update(
            {f"{layer}.{name}": torch.ones(1) for name in ("scale_weight", "weight_scale")}
        ),
        "two scales",
    ),
    "a hint without a scale": (
        lambda w, layer: w.update(
            {
                f"{layer}.weight": torch.zeros(256, 256, dtype=torch.float8_e4m3fn),
                f"{layer}.comfy_quant": tiny.hint({"format": "float8_e4m3fn"}),
            }
        ),
        "no weight_scale for it",
    ),
    "a hint that is no JSON": (
        lambda w, layer: w.update({f"{layer}.comfy_quant": torch.zeros(9, dtype=torch.uint8)}),
        "not readable as JSON",
    ),
    "a missing block": (
        lambda w, layer: [w.pop(key) for key in list(w) if key.startswith("blocks.0.")],
        "incomplete",
    ),
    "a missing tensor": (lambda w, layer: w.pop("head.head.bias"), r"no tensor for proj_out\.bias \(1"),
    "another shape": (lambda w, layer: w.update({f"{layer}.bias": torch.ones(3)}), r"has shape \[3\]"),
    "a parameter in whole numbers": (
        lambda w, layer: w.update({f"{layer}.bias": torch.ones(256, dtype=torch.int32)}),
        "bias is I32 instead of a float type",
    ),
    "a camera": (
        lambda w, layer: w.update({"control_adapter.conv.weight": torch.ones(1)}),
        "Wan Fun camera control",
    ),
    "half a S2V": (
        lambda w, layer: w.update({"casual_audio_encoder.weights": torch.ones(1, 3, 1, 1)}),
        "incomplete or of another kind: casual_audio_encoder",
    ),
    "VACE": (lambda w, layer: w.update({"vace_blocks.0.before_proj.weight": torch.ones(1)}), "is VACE"),
    "Animate": (lambda w, layer: w.update({"motion_encoder.enc.fc.0.weight": torch.ones(1)}), "Animate"),
    "a whole checkpoint": (
        lambda w, layer: w.update({"first_stage_model.conv.weight": torch.ones(1)}),
        "first_stage_model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", UNKNOWN)
def test_what_would_load_as_noise_is_refused_by_name(
    tmp_path: Path, weights: tiny.Weights, change: str
) -> None:
    spoil, message = UNKNOWN[change]
    file = tiny.save(tmp_path / "odd.safetensors", spoiled(weights, spoil))
    with pytest.raises(ModelError, match=message) as caught:
        recipe_of(file)
    assert str(file) in str(caught.value)


def test_a_gguf_type_that_cannot_be_undone_is_named(tmp_path: Path, weights: tiny.Weights) -> None:
    file, _ = tiny.save_gguf(tmp_path / "m.gguf", {"t": torch.ones(4, 32)}, "Q8_0")
    file.write_bytes(
        file.read_bytes().replace(bytes([8, 0, 0, 0]) + bytes(8), bytes([9, 0, 0, 0]) + bytes(8))
    )
    with pytest.raises(ModelError, match=r"t is stored as Q8_1, which the package gguf cannot read"):
        read_checkpoint(file)


def test_matching_dtype_stays_the_mapped_file_in_every_container(
    tmp_path: Path, weights: tiny.Weights
) -> None:
    half = tiny.wan_transformer_names(tiny.cast(weights, torch.float16))
    paths = [tiny.save(tmp_path / "m.safetensors", half), tiny.save_gguf(tmp_path / "m.gguf", half, "F16")[0]]
    for path in paths:
        network = made(recipe_of(path), torch.float16)
        assert mapped(network.blocks[0].attn1.to_q.weight.data_ptr()) == path.resolve()


@pytest.mark.skipif(sys.platform != "linux", reason="needs files with holes")
def test_a_file_larger_than_memory_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    """A writable mapping of the whole file, which safetensors makes for torch, is refused by the system."""
    huge = 2**39
    header = {
        "huge": {"dtype": "U8", "shape": [huge], "data_offsets": [0, huge]},
        "small": {"dtype": "F32", "shape": [2], "data_offsets": [huge, huge + 8]},
    }
    text = tiny.json.dumps(header).encode()
    file = tmp_path / "m.safetensors"
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.seek(huge, os.SEEK_CUR)
        stream.write(np.array([1.5, -2.5], "<f4").tobytes())
    with Files(CPU) as files:
        assert files.read(file, "small").tolist() == [1.5, -2.5]


def test_mapped_weights_cannot_be_written_into_the_file(tmp_path: Path, weights: tiny.Weights) -> None:
    file, _ = tiny.save_gguf(tmp_path / "m.gguf", tiny.wan_transformer_names(weights), "F32")
    before = file.read_bytes()
    network = made(recipe_of(file))
    with torch.no_grad():
        network.proj_out.weight.zero_()
    assert file.read_bytes() == before


def mapped(address: int) -> Path | None:
    """The file that lies at an address of this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        parts = line.split(maxsplit=5)
        start, end = (int(side, 16) for side in parts[0].split("-"))
        if start <= address < end:
            return Path(parts[5]) if len(parts) == 6 else None
    return None


def test_norms_stay_float32_in_files_with_wan_names(tmp_path: Path, weights: tiny.Weights) -> None:
    file = tiny.save(
        tmp_path / "m.safetensors", tiny.wan_transformer_names(tiny.cast(weights, torch.bfloat16))
    )
    recipe = recipe_of(file)
    network = meta_expert(recipe)
    rule = keeping_fp32(WanTransformer3DModel._keep_in_fp32_modules, torch.bfloat16)
    materialise(recipe, network, CPU, rule, lambda: None)
    kept = {
        name.split(".")[-2]
        for name, p in network.named_parameters()
        if p.dtype == torch.float32 and "." in name
    }
    assert {"norm2", "linear_1", "linear_2"} <= kept
    assert network.scale_shift_table.dtype == torch.float32
    assert network.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin"])
def test_pickles_are_never_opened(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(ModelError, match="can run any code"):
        read_checkpoint(file)


def test_names_of_other_networks_are_listed(tmp_path: Path) -> None:
    save_file(
        {"patch_embedding.weight": torch.ones(1), "joint_blocks.0.x": torch.ones(1)},
        tmp_path / "m.safetensors",
    )
    with pytest.raises(ModelError, match=r"no Wan transformer has, such as joint_blocks\.0\.x"):
        recipe_of(tmp_path / "m.safetensors")

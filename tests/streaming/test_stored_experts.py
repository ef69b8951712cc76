"""Experts that compute on stored numbers: the same bits however they are streamed, with LoRAs beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import quantised_files as files
import tiny_files as tiny
import tiny_speech
import torch
from experts import CPU, residency_of
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.loading.identify import read_part
from wan_duet.pipelines.networks.expert import EXPERT, expert_dtypes
from wan_duet.pipelines.networks.network_kind import NetworkKind
from wan_duet.pipelines.networks.s2v_network_kind import SPEECH_EXPERT, ClipCondition
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.streaming.executor import Executor, unit_sizes
from wan_duet.pipelines.streaming.transfer import DeviceTransfer
from wan_duet.pipelines.weights.lora.attach import attach_lora
from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.pinned_staging import Staging
from wan_duet.pipelines.weights.recipe import DTypeRule, Recipe
from wan_duet.pipelines.weights.stored_layers import computing_as_stored

# Of the velocity of the tiny network, relative to the exact one, with random weights: measured, and doubled.
ERRORS = {"fp8 per row": 0.08, "int8_tensorwise rotated by 256": 0.03, "nvfp4": 0.5}


def written(folder: Path, kind: str, weights: tiny.Weights | None = None, name: str = "high") -> Recipe:
    held, _, said = files.quantised(weights or tiny.transformer(), kind, tiny.is_linear)
    return read_part(tiny.save(folder / f"{name}.safetensors", held, **said), "transformer", name)


def stored(recipe: Recipe) -> Recipe:
    return computing_as_stored(recipe, CPU)[0]


def condition(channels: int = 16, **more: Tensor) -> tuple[Tensor, Condition]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, channels, 2, 8, 8, generator=generator)
    return latents, Condition(torch.randn(1, 6, tiny.TEXT, generator=generator), **more)


@torch.inference_mode()
def velocity(
    recipe: Recipe,
    given: tuple[Tensor, Condition] | None = None,
    *,
    wanted: str = "resident",
    dtype: torch.dtype = torch.float32,
    kind: NetworkKind = EXPERT,
    **options: object,
) -> Tensor:
    latents, text = given or condition()
    times = 1 if wanted == "resident" else 2  # a slot is filled again
    with Executor(
        {"high": recipe},
        dtype,
        DeviceMemory("cpu"),
        lambda: None,
        forwards=("high",) * times,
        residency=residency_of({"high": recipe}, wanted, dtype),
        kind=kind,
        **options,  # type: ignore[arg-type]
    ) as experts:
        return [experts.use("high").predict(latents, 500.0, text) for _ in range(times)][-1]


def apart(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


class TransferOnCpu(DeviceTransfer):
    """Slots and staging as for a device with its own memory, in main memory."""

    def __init__(self, device: torch.device, dtype_of: DTypeRule, slots: int, slot_bytes: int) -> None:
        super().__init__(device, dtype_of, slots, slot_bytes, staging=Staging(chunk_bytes=1000, chunks=3))


def with_lora(recipe: Recipe, file: Path, strength: float = 0.7, rank: int = 3) -> Recipe:
    """Add a LoRA of every matrix in the blocks, written on the first call."""
    if not file.exists():
        generator, held = torch.Generator().manual_seed(rank), {}
        for name, tensor in recipe.tensors.items():
            if tiny.is_linear(name, torch.empty(tensor.shape, device="meta")):
                layer, (out, into) = f"transformer.{name.removesuffix('.weight')}", tensor.shape
                held[f"{layer}.lora_A.weight"] = torch.randn(rank, into, generator=generator) * 0.1
                held[f"{layer}.lora_B.weight"] = torch.randn(out, rank, generator=generator) * 0.1
        save_file(held, file)
    return attach_lora(recipe, read_lora(file), strength, "high")[0]


@pytest.mark.parametrize("kind", ERRORS)
def test_streaming_changes_no_bit_and_the_error_is_that_of_the_format(tmp_path: Path, kind: str) -> None:
    """However it is streamed, with a LoRA, the bits are the same."""
    plain = with_lora(written(tmp_path, kind), tmp_path / "lora.safetensors")
    recipe, exact = stored(plain), velocity(plain)
    resident = velocity(recipe)
    assert 0 < apart(resident, exact) < ERRORS[kind]
    assert velocity(recipe, wanted="ring:2").equal(resident)
    assert velocity(recipe, wanted="ring:1", make_transfer=TransferOnCpu).equal(resident)


def test_a_slot_holds_the_bytes_of_the_format(tmp_path: Path) -> None:
    recipe = written(tmp_path, "int8 per row")
    lora, rule = with_lora(recipe, tmp_path / "lora.safetensors"), expert_dtypes(torch.bfloat16)
    exact, eight, beside = (
        unit_sizes({"high": one}, rule, torch.device("cuda"))["high"][1]  # a block
        for one in (recipe, stored(recipe), stored(lora))
    )
    assert eight < 0.53 * exact
    assert eight < beside < 1.1 * eight


def test_the_order_of_loras_changes_no_bit(tmp_path: Path) -> None:
    recipe = written(tmp_path, "fp8 per row")
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    found = with_lora(with_lora(recipe, one, 0.3), two, -0.5, rank=5)
    other_way = with_lora(with_lora(recipe, two, -0.5), one, 0.3)
    assert velocity(stored(other_way)).equal(velocity(stored(found)))


@torch.inference_mode()
def test_two_experts_with_other_loras_run_in_turn_as_they_do_alone(tmp_path: Path) -> None:
    """Their layers have factors of other shapes, or none, in the same slots."""
    high, low = (written(tmp_path, "int8 per row", name=name) for name in ("high", "low"))
    recipes = {"high": stored(with_lora(high, tmp_path / "lora.safetensors")), "low": stored(low)}
    latents, text = condition()
    with Executor(
        recipes, torch.float32, DeviceMemory("cpu"), lambda: None, forwards=("high", "low", "high"),
        residency=residency_of(recipes, "ring:2", torch.float32),
    ) as experts:  # fmt: skip
        found = [experts.use(name).predict(latents, 500.0, text) for name in ("high", "low", "high")]
    assert found[0].equal(found[2])
    assert found[0].equal(velocity(recipes["high"]))
    assert found[1].equal(velocity(recipes["low"]))


def test_a_lora_of_strength_0_changes_no_bit(tmp_path: Path) -> None:
    recipe = written(tmp_path, "int8 per row")
    assert stored(with_lora(recipe, tmp_path / "lora.safetensors", 0.0)).tensors == stored(recipe).tensors


def test_an_expert_of_mixed_layers_says_what_each_does(tmp_path: Path) -> None:
    weights, mixed = tiny.transformer(), {}
    for name, tensor in weights.items():
        kind = "int8 per row" if "attn1" in name else "fp8 in squares" if "attn2" in name else "fp8 per row"
        held, _, _ = files.quantised({name: tensor}, kind, tiny.is_linear)
        mixed |= held
    lora = {  # a whole difference, which is no product of low rank
        "diffusion_model.blocks.1.ffn.2.diff": 0.01 * weights["blocks.1.ffn.net.2.weight"],
        "diffusion_model.blocks.0.ffn.2.lora_down.weight": torch.randn(2, 512) * 0.1,
        "diffusion_model.blocks.0.ffn.2.lora_up.weight": torch.randn(tiny.WIDTH, 2) * 0.1,
    }
    recipe = read_part(tiny.save(tmp_path / "mixed.safetensors", mixed), "transformer", "mixed")
    save_file(lora, tmp_path / "lora.safetensors")
    changed = with_lora(recipe, tmp_path / "lora.safetensors")
    made, uses = computing_as_stored(changed, CPU)
    assert {(use.format, use.layers, use.way is not None) for use in uses} == {
        ("int8 per row", 8, True),
        ("fp8 in blocks", 8, False),
        ("fp8 per row", 3, True),
        ("fp8 per row", 1, False),
    }
    reasons = {use.reason for use in uses if use.way is None}
    assert reasons == {
        "its scales change along a row",
        "lora.safetensors changes it by more than a product of low rank",
    }
    found = velocity(made, wanted="ring:1")
    assert found.equal(velocity(made))
    assert 0 < apart(found, velocity(changed)) < 0.1


def test_chunks_of_tokens_change_rounding_alone(tmp_path: Path) -> None:
    recipe = stored(written(tmp_path, "int8 per row"))
    chunked = velocity(recipe, choices=FloatChoices(chunk_tokens=8))
    assert apart(chunked, velocity(recipe)) < 1e-5


def test_the_5b_with_a_frame_that_is_given(tmp_path: Path) -> None:
    recipe = written(tmp_path, "fp8 per row", tiny.transformer(channels=48, out=48))
    given = condition(48, clean_frames=torch.tensor([True, False]))
    found = velocity(stored(recipe), given, wanted="ring:2")
    assert found[:, :, 0].eq(0).all()
    assert 0 < apart(found, velocity(recipe, given)) < 0.1


def test_the_speech_model(tmp_path: Path) -> None:
    recipe = written(tmp_path, "int8 per row", tiny_speech.weights())
    places = tiny_speech.CLIP_SHAPE[-2:]
    clip = ClipCondition(
        text=tiny_speech.draw("text", 1, 512, tiny_speech.TEXT_DIM),
        audio=tiny_speech.draw(
            "audio", 1, tiny_speech.STATES, tiny_speech.AUDIO_DIM, tiny_speech.CLIP_FRAMES
        ),
        reference=tiny_speech.draw("reference", 1, 16, 1, *places),
        motion=tiny_speech.draw("motion", 1, 16, 19, *places),
        pose=None,
    )
    given = tiny_speech.draw("latents", *tiny_speech.CLIP_SHAPE), clip
    assert stored(recipe).stored
    found = velocity(stored(recipe), given, wanted="ring:2", kind=SPEECH_EXPERT)
    assert 0 < apart(found, velocity(recipe, given, kind=SPEECH_EXPERT)) < 0.05

"""Two tiny experts on disk and everything the tests of the executor do with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory, Memory
from wan_duet.pipelines.networks.expert import EXPERT, expert_dtypes, meta_expert
from wan_duet.pipelines.networks.network_kind import NetworkKind
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.streaming.executor import Executor, unit_sizes
from wan_duet.pipelines.streaming.residency import MemoryBudget, Residency, choose_residency
from wan_duet.pipelines.weights.recipe import Recipe, materialise
from wan_duet.pipelines.weights.stored_tensors import Files, read_header

CPU = torch.device("cpu")
CONFIG: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "text_dim": 8,
    "freq_dim": 8,
    "ffn_dim": 32,
    "num_layers": 3,
}
UNITS = ("head", "blocks.0", "blocks.1", "blocks.2", "tail")
# One tensor of every unit: by them a unit can be changed alone. The time embedder stays float32.
CHANGED = {
    "head": "condition_embedder.time_embedder.linear_1.weight",
    "blocks.0": "blocks.0.attn1.to_q.weight",
    "blocks.1": "blocks.1.ffn.net.2.weight",
    "blocks.2": "blocks.2.norm2.weight",
    "tail": "proj_out.weight",
}


@dataclass(frozen=True)
class Change:
    """Adds `strength` times the tensor itself, as a file of its own has it."""

    file: Path
    key: str
    strength: float

    @property
    def sees_base(self) -> bool:
        return False

    @property
    def adds_in_place(self) -> bool:
        return True

    def add_to(self, total: Tensor, files: Files, base: Tensor) -> None:
        del base
        added = files.read(self.file, self.key).float().to(total.device).reshape(total.shape)
        total.add_(added, alpha=self.strength)


def write_experts(folder: Path, layers: int = 3) -> Path:
    """Two experts; one block of each is stored in float32, the rest in bf16."""
    for seed, name in enumerate(("high", "low")):
        torch.manual_seed(seed)
        weights = WanTransformer3DModel(**{**CONFIG, "num_layers": layers}).state_dict()
        stored = {
            key: tensor if key.startswith("blocks.1.") else tensor.bfloat16()
            for key, tensor in weights.items()
        }
        save_file(stored, folder / f"{name}.safetensors")
    return folder


def recipe_of(folder: Path, expert: str = "high", layers: int = 3, **strengths: float) -> Recipe:
    """strengths: by unit; blocks.0 is written blocks_0."""
    file = folder / f"{expert}.safetensors"
    plain = Recipe.of({**CONFIG, "num_layers": layers}, read_header(file))
    names = {unit.replace("_", "."): strength for unit, strength in strengths.items()}
    return plain.with_deltas(
        {CHANGED[unit]: [Change(file, CHANGED[unit], strength)] for unit, strength in names.items()}
    )


def residency_of(recipes: Mapping[str, Recipe], wanted: str, dtype: torch.dtype) -> Residency:
    sizes = unit_sizes(recipes, expert_dtypes(dtype), CPU)
    return choose_residency(wanted, sizes, MemoryBudget(2**40, 0), own_memory=False)


def resident(
    recipes: Mapping[str, Recipe], dtype: torch.dtype = torch.float32, kind: NetworkKind = EXPERT
) -> Residency:
    """What has a slot for every unit."""
    sizes = unit_sizes(recipes, kind.dtypes(dtype), CPU)
    return choose_residency("resident", sizes, MemoryBudget(2**40, 0), own_memory=True)


def inputs(seed: int = 0) -> tuple[Tensor, Condition]:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(1, 16, 1, 4, 4, generator=generator)
    return latents, Condition(torch.randn(1, 6, 8, generator=generator))


@torch.inference_mode()
def plain_forward(recipe: Recipe, dtype: torch.dtype, latents: Tensor, condition: Condition) -> Tensor:
    """The network alone, filled as a whole: what every way of bringing weights must equal to the bit."""
    network = meta_expert(recipe)
    materialise(recipe, network, CPU, expert_dtypes(dtype), lambda: None)
    velocity: Tensor = network(
        latents.to(dtype), torch.tensor([500.0]), condition.text.to(dtype), return_dict=False
    )[0]
    return velocity.float()


@torch.inference_mode()
def run_all(
    recipes: Mapping[str, Recipe],
    forwards: tuple[str, ...],
    dtype: torch.dtype = torch.float32,
    *,
    wanted: str = "auto",
    memory: Memory | None = None,
    check: Callable[[], None] = lambda: None,
    foreseen: tuple[str, ...] | None = None,
    **options: Any,
) -> list[Tensor]:
    """The velocity of every forward; all have the same input. foreseen: where it is another list."""
    latents, condition = inputs()
    planned = forwards if foreseen is None else foreseen
    used = {name: recipes[name] for name in dict.fromkeys(planned or recipes)}
    with Executor(
        recipes,
        dtype,
        memory or DeviceMemory("cpu"),
        check,
        forwards=planned,
        residency=residency_of(used, wanted, dtype),
        **options,
    ) as experts:
        return [experts.use(name).predict(latents, 500.0, condition) for name in forwards]

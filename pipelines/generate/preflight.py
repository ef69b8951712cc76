"""What a run will take in memory and what there is, in numbers, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..device.memory import Memory, compute_dtype
from ..errors import ModelError
from ..loading.wan_model import WanModel
from ..networks.expert import EXPERT, forward_bytes, token_count
from ..networks.network_kind import NetworkKind
from ..networks.text_encoder import reading_bytes, text_dtypes
from ..sampling.step_cache import CACHED_SHARE
from ..streaming.executor import unit_sizes
from ..streaming.residency import MemoryBudget, Residency, choose_residency
from ..vae.standalone import HasVae
from ..vae.tile_size import choose_tiling, vae_bytes
from ..vae.tiles import Tiling
from ..weights.footprint import making_bytes, mapped_bytes, weight_bytes
from ..weights.recipe import DTypeRule, Recipe

__all__ = [
    "Preflight",
    "Stage",
    "chunk_tokens",
    "decode_bytes",
    "decode_tiling",
    "look_ahead",
    "picture_size",
    "sampling_bytes",
    "usual_chunk",
]

_CHUNK = 4096  # tokens; products of fewer rows are slower
_PARTS = 6  # with a sixth of the tokens attention takes most memory: smaller parts save none, and are slower


@dataclass(frozen=True)
class Stage:
    """One network of a run, alone on the device while it works.

    weights_bytes: in the dtypes they are kept in.
    mapped_bytes:  how much of that stays a memory-mapped file, which the system may drop; 0 but on a CPU.
    working_bytes: an estimate of what the work takes beside them.
    dtype:         what it computes in.
    slots_bytes:   of weights that come and go unit by unit, what is there at once; None where all stay.
    """

    name: str
    weights_bytes: int
    mapped_bytes: int
    working_bytes: int
    dtype: str
    slots_bytes: int | None = None

    @property
    def fixed_bytes(self) -> int:
        """What no smaller picture makes smaller."""
        return self.weights_bytes - self.mapped_bytes if self.slots_bytes is None else self.slots_bytes

    @property
    def needed_bytes(self) -> int:
        return self.fixed_bytes + self.working_bytes


@dataclass(frozen=True)
class Preflight:
    """The stages of a run in order, and what `device` has. None where nobody knows what it has.

    dtype:     what the experts compute in.
    residency: how the experts share it; None where the run needs none.
    """

    device: str
    dtype: str
    stages: tuple[Stage, ...]
    free_bytes: int | None
    total_bytes: int | None
    residency: Residency | None = None

    @property
    def largest(self) -> Stage:
        return max(self.stages, key=lambda stage: stage.needed_bytes)

    def require_room(self) -> None:
        """Raise ModelError when the largest stage needs more than can be had, with what would help.

        Where nobody knows what there is, nothing is refused; residency, tiles and chunks then take the least
        they can do with.
        """
        stage = self.largest
        if self.free_bytes is None or stage.needed_bytes <= self.free_bytes:
            return
        if stage.fixed_bytes <= self.free_bytes:
            helps = "give a smaller size or fewer frames"
        else:
            helps = "the weights alone do not fit; free memory, or run on a device that has more"
        if stage.dtype == "float32":
            helps += ", or give precision bf16"
        raise ModelError(
            f"memory: the {stage.name} needs {_gib(stage.needed_bytes)} GiB on {self.device}, of it "
            f"{_gib(stage.fixed_bytes)} for {stage.dtype} weights and {_gib(stage.working_bytes)} to work "
            f"in; {self._room()} can be had; {helps}; wan-duet generate --ignore-memory tries it anyway"
        )

    def text(self) -> str:
        """One line for people."""
        stages = ", ".join(
            f"{stage.name} {_gib(stage.weights_bytes)} + {_gib(stage.working_bytes)}"
            + (f" ({_gib(stage.mapped_bytes)} of it mapped files)" if stage.mapped_bytes else "")
            for stage in self.stages
        )
        room = f"{self._room()} can be had"
        if self.free_bytes is None:
            room = f"how much {self.device} has free is unknown, so no more is used than must be"
        line = f"memory on {self.device}, GiB of {self.dtype} weights + work: {stages}; {room}"
        return line if self.residency is None else f"{line}; {self.residency.text()}"

    def as_dict(self) -> dict[str, Any]:
        """The same for the receipt, in bytes."""
        return asdict(self)

    def _room(self) -> str:
        total = "" if self.total_bytes is None else f" of {_gib(self.total_bytes)}"
        return f"{_gib(self.free_bytes or 0)}{total} GiB"


def look_ahead(
    model: WanModel,
    memory: Memory,
    latent_shape: Sequence[int],
    experts: Iterable[str],
    *,
    sampling_only: bool = False,
    cached: bool = False,
    kind: NetworkKind = EXPERT,
    residency: Residency | None = None,
) -> Preflight:
    """Reads nothing but what recipes already know.

    latent_shape:  (..., C, T, H/8, W/8) of the run.
    experts:       those that steps will use, each named as often as you like.
    sampling_only: leaves the text encoder and the VAE out.
    cached:        whether a step cache keeps hidden states beside each forward.
    kind:          of the experts.
    residency:     theirs, where it is decided already.
    """
    device, free = memory.device, memory.free_bytes()
    dtype, text_dtype, vae_dtype = (
        compute_dtype(model.precision, memory, part) for part in ("transformer", "text_encoder", "vae")
    )
    text, vae = model.text_encoder, model.vae

    def stage(
        network: str, recipe: Recipe, dtype: torch.dtype, dtype_of: DTypeRule, working_bytes: int
    ) -> Stage:
        mapped = mapped_bytes(recipe, dtype_of) if device.type == "cpu" else 0
        working = max(working_bytes, making_bytes(recipe))
        return Stage(network, weight_bytes(recipe, dtype_of), mapped, working, _name(dtype))

    decoding = decode_bytes(model, latent_shape, vae_dtype, decode_tiling(model, latent_shape, memory))
    after = stage("VAE", vae, vae_dtype, lambda _: vae_dtype, decoding)
    recipes = {name: model.experts[name] for name in dict.fromkeys(experts)}
    denoising = []
    if recipes:
        chunk = chunk_tokens(model, latent_shape, memory) if kind.in_parts else 0
        working = max(sampling_bytes(recipe, latent_shape, dtype, chunk) for recipe in recipes.values())
        working += int(working * CACHED_SHARE) if cached else 0
        residency = residency or choose_residency(
            model.residency,
            unit_sizes(recipes, kind.dtypes(dtype), device),
            MemoryBudget(free, working, after.needed_bytes),
            own_memory=device.type != "cpu",
        )
        denoising = [
            replace(
                stage(kind.title([name]), recipe, dtype, kind.dtypes(dtype), 0),
                working_bytes=working,
                slots_bytes=residency.bytes,
            )
            for name, recipe in recipes.items()
        ]
    if sampling_only:
        return Preflight(str(device), _name(dtype), tuple(denoising), free, memory.total_bytes(), residency)
    reading_work = reading_bytes(text.config, model.family.text_length)
    reading = stage("text encoder", text, text_dtype, text_dtypes(text_dtype), reading_work)
    stages = (reading, *denoising, after)
    return Preflight(str(device), _name(dtype), stages, free, memory.total_bytes(), residency)


def chunk_tokens(model: WanModel, latent_shape: Sequence[int], memory: Memory) -> int:
    """On how many tokens at a time a forward works outside of attention, as wished or as usual; 0 for all."""
    if model.preferences.chunk_tokens is not None:
        return model.preferences.chunk_tokens
    configs = [recipe.config for recipe in model.experts.values()]
    dtype = compute_dtype(model.precision, memory, "transformer")
    return usual_chunk(configs, latent_shape, dtype, memory)


def usual_chunk(
    configs: Sequence[Mapping[str, Any]], latent_shape: Sequence[int], dtype: torch.dtype, memory: Memory
) -> int:
    """A sixth of the tokens where a forward at once would take more than an eighth of the device, or nobody
    knows what the device has; else 0.

    By what the device has, not by what is free: the same run computes the same way again.
    """
    if memory.device.type == "cpu":
        return 0
    at_once = max(forward_bytes(config, latent_shape, dtype) for config in configs)
    if at_once <= (memory.total_bytes() or 0) / 8:
        return 0
    return max(_CHUNK, *(-(-token_count(config, latent_shape) // _PARTS) for config in configs))


def sampling_bytes(recipe: Recipe, latent_shape: Sequence[int], dtype: torch.dtype, chunk: int = 0) -> int:
    """One forward, and beside it the next unit being made."""
    return forward_bytes(recipe.config, latent_shape, dtype, chunk) + making_bytes(recipe)


def decode_bytes(
    model: HasVae, latent_shape: Sequence[int], dtype: torch.dtype, tiling: Tiling | None
) -> int:
    """What decoding one latent frame after the other takes beside the weights of the VAE."""
    size = picture_size(model, latent_shape)
    return vae_bytes(model.vae.config, "decode", *size, dtype.itemsize, tiling)


def decode_tiling(model: HasVae, latent_shape: Sequence[int], memory: Memory) -> Tiling | None:
    """The tiles that a run chooses when it comes to decoding; None for the whole picture."""
    dtype, free = compute_dtype(model.precision, memory, "vae"), memory.free_bytes()
    room = None if free is None else max(free - weight_bytes(model.vae, lambda _: dtype), 0)
    size, beside = picture_size(model, latent_shape), memory.device.type != "cpu"
    return choose_tiling(room, model.vae.config, "decode", *size, dtype.itemsize, can_spill=beside)


def picture_size(model: HasVae, latent_shape: Sequence[int]) -> tuple[int, int]:
    """Width and height in pixels."""
    _, rows, columns = model.family.vae_stride
    return latent_shape[-1] * columns, latent_shape[-2] * rows


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.3g}"

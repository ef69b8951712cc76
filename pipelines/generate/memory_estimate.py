"""What a run will take in memory and what there is, in numbers, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..device.memory import Memory, compute_dtype
from ..errors import NoRoomError
from ..loading.host_model import HostModel
from ..loading.wan_model import WanModel
from ..networks.expert import EXPERT, forward_bytes, token_count
from ..networks.network_kind import NetworkKind
from ..networks.stored_linear import stored_working_bytes
from ..networks.text_encoder import text_dtypes, text_encoder_bytes
from ..sampling.step_cache import CACHED_SHARE
from ..streaming.executor import unit_sizes
from ..streaming.residency import MemoryBudget, Residency, choose_residency
from ..vae.standalone import HasVae
from ..vae.tile_size import Way, choose_tiling, vae_bytes
from ..vae.tiles import Tiling
from ..weights.footprint import making_bytes, mapped_bytes, weight_bytes
from ..weights.recipe import DTypeRule, Recipe

__all__ = [
    "MemoryEstimate",
    "Stage",
    "chunk_tokens",
    "estimate_host_memory",
    "estimate_memory",
    "frame_size",
    "sampling_bytes",
    "usual_chunk",
    "vae_tiling",
    "vae_working_bytes",
]

_CHUNK = 4096  # tokens; products of fewer rows are slower
_PARTS = 6  # with a sixth of the tokens attention takes most memory: smaller parts save none, and are slower


@dataclass(frozen=True)
class Stage:
    """The memory that one network of a run needs. Stages run one after another, each alone on the device.

    weights_bytes: size of the weights in the dtypes in which they are stored on the device.
    mapped_bytes:  the part of them in memory-mapped files, which the system may drop. 0 unless on a CPU.
    working_bytes: estimated size of activations and buffers.
    dtype:         the dtype of the computation.
    slots_bytes:   size of the streaming buffers, when the weights are streamed; None when all stay resident.
    """

    name: str
    weights_bytes: int
    mapped_bytes: int
    working_bytes: int
    dtype: str
    slots_bytes: int | None = None

    @property
    def fixed_bytes(self) -> int:
        """The part that does not depend on the size of the video."""
        return self.weights_bytes - self.mapped_bytes if self.slots_bytes is None else self.slots_bytes

    @property
    def needed_bytes(self) -> int:
        return self.fixed_bytes + self.working_bytes


@dataclass(frozen=True)
class MemoryEstimate:
    """The stages of a run in order, and the memory of `device`. Its bytes are None where they are unknown.

    dtype:     the dtype in which the experts compute.
    residency: how much of the experts stays on the device; None when the run samples nothing.
    vae:       the estimate of the VAE alone, when it runs on another device.
    """

    device: str
    dtype: str
    stages: tuple[Stage, ...]
    free_bytes: int | None
    total_bytes: int | None
    residency: Residency | None = None
    vae: MemoryEstimate | None = None

    @property
    def largest(self) -> Stage:
        return max(self.stages, key=lambda stage: stage.needed_bytes)

    def require_room(self) -> None:
        """Raise NoRoomError, which says what helps, when the largest stage needs more than the free memory.

        Refuses nothing when the free memory is unknown. Residency, tiles and chunks are the smallest then.
        """
        if self.vae is not None:
            self.vae.require_room()
        stage = self.largest
        if self.free_bytes is None or stage.needed_bytes <= self.free_bytes:
            return
        if stage.fixed_bytes <= self.free_bytes:
            helps = "Use a smaller size or fewer frames"
        else:
            helps = "The weights alone do not fit: free some memory, or use a device with more"
        if stage.dtype == "float32":
            helps += ", or set precision to bf16"
        raise NoRoomError(
            f"Not enough memory: the {stage.name} needs {_gib(stage.needed_bytes)} GiB on {self.device} "
            f"({_gib(stage.fixed_bytes)} for {stage.dtype} weights, {_gib(stage.working_bytes)} for "
            f"activations), but only {self._room()} are free. {helps}. To try anyway, use `wan-duet generate "
            "--ignore-memory`."
        )

    def text(self) -> str:
        """Return the estimate as one line for the log."""
        stages = ", ".join(
            f"{stage.name} {_gib(stage.weights_bytes)} + {_gib(stage.working_bytes)}"
            + (f" ({_gib(stage.mapped_bytes)} in mapped files)" if stage.mapped_bytes else "")
            for stage in self.stages
        )
        room = f"{self._room()} are free"
        if self.free_bytes is None:
            room = f"the free memory of {self.device} is unknown, so as little as possible is used"
        line = f"memory on {self.device} in GiB, {self.dtype} weights + activations: {stages}; {room}"
        line = line if self.residency is None else f"{line}; {self.residency.text()}"
        return line if self.vae is None else f"{line}; {self.vae.text()}"

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate in bytes, for the receipt."""
        return asdict(self)

    def _room(self) -> str:
        total = "" if self.total_bytes is None else f" of {_gib(self.total_bytes)}"
        return f"{_gib(self.free_bytes or 0)}{total} GiB"


def estimate_memory(
    model: WanModel,
    memory: Memory,
    latent_shape: Sequence[int],
    experts: Iterable[str],
    *,
    sampling_only: bool = False,
    cached: bool = False,
    kind: NetworkKind = EXPERT,
    residency: Residency | None = None,
) -> MemoryEstimate:
    """Estimate the memory of a run from its recipes. Reads no weights.

    latent_shape:  (..., C, T, H/8, W/8) of the largest forward.
    experts:       names of the experts that the steps use; repeated names count once.
    sampling_only: leave out the text encoder and the VAE.
    cached:        count the hidden states that a step cache keeps.
    kind:          the kind of network the experts are.
    residency:     the residency of the experts, if it is decided already.
    """
    device, free = memory.device, memory.free_bytes()
    dtype = compute_dtype(model.precision, memory, "transformer")
    text, text_dtype = model.text_encoder, compute_dtype(model.precision, memory, "text_encoder")
    vae_memory = memory.for_part("vae")
    after, apart = _vae_stage(model, vae_memory, latent_shape), vae_memory.device != device
    computing = model.experts_on(device)
    recipes = {name: computing[name] for name in dict.fromkeys(experts)}
    denoising = []
    if recipes:
        chunk = chunk_tokens(model, latent_shape, memory) if kind.in_parts else 0
        working = max(sampling_bytes(recipe, latent_shape, dtype, chunk) for recipe in recipes.values())
        working += int(working * CACHED_SHARE) if cached else 0
        residency = residency or choose_residency(
            model.residency,
            unit_sizes(recipes, kind.dtypes(dtype), device),
            MemoryBudget(free, working, 0 if apart else after.needed_bytes),
            own_memory=device.type != "cpu",
        )
        denoising = [
            replace(
                _stage(device, kind.title([name]), recipe, dtype, kind.dtypes(dtype)),
                working_bytes=working,
                slots_bytes=residency.bytes,
            )
            for name, recipe in recipes.items()
        ]
    if sampling_only:
        return MemoryEstimate(
            str(device), _name(dtype), tuple(denoising), free, memory.total_bytes(), residency
        )
    reading_work = text_encoder_bytes(text.config, model.family.text_length)
    reading = _stage(device, "text encoder", text, text_dtype, text_dtypes(text_dtype), reading_work)
    stages = (reading, *denoising) if apart else (reading, *denoising, after)
    return MemoryEstimate(
        str(device),
        _name(dtype),
        stages,
        free,
        memory.total_bytes(),
        residency,
        _vae_alone(after, vae_memory) if apart else None,
    )


def _stage(
    device: torch.device,
    network: str,
    recipe: Recipe,
    dtype: torch.dtype,
    dtype_of: DTypeRule,
    working_bytes: int = 0,
) -> Stage:
    mapped = mapped_bytes(recipe, dtype_of) if device.type == "cpu" else 0
    working = max(working_bytes, making_bytes(recipe))
    return Stage(network, weight_bytes(recipe, dtype_of), mapped, working, _name(dtype))


def _vae_stage(model: HasVae, memory: Memory, latent_shape: Sequence[int]) -> Stage:
    """memory: of the device of the VAE."""
    dtype = compute_dtype(model.precision, memory, "vae")
    tiling = vae_tiling(model, "decode", latent_shape, memory)
    decoding = vae_working_bytes(model, "decode", latent_shape, dtype, tiling)
    return _stage(memory.device, "VAE", model.vae, dtype, lambda _: dtype, decoding)


def _vae_alone(stage: Stage, memory: Memory) -> MemoryEstimate:
    free, total = memory.free_bytes(), memory.total_bytes()
    return MemoryEstimate(str(memory.device), stage.dtype, (stage,), free, total)


def estimate_host_memory(model: HostModel, memory: Memory, latent_shape: Sequence[int]) -> MemoryEstimate:
    """Estimate what the VAE needs. The host makes room for its own networks."""
    vae_memory = memory.for_part("vae")
    if model.whole_vae:  # the host makes room for that VAE too
        return _vae_alone(Stage(model.whole_vae, 0, 0, 0, "chosen by the host"), vae_memory)
    return _vae_alone(_vae_stage(model, vae_memory, latent_shape), vae_memory)


def chunk_tokens(model: WanModel, latent_shape: Sequence[int], memory: Memory) -> int:
    """Return how many tokens a forward processes at a time outside of attention; 0 means all of them.

    Returns the number that the user asked for, else that of `usual_chunk`.
    """
    if model.preferences.chunk_tokens is not None:
        return model.preferences.chunk_tokens
    configs = [recipe.config for recipe in model.experts.values()]
    dtype = compute_dtype(model.precision, memory, "transformer")
    return usual_chunk(configs, latent_shape, dtype, memory)


def usual_chunk(
    configs: Sequence[Mapping[str, Any]], latent_shape: Sequence[int], dtype: torch.dtype, memory: Memory
) -> int:
    """Return a sixth of the tokens when a whole forward would take more than an eighth of the memory of the
    device, or when that memory is unknown; else 0.

    Depends on the total and not on the free memory, so that a repeated run computes in the same way.
    """
    if memory.device.type == "cpu":
        return 0
    at_once = max(forward_bytes(config, latent_shape, dtype) for config in configs)
    if at_once <= (memory.total_bytes() or 0) / 8:
        return 0
    return max(_CHUNK, *(-(-token_count(config, latent_shape) // _PARTS) for config in configs))


def sampling_bytes(recipe: Recipe, latent_shape: Sequence[int], dtype: torch.dtype, chunk: int = 0) -> int:
    """Return the bytes of one forward and of the next unit, which is made at the same time."""
    working = forward_bytes(recipe.config, latent_shape, dtype, chunk) + making_bytes(recipe)
    return working + stored_working_bytes(recipe.stored, token_count(recipe.config, latent_shape))


def vae_working_bytes(
    model: HasVae, way: Way, latent_shape: Sequence[int], dtype: torch.dtype, tiling: Tiling | None
) -> int:
    """Return the bytes that decoding or encoding one latent frame after another needs beside the weights."""
    size = frame_size(model, latent_shape)
    return vae_bytes(model.vae.config, way, *size, dtype.itemsize, tiling)


def vae_tiling(model: HasVae, way: Way, latent_shape: Sequence[int], memory: Memory) -> Tiling | None:
    """Return the tiles in which a run decodes or encodes; None when whole frames fit."""
    memory = memory.for_part("vae")
    dtype, free = compute_dtype(model.precision, memory, "vae"), memory.free_bytes()
    room = None if free is None else max(free - weight_bytes(model.vae, lambda _: dtype), 0)
    size, beside = frame_size(model, latent_shape), memory.device.type != "cpu"
    return choose_tiling(room, model.vae.config, way, *size, dtype.itemsize, can_spill=beside)


def frame_size(model: HasVae, latent_shape: Sequence[int]) -> tuple[int, int]:
    """Return the width and height of the decoded frames, in pixels."""
    _, rows, columns = model.family.vae_stride
    return latent_shape[-1] * columns, latent_shape[-2] * rows


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.3g}"

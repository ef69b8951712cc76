"""A Wan transformer: built on meta from its configuration, filled from a recipe, run as an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from ..errors import ModelError
from ..kernels.choices import FloatChoices
from ..memory import Memory
from ..sampling.engine import Condition
from ..weights.footprint import weight_bytes
from ..weights.recipe import DTypeRule, Recipe, keeping_fp32, materialise
from .network import use_own_forward

__all__ = ["ExpertPair", "WanEngine", "expert_dtypes", "forward_bytes", "load_expert"]


class WanEngine:
    """One materialised expert. Latents and velocity are float32; the network computes in its own dtype."""

    def __init__(
        self,
        network: WanTransformer3DModel,
        recipe: Recipe,
        dtype: torch.dtype,
        device: torch.device,
        choices: FloatChoices,
    ) -> None:
        self._network: WanTransformer3DModel | None = network
        self._recipe, self._dtype, self._device, self._choices = recipe, dtype, device, choices
        self._stamps = _stamps(recipe)

    @property
    def size_bytes(self) -> int:
        return weight_bytes(self._recipe, expert_dtypes(self._dtype))

    def close(self) -> None:
        """Give the network up, whoever still holds the engine. It cannot predict any more."""
        self._network = None

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        velocity: Tensor = self._open()(
            hidden_states=latents.to(self._dtype),
            timestep=torch.tensor([timestep], dtype=torch.float32, device=latents.device),
            encoder_hidden_states=condition.text.to(device=latents.device, dtype=self._dtype),
            return_dict=False,
        )[0]
        return velocity.float()

    def can_become(
        self, recipe: Recipe, dtype: torch.dtype, device: torch.device, choices: FloatChoices
    ) -> bool:
        """Whether at least one unit would stay as it is: same device, same dtype, same bytes in the files."""
        here = self._dtype, self._device, self._choices
        if self._network is None or (dtype, device, choices) != here:
            return False
        now = _stamps(recipe)
        same_files = all(now.get(file, stamp) == stamp for file, stamp in self._stamps.items())
        return same_files and len(self._recipe.changed_units(recipe)) < len(recipe.units)

    def become(self, recipe: Recipe, check: Callable[[], None]) -> None:
        """Make again the units that `recipe` makes otherwise. A stop on the way closes the engine."""
        changed, stamps = self._recipe.changed_units(recipe), _stamps(recipe)
        try:
            materialise(recipe, self._open(), self._device, expert_dtypes(self._dtype), check, units=changed)
        except BaseException:
            self.close()
            raise
        self._recipe, self._stamps = recipe, stamps

    def _open(self) -> WanTransformer3DModel:
        if self._network is None:
            raise ModelError("an expert was taken out of memory while it was in use; run again")
        return self._network


class ExpertPair:
    """Hands out "high" and "low", one in memory at a time: the one is dropped before the other is loaded.

    Use as a context manager. What is loaded at the end is left to `memory`, which may keep it; an expert that
    an earlier run left there is used again, and only what its recipe changes is made anew. Leaving through an
    exception frees everything.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        dtype: torch.dtype,
        memory: Memory,
        check: Callable[[], None],
        working_bytes: int = 0,
        choices: FloatChoices | None = None,
    ) -> None:
        """working_bytes: what one forward needs beside the weights. choices: how experts compute; None for
        plain torch.
        """
        self._choices = choices or FloatChoices()
        self._recipes, self._dtype, self._memory, self._check = recipes, dtype, memory, check
        self._working_bytes = working_bytes
        self._name: str | None = None
        self._engine: WanEngine | None = None

    def use(self, expert: str) -> WanEngine:
        if self._engine is None or self._name != expert:
            self._engine, self._name = self._ready(expert), expert
        return self._engine

    def __enter__(self) -> ExpertPair:
        return self

    def __exit__(self, failed: object, *exc: object) -> None:
        if failed is None and self._engine is not None:
            self._memory.keep(self._engine)
            self._engine = None
        else:
            self._drop()

    def _ready(self, expert: str) -> WanEngine:
        recipe = self._recipes[expert]
        if self._engine is None:
            left = self._memory.take(self._working_bytes)
            self._engine = left if isinstance(left, WanEngine) else None
        if self._engine is not None:
            if self._engine.can_become(recipe, self._dtype, self._memory.device, self._choices):
                self._engine.become(recipe, self._check)
                return self._engine
            self._drop()
        what = f"{expert}-noise expert"
        return load_expert(
            recipe, what, self._dtype, self._memory, self._check, self._working_bytes, self._choices
        )

    def _drop(self) -> None:
        if self._engine is not None:
            self._engine.close()  # the denoise loop still holds the engine while it asks for the next one
            self._engine, self._name = None, None
        self._memory.release()


def load_expert(
    recipe: Recipe,
    what: str,
    dtype: torch.dtype,
    memory: Memory,
    check: Callable[[], None],
    working_bytes: int = 0,
    choices: FloatChoices | None = None,
) -> WanEngine:
    """Materialise one expert on the device of `memory`. choices: as for `blank_expert`.

    Raises ModelError when the recipe does not fit the network.
    """
    dtype_of = expert_dtypes(dtype)
    memory.reserve(weight_bytes(recipe, dtype_of), what, working_bytes)
    network = blank_expert(recipe, choices)
    # Made before the files are read: it notes their state.
    engine = WanEngine(network, recipe, dtype, memory.device, choices or FloatChoices())
    materialise(recipe, network, memory.device, dtype_of, check)
    return engine


def expert_dtypes(dtype: torch.dtype) -> DTypeRule:
    """`dtype`, but float32 for norms, modulation tables and the time embedder, as the class demands."""
    return keeping_fp32(WanTransformer3DModel._keep_in_fp32_modules, dtype)


def forward_bytes(config: Mapping[str, Any], latent_shape: Sequence[int], dtype: torch.dtype) -> int:
    """What one forward takes beside the weights, in bytes. latent_shape: (..., T, H/8, W/8).

    In hidden states (tokens x width), counted over the live tensors of full-size blocks on meta tensors, the
    peak is 11.1 in half precision (norms and rotary embeddings make float32 copies), 9.5 in float32, and 4.2
    with two feed-forward layers where those are wide. Rounded up for what an allocator wastes.
    """
    frames, rows, columns = latent_shape[-3:]
    patch_frames, patch_rows, patch_columns = config.get("patch_size", (1, 2, 2))
    tokens = (frames // patch_frames) * (rows // patch_rows) * (columns // patch_columns)
    width = config.get("num_attention_heads", 40) * config.get("attention_head_dim", 128)
    states = max(12 if dtype.itemsize < 4 else 10, 4.5 + 2 * config.get("ffn_dim", 13824) / width)
    return int(states * tokens * width * dtype.itemsize)


def blank_expert(recipe: Recipe, choices: FloatChoices | None = None) -> WanTransformer3DModel:
    """The network on meta, with real rotary tables: those are computed, never stored.

    choices: how it computes; None for plain torch.

    Raises ModelError when the configuration is not one of a Wan transformer.
    """
    try:
        with torch.device("meta"):
            network = WanTransformer3DModel.from_config(dict(recipe.config))
        config = network.config
        network.rope = type(network.rope)(
            config.attention_head_dim, config.patch_size, config.rope_max_seq_len
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{recipe.files[0].parent / 'config.json'}: not a Wan transformer: {error}"
        ) from error
    use_own_forward(network, choices or FloatChoices())
    return network


def _stamps(recipe: Recipe) -> dict[Path, tuple[int, int, int]]:
    """What tells that a file was written again: its time, its size and its place on the disk."""
    deltas = {delta.file for item in recipe.tensors.values() for delta in item.deltas}
    return {file: _stamp(file) for file in {*recipe.files, *deltas}}


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        stat = file.stat()
    except OSError:  # gone: unlike whatever it was, and reading it says so
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)

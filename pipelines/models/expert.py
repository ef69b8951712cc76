"""A Wan transformer: built on meta from its configuration, filled from a recipe, run as an engine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from ..errors import ModelError
from ..memory import Memory
from ..sampling.engine import Condition
from ..weights.recipe import Recipe, keeping_fp32, materialise

__all__ = ["ExpertPair", "WanEngine", "load_expert"]


class WanEngine:
    """One materialised expert. Latents and velocity are float32; the network computes in its own dtype."""

    def __init__(self, network: WanTransformer3DModel, dtype: torch.dtype) -> None:
        self._network: WanTransformer3DModel | None = network
        self._dtype = dtype

    def close(self) -> None:
        """Give the network up, whoever still holds the engine. It cannot predict any more."""
        self._network = None

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        if self._network is None:
            raise RuntimeError("this engine was closed when the other expert took over")
        velocity: Tensor = self._network(
            hidden_states=latents.to(self._dtype),
            timestep=torch.tensor([timestep], dtype=torch.float32, device=latents.device),
            encoder_hidden_states=condition.text.to(device=latents.device, dtype=self._dtype),
            return_dict=False,
        )[0]
        return velocity.float()


class ExpertPair:
    """Hands out "high" and "low", one in memory at a time: the one is dropped before the other is loaded.

    Use as a context manager; leaving it, for whatever reason, frees what is loaded.
    """

    def __init__(
        self,
        recipes: dict[str, Recipe],
        dtype: torch.dtype,
        memory: Memory,
        check: Callable[[], None],
    ) -> None:
        self._recipes, self._dtype, self._memory, self._check = recipes, dtype, memory, check
        self._name: str | None = None
        self._engine: WanEngine | None = None

    def use(self, expert: str) -> WanEngine:
        if self._engine is None or self._name != expert:
            if self._engine is not None:
                self._drop()
            self._engine = load_expert(
                self._recipes[expert], f"{expert}-noise expert", self._dtype, self._memory, self._check
            )
            self._name = expert
        return self._engine

    def __enter__(self) -> ExpertPair:
        return self

    def __exit__(self, *exc: object) -> None:
        self._drop()

    def _drop(self) -> None:
        if self._engine is not None:
            self._engine.close()  # the denoise loop still holds the engine while it asks for the next one
            self._engine, self._name = None, None
        self._memory.release()


def load_expert(
    recipe: Recipe, what: str, dtype: torch.dtype, memory: Memory, check: Callable[[], None]
) -> WanEngine:
    """Materialise one expert on the device of `memory`.

    Norms, modulation tables and the time embedder stay float32 whatever `dtype` is, as the class demands.
    Raises ModelError when the recipe does not fit the network.
    """
    memory.reserve(recipe.elements * dtype.itemsize, what)
    network = blank_expert(recipe)
    dtype_of = keeping_fp32(WanTransformer3DModel._keep_in_fp32_modules, dtype)
    materialise(recipe, network, memory.device, dtype_of, check)
    return WanEngine(network, dtype)


def blank_expert(recipe: Recipe) -> WanTransformer3DModel:
    """The network on meta, with real rotary tables: those are computed, never stored.

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
    return network

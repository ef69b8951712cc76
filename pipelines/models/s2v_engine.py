"""The speech model as an engine: made from its recipe, given the condition of a clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..memory import Memory
from ..sampling.engine import Condition
from ..weights.footprint import weight_bytes
from ..weights.recipe import DTypeRule, Recipe, materialise
from .expert import expert_dtypes
from .s2v import SpeechTransformer

__all__ = ["ClipCondition", "Speaker", "SpeechEngine", "speech_dtypes"]


@dataclass(frozen=True, kw_only=True)
class ClipCondition(Condition):
    """What a clip is made after. Latents are normalised; all are float32 and batches of one.

    audio:     (1, states, audio_dim, frames of the clip).
    reference: (1, C, 1, h, w).
    motion:    (1, C, MOTION_LATENTS, h, w); None for the first clip.
    pose:      (1, C, T, h, w); None where no pose was given.
    """

    audio: Tensor
    reference: Tensor
    motion: Tensor | None
    pose: Tensor | None

    def on(self, device: torch.device, dtype: torch.dtype) -> ClipCondition:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: None if value is None else value.to(device, dtype) for name, value in values.items()
        }
        return ClipCondition(**moved)


class SpeechEngine:
    """The materialised network. Latents and velocity are float32; it computes in its own dtype."""

    def __init__(self, network: SpeechTransformer, recipe: Recipe, dtype: torch.dtype) -> None:
        self._network: SpeechTransformer | None = network
        self.recipe, self.dtype = recipe, dtype

    @property
    def size_bytes(self) -> int:
        return weight_bytes(self.recipe, speech_dtypes(self.dtype))

    @property
    def is_open(self) -> bool:
        return self._network is not None

    def close(self) -> None:
        """Give the network up, whoever still holds the engine. It cannot predict any more."""
        self._network = None

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        if self._network is None:
            raise ModelError("the speech model was taken out of memory while it was in use; run again")
        if not isinstance(condition, ClipCondition):
            raise ModelError(
                "the speech model needs the sound and the image of a clip, and got a prompt alone"
            )
        given = condition.on(latents.device, self.dtype)
        velocity: Tensor = self._network(
            latents.to(self.dtype),
            timestep,
            given.text,
            given.audio,
            given.reference,
            given.motion,
            given.pose,
        )
        return velocity.float()


class Speaker:
    """Hands the engine out for one clip after the other.

    Between two clips it belongs to `memory`, which may close it to make room for the VAE; then it is made
    again. Use each clip as a context manager; leaving one through an exception frees everything.
    """

    def __init__(
        self,
        recipe: Recipe,
        dtype: torch.dtype,
        memory: Memory,
        check: Callable[[], None],
        working_bytes: int = 0,
    ) -> None:
        """working_bytes: what one forward needs beside the weights."""
        self._recipe, self._dtype, self._memory, self._check = recipe, dtype, memory, check
        self._working_bytes = working_bytes
        self._engine: SpeechEngine | None = None

    def use(self, expert: str) -> SpeechEngine:
        """The engine; there is one expert, whatever it is called."""
        del expert
        if self._engine is None:
            self._engine = self._ready()
        return self._engine

    def __enter__(self) -> Speaker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        if kind is None:
            self._memory.keep(engine)
        else:
            engine.close()
            self._memory.release()

    def _ready(self) -> SpeechEngine:
        left = self._memory.take(self._working_bytes)
        if isinstance(left, SpeechEngine) and left.is_open and self._is_same(left):
            return left
        if left is not None:
            left.close()
            self._memory.release()
        dtype_of = speech_dtypes(self._dtype)
        self._memory.reserve(weight_bytes(self._recipe, dtype_of), "speech model", self._working_bytes)
        network = _blank(self._recipe)
        materialise(self._recipe, network, self._memory.device, dtype_of, self._check)
        return SpeechEngine(network, self._recipe, self._dtype)

    def _is_same(self, engine: SpeechEngine) -> bool:
        """Made from this very recipe: an equal one may be of files that were written again since."""
        return engine.recipe is self._recipe and engine.dtype == self._dtype


def speech_dtypes(dtype: torch.dtype) -> DTypeRule:
    """As an expert's, and float32 for the audio encoder: the official code computes it so."""
    of_expert = expert_dtypes(dtype)
    return lambda name: torch.float32 if name.startswith("casual_audio_encoder.") else of_expert(name)


def _blank(recipe: Recipe) -> SpeechTransformer:
    try:
        with torch.device("meta"):
            return SpeechTransformer(dict(recipe.config))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{recipe.files[0].parent / 'config.json'}: not a speech model: {error!r}"
        ) from error

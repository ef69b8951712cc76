"""How the file of a video is written, where the request says more than quality and write mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..request.result_formats import SCENE_THRESHOLD

__all__ = ["StoredVideo"]


@dataclass(frozen=True)
class StoredVideo:
    """codec: its name, or "auto" for the usual one of the suffix. bit_depth: 8 or 10.

    scene_threshold: above it two frames are of different shots, 0 to 1, and nothing is drawn between them.
    """

    codec: str = "auto"
    bit_depth: int = 8
    scene_threshold: float = SCENE_THRESHOLD

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` gives an equal value back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StoredVideo:
        """Raises TypeError when keys are unknown."""
        return cls(**data)

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> StoredVideo | None:
        """Return the choices among the resolved values; None where all are the usual ones, or for images."""
        made = cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
        return None if made == cls() or "image_format" in values else made

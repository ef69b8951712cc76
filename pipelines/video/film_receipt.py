"""Says in a receipt how several shots became one video."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..request.shots import FilmShot
from ..request.shots_request import SHOTS
from ..version import VERSION
from .colour_drift import Drift

__all__ = ["SHOTS_SHA256", "film_receipt", "joined_record", "shots_hash"]

SHOTS_SHA256 = "shots_sha256"  # the key in a receipt

_FORMAT = 1


def film_receipt(
    runner: str, request: Mapping[str, Any], shots: Sequence[FilmShot], frames: int
) -> dict[str, Any]:
    """Return what is known before the first shot is made.

    request: as it may be shared. frames: of the video, before interpolation.
    """
    return {
        "wan_duet": VERSION,
        "format": _FORMAT,
        "runner": runner,
        "kind": SHOTS,
        "request": request,
        "joins": [shot.join.text() for shot in shots],
        "frames": frames,
    }


def joined_record(receipts: Sequence[Mapping[str, Any]], drift: Drift) -> dict[str, Any]:
    """Return what is known when the shots are joined, and its hash. receipts: of each shot."""
    by_shot = {str(number + 1): levels for number, levels in drift.per_shot.items()}
    known = {"shots": list(receipts), "colour_drift": by_shot}
    return {**known, SHOTS_SHA256: shots_hash(known)}


def shots_hash(receipt: Mapping[str, Any]) -> str:
    """Return the sha256 of what a receipt says of each shot.

    The receipt inside a file holds it: that one is begun before the shots are made.
    """
    known = json.loads(json.dumps([receipt.get("shots"), receipt.get("colour_drift")]))
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

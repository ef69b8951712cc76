"""Reads a JSON object that a weight file, or a file beside it, holds."""

from __future__ import annotations

import json
from typing import Any

from ..errors import ModelError

__all__ = ["json_object"]


def json_object(text: str | bytes, where: str, error: type[ModelError] = ModelError) -> dict[str, Any]:
    """Return the object. Raises `error`, which begins with `where`, if `text` is no JSON or no object."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise error(f"{where} is not readable as JSON: {cause}") from cause
    if not isinstance(content, dict):
        raise error(f"{where} holds a {type(content).__name__}; a JSON object is needed")
    return content

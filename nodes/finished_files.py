"""Notices that the file of a cached result is missing, so that ComfyUI runs the node again."""

from __future__ import annotations

from pathlib import Path

__all__ = ["note_file", "times_lost"]

_files: dict[str, Path] = {}  # the last file of each node
_lost: dict[str, int] = {}


def note_file(node_id: str | None, file: Path) -> None:
    """Remember the last file of a node."""
    if node_id is not None:
        _files[node_id] = file


def times_lost(node_id: str | None) -> int:
    """Count how often the last file of a node was missing.

    This is a part of the node's fingerprint. It changes once per missing file.
    """
    if node_id is None:
        return 0
    file = _files.get(node_id)
    if file is not None and not file.exists():
        del _files[node_id]
        _lost[node_id] = _lost.get(node_id, 0) + 1
    return _lost.get(node_id, 0)

"""Notices that a cached result cannot serve, so that ComfyUI runs the node again."""

from __future__ import annotations

from pathlib import Path

__all__ = ["note_file", "times_lost"]

_files: dict[str, tuple[Path, ...]] = {}  # of the last result of each node
_without_images: set[str] = set()  # nodes whose last result blocks the output `images`
_lost: dict[str, int] = {}


def note_file(node_id: str | None, *files: Path, has_images: bool = True) -> None:
    """Remember the last files of a node. has_images: whether its output `images` is more than a blocker."""
    if node_id is None:
        return
    _files[node_id] = files
    if has_images:
        _without_images.discard(node_id)
    else:
        _without_images.add(node_id)


def times_lost(node_id: str | None, *, reads_images: bool = False) -> int:
    """Count how often the last result of a node could not serve: a file was missing, or it had no images.

    reads_images: whether another node is connected to `images` in the graph that runs now.
    This is a part of the node's fingerprint. It changes once per result.
    """
    if node_id is None:
        return 0
    gone = not all(file.exists() for file in _files.get(node_id, ()))
    if gone or (reads_images and node_id in _without_images):
        _files.pop(node_id, None)
        _without_images.discard(node_id)
        _lost[node_id] = _lost.get(node_id, 0) + 1
    return _lost.get(node_id, 0)

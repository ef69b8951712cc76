"""Says where a file is that was looked for in another folder."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["moved_to"]

_MOST = 3  # places in one sentence


def moved_to(name: str, listed: Iterable[str]) -> str:
    """Return where files of that name are listed, as the end of a sentence; empty if nowhere."""
    wanted = _last(name)
    places = [entry for entry in listed if wanted and _last(entry) == wanted]
    return f". A file of that name is at {' and at '.join(places[:_MOST])}: choose that" if places else ""


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].lower()

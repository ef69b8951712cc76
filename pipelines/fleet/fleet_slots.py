"""Chooses the slots of a fleet that would make what this machine would: same versions, model and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ModelError, PackageError, RequestError
from .cluster_access import require_same

__all__ = ["fitting_slots"]


def fitting_slots(found: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the slots that fit. found: {name: what `RaySlot.describe` says}.

    settings: of this machine, with the hashes of the model's files. Where they lie does not matter.

    Raises RequestError if the fleet has no slot, and the error of the first one if none fits.
    """
    if not found:
        fix = "run `wan-duet workers start` on its machines, with the same --model flags"
        raise RequestError.of("--address", "the fleet has no workers", fix)
    reasons = {name: _reason(f"{name} on {about['host']}", about, settings) for name, about in found.items()}
    fitting = [name for name, reason in reasons.items() if reason is None]
    if not fitting:
        raise next(reason for reason in reasons.values() if reason is not None)
    return fitting


def _reason(
    where: str, about: Mapping[str, Any], settings: Mapping[str, Any]
) -> PackageError | ModelError | None:
    """Return why a slot does not fit, or None."""
    try:
        require_same(about["versions"], where)
    except PackageError as error:
        return error
    theirs = about["settings"]
    wrong = sorted(name for name in {*theirs, *settings} if theirs.get(name) != settings.get(name))
    if not wrong:
        return None
    if wrong != ["files"]:
        named = ", ".join(f"{name} {theirs.get(name)} there, {settings.get(name)} here" for name in wrong)
        return ModelError(f"{where}: {named}; start its workers with the same flags")
    return ModelError(f"{where}: {_other_files(theirs['files'], settings['files'])}")


def _other_files(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Say which files of this machine are not there, by their content."""
    there = set(theirs.values())
    missing = [name for name, content in ours.items() if content not in there]
    shown = ", ".join(missing) or "fewer files here than there"
    return f"it holds another model (not there: {shown}); start its workers with the same files"

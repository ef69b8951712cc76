"""Keeps the finished latents of earlier runs on disk, so that a new encoding does not sample again."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ..errors import MediaError
from ..files.on_disk import discard, move_into_place
from ..request.report import Finding
from ..video.latent_file import LatentFile, read_latents, write_latents
from .local_receipt import latents_hash

__all__ = ["KeptLatents", "Sampled"]

log = logging.getLogger(__name__)

_FACTS = "wan_duet_sampled"  # the metadata key of everything but the latents
_LIMIT_BYTES = 2**29  # 27 videos of A14B at 720p with 81 frames


@dataclass(frozen=True)
class Sampled:
    """What sampling made, and what the receipt says of it.

    latents:      (1, C, T, h, w), float32, on the CPU. Speech has its clips one after another in T.
    prompt:       the prompt that was used, expanded if a language model expanded it.
    notes:        findings that only the run itself could make.
    acceleration: what the step cache skipped; None without one.
    steps:        the fingerprint of each step; empty in files of earlier versions.
    """

    latents: Tensor
    prompt: str
    notes: tuple[Finding, ...] = ()
    acceleration: Mapping[str, Any] | None = None
    steps: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class KeptLatents:
    """A folder of finished latents, found by a key that covers everything they depend on.

    folder:      made when needed. Several processes may share it.
    limit_bytes: of all files together. The files that were not used for longest go first.
    """

    folder: Path
    limit_bytes: int = _LIMIT_BYTES

    def find(self, key: str) -> Sampled | None:
        """Return what `keep` got for `key`, or None. A file that was damaged since then is removed."""
        file = self._file(key)
        if not file.exists():
            return None
        try:
            stored = read_latents(file)
            facts = json.loads(stored.tags[_FACTS])
            if facts.pop("sha256") != latents_hash(stored.latents):
                raise MediaError(f"{file} has changed since it was written")
            notes = tuple(Finding(**note) for note in facts.pop("notes"))
            sampled = Sampled(stored.latents, notes=notes, **facts)
            os.utime(file)
        except (MediaError, KeyError, TypeError, ValueError, OSError) as error:
            log.warning("the latents of an earlier run cannot be used: %s", error)
            discard(file)
            return None
        return sampled

    def keep(self, key: str, sampled: Sampled) -> None:
        """Store `sampled` for `key`. A disk that is full costs only the reuse, so the log alone says it."""
        size = sampled.latents.numel() * 4
        if size > self.limit_bytes:
            log.info("latents of %d MiB are not kept: the limit is %d", size >> 20, self.limit_bytes >> 20)
            return
        facts = {
            "sha256": latents_hash(sampled.latents),
            "prompt": sampled.prompt,
            "notes": [note.as_dict() for note in sampled.notes],
            "acceleration": sampled.acceleration,
            "steps": list(sampled.steps),
        }
        try:
            self._write(self._file(key), LatentFile(sampled.latents, tags={_FACTS: json.dumps(facts)}))
        except (OSError, SafetensorError) as error:
            log.warning("cannot keep latents in %s: %s", self.folder, error)

    def _write(self, file: Path, content: LatentFile) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(".part", dir=self.folder)
        os.close(handle)
        try:
            write_latents(Path(name), content)
            self._make_room(Path(name).stat().st_size)
            move_into_place(Path(name), file)
        finally:
            discard(Path(name))

    def _make_room(self, size_bytes: int) -> None:
        by_age = sorted(self.folder.glob("*.latent"), key=_last_used)
        total = size_bytes + sum(_size(file) for file in by_age)
        for file in by_age:
            if total <= self.limit_bytes:
                return
            total -= _size(file)
            discard(file)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.latent"


def _last_used(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:  # another process removed it
        return 0.0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0

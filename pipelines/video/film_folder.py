"""What a video of several shots keeps beside it until it is complete, so that a stopped run can go on."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import RequestError
from ..files.on_disk import write_whole
from ..request.base import WanRequest
from ..request.seeds import seed_for_run, seed_of
from ..request.shots import with_seed
from .frame_stream import Frame
from .image import image_bytes, write_image

__all__ = ["FilmFolder"]


@dataclass(frozen=True)
class FilmFolder:
    """The folder of a video. It is made when something is put into it.

    path: beside the video, with its name.
    """

    path: Path

    @classmethod
    def beside(cls, video: Path) -> FilmFolder:
        return cls(video.with_name(f".{video.stem}.shots"))

    def seeded(self, request: WanRequest, runner: str) -> WanRequest:
        """Return the request with a seed: its own, that of an equal run that was stopped, or a new one."""
        if seed_of(request) is not None:
            return request
        name = hashlib.sha256(json.dumps(request.document(), sort_keys=True).encode()).hexdigest()
        file = self._made() / f"{name}.seed"
        try:
            return with_seed(request, int(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, RequestError):
            seed = seed_for_run(request, runner)
        write_whole(file, str(seed))
        return with_seed(request, seed)

    def first_image(self, number: int, frame: Frame) -> Path:
        """Write the frame that a shot begins with, as a PNG. Raises MediaError."""
        file = self._made() / f"shot-{number + 1}-first.png"
        write_image(file, image_bytes(frame, "png", {}))
        return file

    def discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _made(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

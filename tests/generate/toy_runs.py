"""Short runs on the embedded model, for tests that compare their latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import t2v_request

Make = Callable[..., Result]


def maker(toy: WanModel, folder: Path, few: dict[str, Any]) -> Make:
    """Return what runs a request with the values `few`, changed, and writes the result into `folder`."""

    def made(local: dict[str, Any] | None = None, model: WanModel | None = None, **changes: Any) -> Result:
        request = t2v_request(**{**few, **changes, "local": local})
        out = folder / f"{len(list(folder.iterdir()))}.mp4"
        return run(request, model or toy, out=out, memory=DeviceMemory("cpu"), progress=Silent())

    return made


def latents(result: Result) -> str:
    return str(result.receipt["latents_sha256"])

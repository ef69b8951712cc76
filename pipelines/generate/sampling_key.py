"""Names everything that the latents of a run depend on, as one hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..loading.wan_model import WanModel
from ..networks.helper_folder import companion_record
from ..request.file_rules import FILE_MEANINGS
from ..request.seeds import seed_of
from ..video.frame_hash import FrameHash
from ..video.frame_stream import Frame
from ..weights.hashing import file_hash
from .local_receipt import latents_hash, library_versions
from .prepared_run import Run

__all__ = ["sampling_key"]

# Everything else counts, so that a value that is added later can only make a run sample again.
_AFTER_SAMPLING = {
    "interpolator_model",
    "num_interpolated_frames",
    "adjust_fps_for_interpolation",
    "video_quality",
    "video_write_mode",
    *FILE_MEANINGS,
    "reverse_video",
    "image_format",
    "frames_per_second",  # counts as `fps` where an input is read or heard at it
    "acceleration",  # the step cache counts instead: a run may ignore what was asked
    "seed",  # that of the plan counts
}
_AFTER_SAMPLING_IN_PLAN = {
    "kind",
    "contract",
    "output",
    "fps",
    "fps_out",
    "frames_out",
    "interpolator",
    "num_interpolated_frames",
    "reverse",
    "video_quality",
    "video_write_mode",
    "file",
    "size_bytes",
}


def sampling_key(run: Run, pose_video: Path | None = None) -> str | None:
    """Return a sha256 over the sampling values, the content of all weights and LoRAs, and the inputs.

    The kind of request does not count: `reverse_video` changes it and nothing that is sampled.
    pose_video: of a speech run.

    Returns None when the run cannot be found again: its seed is random, or one of its networks
    does not come from files, as with a MODEL of ComfyUI, whose patches have no hash.
    """
    model = run.model
    if seed_of(run.request) is None or not isinstance(model, WanModel):
        return None
    if not all(recipe.files for recipe in model.components.values()):
        return None
    resolved = run.report.require()
    timed = bool(resolved.values.get("resample_fps")) or "audio_url" in run.inputs.files
    parts = {
        "values": {k: v for k, v in resolved.values.items() if k not in _AFTER_SAMPLING},
        "plan": {k: v for k, v in run.plan.as_dict().items() if k not in _AFTER_SAMPLING_IN_PLAN},
        "fps": run.plan.fps if timed else None,
        "cache": None if run.cache is None else run.cache.as_dict(),
        "task": run.request.task,
        "inputs": {name: file.sha256 for name, file in run.inputs.files.items()},
        "lead": _hash_of(run.lead),
        **({} if run.anchored is None else {"anchored": latents_hash(run.anchored)}),
        "pose_video": None if pose_video is None else file_hash(pose_video),
        "expander": _expander(run),
        "family": model.family.name,
        "files": {name: _content(file) for name, file in model.files().items()},
        "configs": {name: recipe.config for name, recipe in model.components.items()},
        "tokenizer": _tokenizer(model.tokenizer),
        "loras": [{**lora.as_dict(), "content": _content(lora.file)} for lora in model.loras],
        "computed": [
            model.precision,
            str(run.dtype),
            str(run.memory.device),
            run.choices.as_dict(),
            torch.get_num_threads(),
            None if run.ranks is None else run.ranks.as_dict(),
        ],
        "versions": library_versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_plain).encode()).hexdigest()


def _expander(run: Run) -> Mapping[str, Any] | None:
    folder = run.model.prompt_expander if getattr(run.request, "enable_prompt_expansion", None) else None
    return None if folder is None else companion_record(folder)


def _hash_of(frames: tuple[Frame, ...]) -> str:
    digest = FrameHash()
    for frame in frames:
        digest.add(frame)
    return digest.sha256


def _content(file: Path) -> list[Any]:
    """Return the hash of a file. One that is only sampled counts with its time too."""
    digest = file_hash(file)
    return [digest] if digest.startswith("sha256:") else [digest, file.stat().st_mtime_ns]


def _tokenizer(path: Path) -> list[Any]:
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return [[file.name, *_content(file)] for file in files]


def _plain(value: object) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)

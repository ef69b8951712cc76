"""The receipt: what was asked, what was decided, what it was made with. Enough to make the same video again.

It names files by their content, not by where they lie: a video is shared, a home folder is not.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from ..device.precision import PRECISIONS, Precision
from ..download.address import shown
from ..download.store import origin_of
from ..errors import ModelError, RequestError
from ..plan.plan import Plan
from ..plan.sigmas import DISTILLED, GRIDS
from ..request.base import WanRequest
from ..request.lora_weight import place_of
from ..request.parse import parse
from ..version import VERSION

if TYPE_CHECKING:
    from torch import Tensor

    from ..kernels.choices import Wishes
    from ..loading.wan_model import WanModel
    from .decided import Run
    from .media_inputs import Given

__all__ = [
    "Recorded",
    "differences",
    "latents_hash",
    "make_receipt",
    "read_receipt",
    "require_same_files",
]

_FORMAT = 1
_SOLVERS = {solver for _, solver in (*GRIDS.values(), *DISTILLED.values())}
_LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "numpy", "av", "pydantic")


@dataclass(frozen=True)
class Recorded:
    """What a receipt says of a run that is to be repeated."""

    request: WanRequest
    plan: Plan
    model_name: str
    precision: Precision
    files: Mapping[str, str]
    latents_sha256: str
    versions: Mapping[str, str]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    cache_threshold: float | None = None  # of the step cache
    prompt: str | None = None  # that was drawn
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def wishes(self) -> Wishes:
        """Of the run that repeats it. Receipts of version 0.1 say nothing of choices."""
        from ..kernels.choices import Wishes

        return Wishes(**self.choices)


def make_receipt(run: Run, notes: Mapping[str, str], *, prompt: str, latents_sha256: str) -> dict[str, Any]:
    """The receipt of one local run, ready for JSON.

    notes:  adjustments only the run itself could know.
    prompt: what was drawn, which is not what was asked where a language model expanded it.
    """
    request, report, plan, model = run.request, run.report, run.plan, run.model
    adjustments: list[dict[str, Any]] = [
        {"field": finding.field, "asked": finding.asked, "used": finding.used, "reason": finding.reason}
        for finding in report.adjustments
    ]
    adjustments += [{"field": field, "reason": reason} for field, reason in notes.items()]
    return {
        "wan_duet": VERSION,
        "format": _FORMAT,
        "runner": "local",
        "kind": request.kind,
        "request": _fit_to_share(request.payload(), run.given),
        "inputs": run.given.as_dict(),
        "prompt": prompt,
        "seed": plan.seed,
        "adjustments": adjustments,
        "plan": plan.as_dict(),
        "model": {
            "name": Path(model.name).resolve().name,
            "family": model.family.name,
            "precision": model.precision,
            "dtype": str(run.dtype).removeprefix("torch."),
            "device": str(run.memory.device),
            "choices": run.choices.as_dict(),
            "kernels_refused": dict(run.choices.refused),
            "files": model.hashes(),
            "loras": [{**lora.as_dict(), **_origin(lora.file)} for lora in model.loras],
        },
        "latents_sha256": latents_sha256,
        "memory": run.ahead.as_dict(),
        "versions": _versions(),
    }


def read_receipt(file: Path) -> Recorded:
    """A receipt as written beside a video.

    Raises RequestError when the file is not one, or of a newer format than this version knows.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError.of(
            "from-receipt", f"{file} is not readable as JSON: {error}", "give the .json beside a video"
        ) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT or content.get("runner") != "local":
        raise RequestError.of(
            "from-receipt",
            f"{file} is not a local receipt of format {_FORMAT}",
            "give the .json beside a local video",
        )
    try:
        return _recorded(content)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise RequestError.of(
            "from-receipt", f"{file} is damaged: {error!r}", "make a new one from the request"
        ) from error


def _recorded(content: Mapping[str, Any]) -> Recorded:
    """Raises KeyError, TypeError, ValueError or ArithmeticError where the content is not a receipt's."""
    from ..kernels.choices import Wishes

    model, plan = content["model"], Plan.from_dict(content["plan"])
    Wishes(**model.get("choices", {}))
    if model["precision"] not in PRECISIONS or plan.solver not in _SOLVERS:
        raise ValueError(f"precision {model['precision']!r} or solver {plan.solver!r} is unknown")
    return Recorded(
        request=parse(content["kind"], {**content["request"], "seed": content["seed"]}),
        plan=plan,
        model_name=str(model["name"]),
        precision=model["precision"],
        files=dict(model["files"]),
        latents_sha256=str(content["latents_sha256"]),
        versions=dict(content["versions"]),
        inputs=dict(content.get("inputs", {})),  # which receipts had not before there were any
        cache_threshold=content["acceleration"]["threshold"] if "acceleration" in content else None,
        prompt=content.get("prompt"),
        choices=dict(model.get("choices", {})),
    )


def require_same_files(recorded: Recorded, model: WanModel) -> None:
    """Raise ModelError when a weight file has another hash than the receipt says."""
    found = model.hashes()
    different = sorted(
        name for name in {*found, *recorded.files} if found.get(name) != recorded.files.get(name)
    )
    if different:
        raise ModelError(
            f"{model.name}: {', '.join(different)} differ from the files of the receipt; "
            "use the same model and LoRA files to get the same video"
        )


def differences(recorded: Recorded) -> str:
    """What is not the same here as where the receipt was made, in words."""
    here = _versions()
    changed = [
        f"{name} {recorded.versions.get(name)} there, {here.get(name)} here"
        for name in sorted({*here, *recorded.versions})
        if here.get(name) != recorded.versions.get(name)
    ]
    return "; ".join(changed) or "versions are the same, so the device or its settings differ"


def latents_hash(latents: Tensor) -> str:
    """sha256 over shape and values of latents (B, C, T, H/8, W/8), float32."""
    contiguous = latents.float().cpu().contiguous()
    digest = hashlib.sha256(str(tuple(contiguous.shape)).encode())
    digest.update(contiguous.numpy().tobytes())
    return digest.hexdigest()


def _fit_to_share(payload: dict[str, Any], given: Given) -> dict[str, Any]:
    """Files given by their whole path go by their name, an address without what could be a signature."""
    names = {field: file.name for field, file in given.files.items()}
    payload = {**payload, **{field: name for field, name in names.items() if not _is_hash(payload[field])}}
    loras = payload.get("loras")
    if not loras:
        return payload
    return {**payload, "loras": [{**lora, "path": _bare(lora["path"])} for lora in loras]}


def _is_hash(value: str) -> bool:
    """Whether a medium came from a socket."""
    return value.startswith("sha256:")


def _bare(path: str) -> str:
    if place_of(path) == "address":
        return shown(path)
    for flavour in (PurePosixPath, PureWindowsPath):
        if flavour(path).is_absolute():
            return flavour(path).name
    return path


def _origin(file: Path) -> dict[str, Any]:
    """Where a downloaded file came from."""
    origin = origin_of(file)
    return {} if origin is None else {"origin": asdict(origin)}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    return {**found, **{library: _version(library) for library in _LIBRARIES}}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"

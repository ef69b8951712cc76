"""Writes and reads receipts: request, decisions and versions, enough to make the same video again.

A receipt names files by their hash and not by their path, because videos are shared and paths are private.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from ..device.memory import compute_dtype
from ..device.precision import PRECISIONS, Precision
from ..download.address import shown
from ..download.store import origin_of
from ..errors import ModelError, RequestError, SamplingError
from ..loading.host_model import HostModel, has_whole_vae
from ..plan.cache_choice import CacheChoice
from ..plan.plan import Plan
from ..plan.sigmas import DISTILLED, GRIDS
from ..request.base import WanRequest
from ..request.field_rows import LOCAL
from ..request.lora_weight import place_of
from ..request.parse import parse
from ..request.report import Finding
from ..request.shots_request import SHOTS
from ..sampling.step_fingerprints import STEP_FINGERPRINTS, Fingerprint, first_difference
from ..version import VERSION
from ..video.frame_hash import FRAMES_SHA256
from .cpu_settings import changed_settings, cpu_settings
from .stored_findings import formats_of, stored_record

if TYPE_CHECKING:
    from torch import Tensor

    from ..kernels.choices import Preferences
    from ..loading.host_model import AnyModel
    from .media_inputs import MediaInputs
    from .prepared_run import Run

__all__ = [
    "Recorded",
    "differences",
    "fit_to_share",
    "latents_hash",
    "library_versions",
    "make_receipt",
    "read_content",
    "read_receipt",
    "recorded_in",
    "require_same_files",
]

_FORMAT = 1
_MOST_THREADS = 4096  # above it somebody has mistyped
_SOLVERS = {solver for _, solver in (*GRIDS.values(), *DISTILLED.values())}
_LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "numpy", "av", "pydantic")


@dataclass(frozen=True)
class Recorded:
    """The contents of a receipt, for a run that repeats it.

    preferences:   the choices of kernels that the repeated run must make.
    frames_sha256: of the frames in the file, and `decoded` says how they were decoded; None in old receipts.
    """

    request: WanRequest
    plan: Plan
    model_name: str
    precision: Precision
    files: Mapping[str, str]
    latents_sha256: str
    versions: Mapping[str, str]
    preferences: Preferences
    inputs: Mapping[str, Any] = field(default_factory=dict)
    cache: CacheChoice | None = None
    prompt: str | None = None  # the expanded one
    folder: Path = Path()  # of the receipt
    cpu: Mapping[str, Any] = field(default_factory=dict)  # as `cpu_settings` makes it
    frames_sha256: str | None = None
    decoded: str | None = None
    steps: Sequence[Fingerprint] = ()  # missing in older receipts

    def require_latents(self, sha256: str, steps: Sequence[Fingerprint]) -> None:
        """Raise SamplingError if these latents are not those of the receipt.

        steps: of the run that made them.
        """
        if sha256 == self.latents_sha256:
            return
        first = first_difference(steps, self.steps)
        where = "" if first is None else f" ({first.text(self.plan.experts[self.plan.start_step :])})"
        raise SamplingError(f"the latents are not those of the receipt{where}: {differences(self)}")

    def require_frames(self, sha256: str, decoded: str = "") -> None:
        """Raise SamplingError if frames with this hash, `decoded` that way, are not those of the receipt."""
        if self.frames_sha256 in (None, sha256):
            return
        if self.decoded not in (None, decoded):
            reason = f"they were decoded {self.decoded} there, {decoded} here, as the free memory allowed"
        else:
            reason = differences(self)
        raise SamplingError(f"the latents are those of the receipt, but the frames are not: {reason}")


def make_receipt(run: Run, notes: Sequence[Finding], *, prompt: str, latents_sha256: str) -> dict[str, Any]:
    """Return the receipt of a local run, ready for JSON.

    notes:  findings that only the run itself could make.
    prompt: the prompt that was used, expanded if a language model expanded it.
    """
    request, report, plan, model = run.request, run.report, run.plan, run.model
    adjustments: list[dict[str, Any]] = [
        {"field": finding.field, "asked": finding.asked, "used": finding.used, "reason": finding.reason}
        for finding in report.adjustments
    ]
    adjustments += [{"field": note.field, "reason": note.reason} for note in notes]
    return {
        "wan_duet": VERSION,
        "format": _FORMAT,
        "runner": "local",
        "kind": request.kind,
        "request": fit_to_share(request.document(), run.inputs),
        "inputs": run.inputs.as_dict(),
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
            "vae": _vae(run),
            **_host_record(model),
            "stored_as": formats_of(model),
            **stored_record(model, run.memory.device),
            "files": model.hashes(),
            "loras": [{**lora.as_dict(), **_origin(lora.file)} for lora in model.loras],
        },
        **({} if run.ranks is None else {"gpus": run.ranks.as_dict()}),
        **_lossy(run),
        "latents_sha256": latents_sha256,
        "memory": run.estimate.as_dict(),
        "versions": library_versions(),
        "cpu": cpu_settings(),
        "findings": [finding.to_share() for finding in report.with_findings(notes).told],
    }


def _lossy(run: Run) -> dict[str, Any]:
    """Return what was chosen and changed the result; nothing if nothing did."""
    plan, acting = run.plan, list[str]()
    if plan.extra_guidance is not None:
        running = slice(plan.start_step, None)
        acting += plan.extra_guidance.acting(plan.scales[running], plan.experts[running])
    acting += [name for name in ("context_windows", "riflex") if getattr(plan, name) is not None]
    local = run.request.local
    if local is not None and local.step_cache != "off":
        acting.append("step_cache")
    if any((one.field, one.status) == ("precision", "warning") for one in run.report.findings):
        acting.append("precision_stored")
    return {"lossy_by_choice": acting} if acting else {}


def _vae(run: Run) -> dict[str, Any]:
    """How the VAE computes. Inside ComfyUI its device and dtype may differ from those of the experts."""
    if has_whole_vae(run.model):
        return {"class": run.model.whole_vae, "decodes": "in one go, by ComfyUI"}
    memory = run.memory.for_part("vae")
    return {
        "dtype": str(compute_dtype(run.model.precision, memory, "vae")).removeprefix("torch."),
        "device": str(memory.device),
        "kernels": run.vae_kernels.kernels,
        "kernels_refused": dict(run.vae_kernels.refused),
    }


def _host_record(model: AnyModel) -> dict[str, Any]:
    """The exactness class of a run on a model of the host, and what was patched onto it."""
    if not isinstance(model, HostModel):
        return {}
    return {"exactness": "host", "experts": model.networks.record()}


def read_receipt(file: Path) -> Recorded:
    """Read the receipt beside a video.

    Raises RequestError when `file` is not a receipt, or has a format that this version does not know.
    """
    content = read_content(file)
    if content.get("kind") == SHOTS:
        raise RequestError.of("from-receipt", "a video of several shots", "give the receipt of a single run")
    return recorded_in(content, file)


def read_content(file: Path) -> dict[str, Any]:
    """Read a receipt as JSON values. Raises as `read_receipt` does."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError.of(
            "from-receipt", f"{file} is not readable as JSON: {error}", "give the .json file beside a video"
        ) from error
    runner = content.get("runner") if isinstance(content, dict) else None
    if runner in ("fal", "novita"):
        fix = f"run the request in it again with --on {runner}; nobody can promise the same result"
        raise RequestError.of("from-receipt", f"{file} was bought at {runner}", fix)
    if not isinstance(content, dict) or content.get("format") != _FORMAT or content.get("runner") != "local":
        raise RequestError.of(
            "from-receipt",
            f"{file} is not a local receipt of format {_FORMAT}",
            "give the .json file beside a video that was made on this machine",
        )
    return content


def recorded_in(content: Mapping[str, Any], file: Path) -> Recorded:
    """Return the values of a receipt that was read from `file`. Raises as `read_receipt` does."""
    try:
        _require_repeatable(content)
        return replace(_recorded(content), folder=file.parent)
    except (KeyError, TypeError, ValueError, ArithmeticError, ModelError) as error:
        raise RequestError.of(
            "from-receipt", f"{file} is damaged: {error!r}", "make a new one from the request"
        ) from error


def _require_repeatable(content: Mapping[str, Any]) -> None:
    """Raise RequestError for several devices, and for a model of the host: nothing is promised."""
    if "gpus" in content:
        devices = ", ".join(content["gpus"]["devices"])
        found = f"the run used {devices} together, whose results differ from those of one device by rounding"
        fix = "run the request in it again: wan-duet generate --gpus"
        raise RequestError.of("from-receipt", found, fix)
    model = content["model"]
    if model.get("exactness") != "host":
        return
    patched = {name for expert in model["experts"].values() for name in expert["patches"]}
    raise RequestError.of(
        "from-receipt",
        f"the run used ComfyUI's MODEL {model['name']} with {', '.join(sorted(patched)) or 'no patches'}, "
        "whose results are named in the receipt and not promised",
        "run the request again in ComfyUI with these MODELs and patches; its workflow is in the video",
    )


def _recorded(content: Mapping[str, Any]) -> Recorded:
    """Raises KeyError, TypeError, ValueError, ArithmeticError or ModelError when `content` is no receipt."""
    model, plan = content["model"], Plan.from_dict(content["plan"])
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
        inputs=dict(content.get("inputs", {})),  # missing in the oldest receipts
        cache=CacheChoice.of_receipt(content["acceleration"]) if "acceleration" in content else None,
        prompt=content.get("prompt"),
        preferences=_preferences(model),
        cpu=_cpu(content.get("cpu", {})),
        frames_sha256=content.get(FRAMES_SHA256),  # missing in receipts of 0.1.0 and before
        decoded=content.get("decoded"),
        steps=[_fingerprint(step) for step in content.get(STEP_FINGERPRINTS, ())],
    )


def _fingerprint(step: Mapping[str, Any]) -> Fingerprint:
    """Raises what `_recorded` raises."""
    return {"sha256": str(step["sha256"]), "sketch": [float(number) for number in step["sketch"]]}


def _cpu(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raises what `_recorded` raises. The oldest receipts contain none."""
    threads = recorded.get("threads", 1)
    if not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS:
        raise ValueError(f"cpu.threads is {threads!r}")
    return dict(recorded)


def _preferences(model: Mapping[str, Any]) -> Preferences:
    """Raises what `_recorded` raises. The oldest receipts contain no choices."""
    from ..kernels.choices import KernelChoice, Preferences

    vae = KernelChoice(model["vae"]["kernels"]) if "vae" in model else None
    return Preferences(**model.get("choices", {}), vae=vae)


def require_same_files(recorded: Recorded, model: AnyModel) -> None:
    """Raise ModelError when the hash of a weight file differs from the receipt."""
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
    """Describe how the versions and the CPU here differ from those in the receipt."""
    here = library_versions()
    changed = [
        f"{name} {recorded.versions.get(name)} there, {here.get(name)} here"
        for name in sorted({*here, *recorded.versions})
        if here.get(name) != recorded.versions.get(name)
    ]
    changed += changed_settings(recorded.cpu)
    return "; ".join(changed) or "all versions are equal, so the device or its settings must differ"


def latents_hash(latents: Tensor) -> str:
    """Return the sha256 of shape and values of latents (B, C, T, H/8, W/8), as float32."""
    contiguous = latents.float().cpu().contiguous()
    digest = hashlib.sha256(str(tuple(contiguous.shape)).encode())
    digest.update(contiguous.numpy().tobytes())
    return digest.hexdigest()


def fit_to_share(payload: dict[str, Any], inputs: MediaInputs) -> dict[str, Any]:
    """Remove what is private: folders of files, and queries of addresses, which may hold a signature."""
    names = {field: file.name for field, file in inputs.files.items()}
    payload = {**payload, **{field: name for field, name in names.items() if not _is_hash(payload[field])}}
    if local := payload.get(LOCAL):
        local = _with_bare_paths(local, "loras_per_stage")
        phases = [_with_bare_paths(phase, "loras") for phase in local.get("phases", ())]
        payload = {**payload, LOCAL: {**local, "phases": phases} if phases else local}
    return _with_bare_paths(payload, "loras")


def _with_bare_paths(values: dict[str, Any], field: str) -> dict[str, Any]:
    """Return the values with every LoRA of a field under its bare name."""
    loras = values.get(field)
    return {**values, field: [{**lora, "path": _bare(lora["path"])} for lora in loras]} if loras else values


def _is_hash(value: str) -> bool:
    """Whether `value` stands for a connected input."""
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


def library_versions() -> dict[str, str]:
    """Return the versions of Python, the system and the libraries that compute."""
    found = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    return {**found, **{library: _version(library) for library in _LIBRARIES}}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"

"""Runs the videos of a LoRA bench one after another on one model, which stays loaded between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import RequestError
from ..generate.local_receipt import read_content
from ..loading.wan_model import WanModel
from ..networks.prompt_cache import PromptCache
from ..remote.stored_form import fingerprint
from ..request.kinds import class_of
from ..weights.hashing import file_hash
from .batch_folder import BatchFolder
from .batch_run import BatchResult, run_batch
from .crew import RowWatcher
from .local_place import LocalPlace
from .lora_cells import LoraCell, LoraSetting, cells_of, settings_of

__all__ = ["LoraBench", "bench_key", "bench_of", "run_bench"]

_VARIED = ("prompt", "seed", "loras")
_OTHER_PROMPTS = 8  # negative ones
_MOST_CELLS = 500


@dataclass(frozen=True)
class LoraBench:
    """settings: each LoRA, expert and strength; no LoRA comes first. cells: one video each, as they run."""

    settings: Sequence[LoraSetting]
    cells: Sequence[LoraCell]
    prompts: Sequence[str]


def bench_of(
    files: Sequence[str],
    strengths: Sequence[float],
    experts: Sequence[str],
    *,
    kind: str,
    values: Mapping[str, Any],
    prompts: Sequence[str],
    seeds: Sequence[int],
) -> LoraBench:
    """Return the bench of every combination.

    kind, values: of all requests, without the fields that the bench varies.

    Raises RequestError for such a field, for a kind without videos of one prompt, and as `settings_of` and
    `cells_of` do.
    """
    if varied := [name for name in _VARIED if name in values]:
        found = f"has {', '.join(varied)}"
        raise RequestError.of("request", found, "leave them out: the bench varies them")
    if (values.get("local") or {}).get("count", 1) != 1:
        fix = "leave it out, and give the number of seeds to the bench"
        raise RequestError.of("local.count", "each video of the bench has its own seed", fix)
    wanted = class_of(kind)
    if not {"prompt", "video_quality"} <= wanted.model_fields.keys():
        raise RequestError.of("kind", f"{kind} makes no video of one prompt", "choose a kind that does")
    settings = settings_of(files, strengths, experts)
    if (count := len(settings) * len(prompts) * len(seeds)) > _MOST_CELLS:
        fix = f"give fewer strengths, experts, prompts or seeds; at most {_MOST_CELLS} videos fit on a sheet"
        raise RequestError.of("seeds", f"{count} videos in all", fix)
    return LoraBench(settings, cells_of(settings, wanted.task, values, prompts, seeds), prompts)


def bench_key(bench: LoraBench, place: LocalPlace) -> str:
    """Return what decides the videos beside strengths, experts and seeds, as one hash in hex.

    Raises LoraError for a LoRA that is not found.
    """
    sources, progress = place.worker.lora_sources, place.worker.progress
    paths = {setting.path for setting in bench.settings if setting.path is not None}
    loras = {path: file_hash(sources.find(path, progress=progress)) for path in paths}
    first = bench.cells[0]
    requests = [
        {**cell.row.request.document(), "seed": None}
        for cell in bench.cells
        if (cell.setting, cell.seed) == (first.setting, first.seed)
    ]
    kind = first.row.request.kind
    return fingerprint({"settings": place.settings(), "loras": loras, "kind": kind, "requests": requests})


def run_bench(bench: LoraBench, folder: BatchFolder, place: LocalPlace, watcher: RowWatcher) -> BatchResult:
    """Make the videos that are not in `folder` yet.

    Raises RequestError for a LoRA that has changed since a video in `folder` was made, and as `run_batch`
    does.

    Each prompt is encoded once: every setting uses all of them, so all are kept (8 MB each with UMT5-XXL).
    """
    model = place.worker.model
    if isinstance(model, WanModel):
        kept = PromptCache(len(bench.prompts) + _OTHER_PROMPTS)
        place = replace(place, worker=replace(place.worker, model=replace(model, prompts=kept)))
    _require_same_loras(bench, folder, place)
    rows = [cell.row for cell in bench.cells]
    return run_batch(rows, folder, [place], watcher, settings=place.settings())


def _require_same_loras(bench: LoraBench, folder: BatchFolder, place: LocalPlace) -> None:
    for cell in bench.cells:
        receipt = folder.path / f"{cell.name}.json"
        if cell.setting.path is None or not receipt.is_file():
            continue
        file = place.worker.lora_sources.find(cell.setting.path)
        used = read_content(receipt)["model"]["files"]
        if file_hash(file) not in used.values():
            found = f"{file.name} has changed since {cell.name} was made"
            raise RequestError.of("--output", found, "give another folder, or move these videos away")

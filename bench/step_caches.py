"""What each step cache saves and costs, on the embedded models; and the ratios that MagCache needs.

    nice python bench/step_caches.py [--clips 24] [--only CACHE ...] [-o bench/results/step-caches.json]
    nice python bench/step_caches.py --table bench/results/step-caches.json
    nice python bench/step_caches.py --calibrate [--clips 24]

Unseen prompts are drawn from the same noise with and without each cache, at the default settings of a
request. The saving is the share of forwards that skip blocks; the error is the distance of the pixels, and
what the detector sees. --calibrate prints the entry of pipelines/plan/magnitudes.json for the model.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT), *(str(ROOT / "tests" / name) for name in ("", "embedded"))]

from drawing import PROPERTIES, draw, unseen_prompts  # noqa: E402

from wan_duet.pipelines.embedded.detector import look_at  # noqa: E402
from wan_duet.pipelines.loading.wan_model import WanModel, load_model  # noqa: E402
from wan_duet.pipelines.plan.cache_choice import CacheChoice  # noqa: E402
from wan_duet.pipelines.plan.magnitudes import magnitudes_of  # noqa: E402
from wan_duet.pipelines.sampling.cached_forward import CachingEngine  # noqa: E402
from wan_duet.pipelines.sampling.engine import Condition  # noqa: E402
from wan_duet.pipelines.sampling.schedule import Schedule  # noqa: E402
from wan_duet.pipelines.sampling.step_cache import StepCache  # noqa: E402

SEED = 5  # of the prompts, as in the tests
CALIBRATION_SEED = 6
CHOICES = (
    *(CacheChoice("first-block", threshold) for threshold in (0.03, 0.06, 0.12)),
    *(CacheChoice("magcache", threshold) for threshold in (0.03, 0.06, 0.12)),
    *(CacheChoice("easycache", threshold) for threshold in (0.025, 0.05, 0.1)),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--only", nargs="*", metavar="CACHE", help="first-block, magcache, easycache")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--table", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("bench/results/step-caches.json"))
    options = parser.parse_args()
    if options.table is not None:
        print(table(json.loads(options.table.read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(1)
    model = load_model("toy")
    if options.calibrate:
        print(json.dumps(calibrated(model, options.clips), indent=2))
        return
    chosen = [choice for choice in CHOICES if not options.only or choice.name in options.only]
    measure(model, options.clips, chosen, options.output)


def measure(model: WanModel, count: int, choices: list[CacheChoice], output: Path) -> None:
    pairs = unseen_prompts(count, SEED)
    prompts = [prompt for _, prompt in pairs]
    plain = draw(model, prompts)
    result: dict[str, Any] = {
        "date": date.today().isoformat(), "torch": torch.__version__, "model": model.name, "clips": count,
        "rows": [{"cache": "off", **scores(plain, pairs)}],
    }  # fmt: skip
    for choice in choices:
        caches: list[StepCache] = []

        def new_cache(
            schedule: Schedule, choice: CacheChoice = choice, caches: list[StepCache] = caches
        ) -> StepCache:
            caches.append(StepCache(choice, schedule, magnitudes_of(model.family)))
            return caches[-1]

        clips = draw(model, prompts, new_cache=new_cache)
        counts = [cache.as_dict() for cache in caches]
        row = {
            "cache": choice.name,
            "threshold": choice.threshold,
            **{f"skipped of {expert}": share(counts, expert) for expert in ("high", "low")},
            "pixels apart, of 255": float(
                np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(clips, plain, strict=True)])
            ),
            **scores(clips, pairs),
        }
        result["rows"].append(row)
        sys.stderr.write(json.dumps(row) + "\n")
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def share(counts: list[dict[str, Any]], expert: str) -> float:
    forwards = sum(each["forwards"].get(expert, 0) for each in counts)
    return sum(each["skipped"].get(expert, 0) for each in counts) / forwards


def scores(clips: list[np.ndarray], pairs: list[Any]) -> dict[str, int]:
    seen = [look_at(clip) for clip in clips]
    return {
        name: sum(
            getattr(scene, name) == getattr(found, name)
            for (scene, _), found in zip(pairs, seen, strict=True)
        )
        for name in PROPERTIES
    }


def calibrated(model: WanModel, count: int) -> dict[str, Any]:
    """Return the mean ratio of the residual's size at each step, over prompts."""
    recorders: list[_Recorder] = []

    def new_cache(schedule: Schedule) -> StepCache:
        recorders.append(_Recorder(CacheChoice("first-block", 0.0), schedule))
        return recorders[-1]

    draw(model, [prompt for _, prompt in unseen_prompts(count, CALIBRATION_SEED)], new_cache=new_cache)
    places = ("prompt", "negative_prompt")
    sizes = {
        place: torch.stack([torch.stack(each.ratios[index]) for each in recorders])
        for index, place in enumerate(places)
    }
    return {place: [round(float(ratio), 5) for ratio in found.mean(0)] for place, found in sizes.items()}


@dataclass
class _Recorder(StepCache):
    """Computes all, and writes down by what ratio the residual of each condition changes."""

    ratios: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    _sizes: dict[int, Tensor] = field(default_factory=dict)

    def new(self, network: str) -> Any:  # noqa: ARG002 - as in StepCache
        return _Recording(self)

    def add(self, place: int, residual: Tensor) -> None:
        size = residual.float().norm(dim=-1)  # of each token, as in magcache_calibration
        if place in self._sizes:
            self.ratios[place].append((size / self._sizes[place]).mean())
        self._sizes[place] = size


@dataclass
class _Recording:
    """As an ExpertCache, and as the BlockCache of each of its forwards."""

    recorder: _Recorder
    forwards: int = 0
    skipped: int = 0
    _places: dict[int, int] = field(default_factory=dict)
    _place: int = 0
    _after_first: Tensor | None = None

    def predict(
        self,
        engine: CachingEngine,
        latents: Tensor,
        timestep: float,
        condition: Condition,
        *,
        may_skip: bool,  # noqa: ARG002 - as in ExpertCache
    ) -> Tensor:
        self._place = self._places.setdefault(id(condition), len(self._places))
        return engine.predict(latents, timestep, condition, self)

    def after_first(self, before: Tensor, after: Tensor) -> None:  # noqa: ARG002 - as in BlockCache
        self._after_first = after

    def before_last(self, hidden: Tensor) -> None:
        if self._after_first is not None:
            self.recorder.add(self._place, hidden - self._after_first)


def table(result: dict[str, Any]) -> str:
    """Return the table of docs/performance.md."""
    head = ("cache", "threshold", "skipped, high", "skipped, low", "pixels apart", *PROPERTIES)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in result["rows"]:
        found = [f"{row[name]} of {result['clips']}" for name in PROPERTIES]
        if row["cache"] == "off":
            cells = ["off", "", "", "", "", *found]
        else:
            skipped = [f"{100 * row[f'skipped of {expert}']:.0f} %" for expert in ("high", "low")]
            apart = f"{row['pixels apart, of 255']:.2f}"
            cells = [row["cache"], str(row["threshold"]), *skipped, apart, *found]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

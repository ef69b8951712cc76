"""Train the embedded model: `python -m tools.train_embedded.train --out DIR`.

Call it again with --resume until every stage says it is complete; a call ends by itself after --minutes.
`--start FOLDER` goes on from an export: its VAE and text encoder stay, its experts are trained further.
On a GPU `side_by_side.py` runs the stages at once, as processes.

Measured on two cores of a busy CPU with bfloat16: the VAE reaches 31.3 dB on unseen clips after 1,500 steps
(half an hour), the text encoder reads every unseen sentence after 750 (three minutes), the experts need two
and a half hours for 3,000 and 5,000 steps. MODEL_CARD.md has what came of it.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from .adopt import adopt
from .export import export
from .schedule import Run
from .train_experts import train_expert
from .train_loras import LORAS, train_lora
from .train_text import train_text
from .train_vae import train_vae

__all__ = ["STAGES", "main"]

log = logging.getLogger(__name__)

STAGES: dict[str, Callable[[Run], bool]] = {
    "vae": train_vae,
    "text": train_text,
    "high": partial(train_expert, "high"),
    "low": partial(train_expert, "low"),
    "high_image": partial(train_expert, "high", image=True),
    "low_image": partial(train_expert, "low", image=True),
    **{name: partial(train_lora, name) for name in LORAS},
}
_GROUPS = {
    "experts": ("text", "high", "low"),
    "image": ("high_image", "low_image"),
    "loras": tuple(LORAS),
    "all": tuple(STAGES),
    "export": (),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="checkpoints, latents, previews and the export"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--stage", choices=(*STAGES, *_GROUPS), default="all")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop and save after this time")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the steps of every stage")
    parser.add_argument(
        "--by-clock",
        action="store_true",
        help="train a stage until --minutes are over, however many steps that is",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the experts: steps of half the time, after some minutes; needs a C++ compiler",
    )
    parser.add_argument(
        "--start", type=Path, help="an export to go on from, such as pipelines/embedded/weights"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch; 0 leaves them alone")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    _log_to(options.out / "train.log")
    if not options.resume and any((options.out / "checkpoints").glob("*.pt")):
        parser.error(f"{options.out} already holds checkpoints: add --resume, or choose another folder.")
    run = Run(
        options.out,
        torch.device(options.device),
        time.monotonic() + 60 * options.minutes,
        scale=options.scale,
        workers=max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1),
        by_clock=options.by_clock,
        compiled=options.compile,
    )
    stages = _GROUPS.get(options.stage, (options.stage,))
    if options.start:
        adopt(options.start, run)
        stages = tuple(stage for stage in stages if stage not in ("vae", "text"))
    complete = all(_run_stage(stage, run) for stage in stages)
    if options.stage in _GROUPS:
        export(run, options.out / "export")
    log.info("complete" if complete else "out of time: call again with --resume")
    return 0 if complete else 3


def _run_stage(stage: str, run: Run) -> bool:
    started = time.monotonic()
    complete = STAGES[stage](run)
    state, minutes = "done" if complete else "paused", (time.monotonic() - started) / 60
    log.info("%s: %s after %.1f min of this call", stage, state, minutes)
    return complete


def _log_to(path: Path) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(), logging.FileHandler(path)]
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)


if __name__ == "__main__":
    raise SystemExit(main())

"""Train the embedded model: `python -m wan_duet.pipelines.toy.train --out DIR`.

Call it again with --resume until every stage says it is complete; a call ends by itself after --minutes.

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

from .export import export
from .schedule import Run
from .train_experts import train_expert
from .train_loras import LORAS, train_lora
from .train_text import train_text
from .train_vae import train_vae

__all__ = ["STAGES", "main"]

log = logging.getLogger(__name__)

STAGES: dict[str, tuple[Callable[[Run], bool], ...]] = {
    "vae": (train_vae,),
    "text": (train_text,),
    "high": (partial(train_expert, "high"),),
    "low": (partial(train_expert, "low"),),
    "image": (partial(train_expert, "high", image=True), partial(train_expert, "low", image=True)),
    "loras": tuple(partial(train_lora, name) for name in LORAS),
}
_GROUPS = {"experts": ("text", "high", "low"), "all": tuple(STAGES)}


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
    )
    complete = all(_run_stage(stage, run) for stage in _GROUPS.get(options.stage, (options.stage,)))
    export(run, options.out / "export")
    log.info("complete" if complete else "out of time: call again with --resume")
    return 0 if complete else 3


def _run_stage(stage: str, run: Run) -> bool:
    """All parts of a stage, in order; the first one that runs out of time ends it."""
    started = time.monotonic()
    complete = all(part(run) for part in STAGES[stage])
    log.info(
        "%s: %s after %.1f min of this call",
        stage,
        "done" if complete else "paused",
        (time.monotonic() - started) / 60,
    )
    return complete


def _log_to(path: Path) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(), logging.FileHandler(path)]
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)


if __name__ == "__main__":
    raise SystemExit(main())

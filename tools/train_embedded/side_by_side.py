"""Train the embedded experts on one GPU as processes side by side, from an export that is there already.

    python -m tools.train_embedded.side_by_side --out DIR --start pipelines/embedded/weights --minutes 5

Networks this small leave a GPU waiting for Python, so that several of them share it. First the text-to-video
pair, then the image-to-video pair and the LoRAs, which grow from it. The clips of the second round are
rendered during the first.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from .adopt import adopt
from .export import export
from .latents import latent_set
from .schedule import Run
from .train_experts import ExpertTraining
from .train_loras import LORAS, lora_clips
from .train_vae import folded_vae

__all__ = ["main"]

log = logging.getLogger(__name__)

_ROUNDS = (("high", "low"), ("high_image", "low_image", *LORAS))
_FIRST_ROUND = 0.5  # of the time that is left for training


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True, help="the export to go on from")
    parser.add_argument("--minutes", type=float, required=True, help="of the whole call")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    end = time.monotonic() + 60 * options.minutes
    run = Run(options.out, torch.device(options.device), end, workers=16)
    adopt(options.start, run)
    encode("text", run)
    middle = time.monotonic() + _FIRST_ROUND * (end - time.monotonic())
    for names, until in zip(_ROUNDS, (middle, end), strict=True):
        processes = [begin(name, options, (until - time.monotonic()) / 60) for name in names]
        if names is _ROUNDS[0]:
            encode("image", run)
            for name in LORAS:
                latent_set(f"lora_{name}", lora_clips(name, run), folded_vae(run), run, conditions=False)
        codes = [process.wait() for process in processes]
        if any(codes):
            log.error("failed: %s", ", ".join(n for n, code in zip(names, codes, strict=True) if code))
            return 1
    export(run, options.out / "export")
    return 0


def encode(kind: str, run: Run) -> None:
    """The latents that both experts of a pair are going to ask for: once for all processes."""
    image = kind == "image"
    plan = ExpertTraining.for_run("low_image" if image else "low", run)
    vae = folded_vae(run)
    latent_set(kind, plan.seen(image), vae, run, image)
    latent_set(f"{kind}_unseen", plan.held_out(), vae, run, image)


def begin(stage: str, options: argparse.Namespace, minutes: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"{__package__}.train", "--out", str(options.out), "--stage", stage]
    command += ["--resume", "--by-clock", "--minutes", f"{minutes:.3f}", "--device", options.device]
    return subprocess.Popen([*command, "--threads", "2"])


if __name__ == "__main__":
    raise SystemExit(main())

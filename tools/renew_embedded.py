"""Make anew all that shows what the embedded models draw, and look at it: after any change of their weights.

    python -m tools.renew_embedded [--list] [--after NAME]

Preview colours, contact sheet, scores, the pictures of the workflows and of README, then the tests that look
at each result. Needs ComfyUI ($COMFYUI_PATH), for the canvases a browser, and half an hour. Stops at the
first step that fails; --after goes on behind a step. Exit code 0 when all is made and every look passes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["STEPS", "Step", "main"]

_ROOT = Path(__file__).resolve().parents[1]


class Step(NamedTuple):
    """A command of this Python. environ: what it has beside ours."""

    name: str
    arguments: tuple[str, ...]
    environ: dict[str, str] = {}  # noqa: RUF012 - never changed


STEPS = (
    Step("preview-colours", ("-m", "tools.train_embedded.preview_colours")),
    Step("sheet", ("bench/embedded_model.py", "--sheet", "docs/images/embedded-model.png")),
    Step("scores", ("bench/embedded_model.py", "-o", "bench/results/embedded-model.json")),
    Step("speech-scores", ("bench/embedded_speech.py", "-o", "bench/results/embedded-speech.json")),
    Step("thumbnails", ("-m", "tools.thumbnails")),
    Step(
        "canvases",
        ("-m", "pytest", "-q", "tests/host/test_browser.py", "-k", "opens_with or blueprint"),
        {"WAN_DUET_SCREENSHOTS": "write"},
    ),
    Step("looks", ("-m", "pytest", "-q", "tests/embedded", "tests/golden", "tests/host/test_drawings.py")),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="show the steps")
    parser.add_argument("--after", choices=[step.name for step in STEPS], metavar="NAME")
    options = parser.parse_args()
    names = [step.name for step in STEPS]
    for step in STEPS[names.index(options.after) + 1 if options.after else 0 :]:
        print(f"== {step.name}: python {subprocess.list2cmdline(step.arguments)}", flush=True)
        if options.list:
            continue
        done = subprocess.run(
            [sys.executable, *step.arguments], cwd=_ROOT, env={**os.environ, **step.environ}, check=False
        )
        if done.returncode:
            print(f"== {step.name} failed; mend it, and run it again from there with --after", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

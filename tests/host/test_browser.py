"""The shipped workflows in the real frontend, in a headless Chromium.

Needs node, $CHROMIUM (else /usr/bin/chromium) and playwright-core in $PLAYWRIGHT_CORE (else
~/browser/node_modules/playwright-core). WAN_DUET_SCREENSHOTS=write runs the workflows too and renews the
pictures in docs/images.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.headless.server import HeadlessComfyUI

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("open_workflow.cjs")
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
PLAYWRIGHT = Path(os.environ.get("PLAYWRIGHT_CORE", Path.home() / "browser/node_modules/playwright-core"))
NODE = shutil.which("node")
LACKING = [
    what
    for what, there in {
        "node": NODE,
        str(CHROMIUM): CHROMIUM.exists(),
        str(PLAYWRIGHT): PLAYWRIGHT.exists(),
    }.items()
    if not there
]
PICTURES = {
    "Text to Video (one request)": "one-request",
    "Text to Video (building blocks)": "building-blocks",
}
SKIPPED = f"BROWSER TESTS SKIPPED: no {', '.join(LACKING)}"
if LACKING:
    warnings.warn(SKIPPED, stacklevel=1)  # pytest lists it at the end, unlike the reason of a skip
RENEW = os.environ.get("WAN_DUET_SCREENSHOTS") == "write"


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize("name", PICTURES)
def test_opens_with_every_node_known_and_no_error(host: HeadlessComfyUI, tmp_path: Path, name: str) -> None:
    picture = (ROOT / "docs" / "images" if RENEW else tmp_path) / f"{PICTURES[name]}.png"
    seen = open_workflow(host.url, ROOT / "workflows" / f"{name}.json", picture)
    assert seen["missing"] == []
    assert seen["errors"] == []
    assert seen["dialogs"] == []
    assert seen["prompt"] == json.loads(
        (ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8")
    )
    assert picture.stat().st_size > 50_000  # more than an empty canvas


def open_workflow(url: str, workflow: Path, picture: Path) -> dict[str, Any]:
    picture.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [str(NODE), str(SCRIPT), url, str(workflow), str(picture), *(["run"] if RENEW else [])],
        env={**os.environ, "CHROMIUM": str(CHROMIUM), "PLAYWRIGHT_CORE": str(PLAYWRIGHT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen

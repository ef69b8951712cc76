"""What web/ draws in the real frontend: the table of LoRAs, results of nodes, the jobs panel; and the search.

Needs what test_browser needs. Pictures go to $WAN_DUET_PICTURES when it is set, for a look by hand.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from fleet.batches import paint, write_rows

from wan_duet.pipelines.fleet.batch_progress import open_batch
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.service.fleet_address import keep_address

from ..service.painted import running
from .test_browser import LACKING, SKIPPED, in_browser
from .test_remote import Providers, loop, providers, servers, workflow  # noqa: F401 - fixtures

pytestmark = pytest.mark.skipif(bool(LACKING), reason=SKIPPED)

CIRCLING = {"file": "toy/circling", "high": 1, "low": 0.4, "on": True}
GONE = {"file": "gone.safetensors", "high": 1, "low": 1, "on": False}
ROOT = Path(__file__).parents[2]
FAL = "Text to Video on fal"
WORDS = {
    "lora high noise": "Wan Duet LoRA",
    "power lora": "Wan Duet LoRA",
    "teacache": "Wan Duet Run Local",
    "block swap": "Wan Duet Load Model",
    "rife": "Wan Duet Interpolate",
    "last frame": "Wan Duet Image to Video",
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return Path(os.environ.get("WAN_DUET_PICTURES", tmp_path))


@pytest.mark.parametrize("canvas", ["classic", "vue"])
def test_rows_of_loras_are_kept_by_whatever_a_user_does(
    host: HeadlessComfyUI, pictures: Path, canvas: str
) -> None:
    seen = in_browser("lora_rows.cjs", host.url, canvas, str(pictures / f"rows-{canvas}.png"))
    assert seen["errors"] == []
    assert seen["filled"] == [CIRCLING, GONE]
    assert seen["notes"][0].endswith("no trigger words known")
    assert seen["notes"][1] == "not in models/loras"
    assert seen["moved"] == [GONE, CIRCLING]
    assert seen["undone"] == seen["pasted"] == seen["reloaded"] == [CIRCLING, GONE]
    assert seen["shownAfterUndo"] == ["toy/circling", "gone.safetensors"]
    assert json.loads(seen["sent"][0]) == [CIRCLING, GONE]
    assert seen["savedValues"] == 10  # the table itself is not saved
    assert seen["promoted"]["before"] == [CIRCLING, GONE]
    assert [json.loads(text) for text in seen["promoted"]["sent"]] == [[{"file": "toy/outlined"}]]
    assert seen["last"] == {"file": "toy/outlined", "high": 1, "low": 0.5, "on": True}
    assert seen["height"] <= 800  # 50 rows scroll inside the node


@pytest.mark.parametrize(("canvas", "theme"), [("classic", "dark"), ("vue", "light")])
def test_sigmas_loras_and_check_are_drawn_on_their_nodes(
    host: HeadlessComfyUI, pictures: Path, canvas: str, theme: str
) -> None:
    picture = pictures / f"results-{canvas}-{theme}.png"
    seen = in_browser("results.cjs", host.url, canvas, theme, str(picture))
    assert seen["pictures"] == ["12 high-noise steps, 15 low-noise steps"] * 2  # of Sigmas and of Check
    assert (sum(map(int, seen["ink"].removeprefix("rgb(").rstrip(")").split(", "))) > 380) == (
        theme == "dark"
    )
    assert seen["report"].startswith("circling.safetensors\n")
    [finding] = seen["findings"]
    assert finding.startswith("warning prompt:")
    assert seen["cells"] == 3  # one for each block of the high expert of the toy model
    assert [name.partition(":")[0] for name in seen["head"]] == ["field", "local", "fal", "novita"]
    assert seen["fields"][:2] == ["price", "seconds"]
    assert {"prompt", "num_frames", "resolution"} < set(seen["fields"])
    assert len(seen["verdicts"]) == 3
    assert all("price:" in verdict for verdict in seen["verdicts"])


@pytest.mark.parametrize("theme", ["dark"])
def test_the_jobs_panel_shows_and_stops_jobs_of_a_provider(
    host: HeadlessComfyUI,
    client: ComfyClient,
    providers: Providers,  # noqa: F811
    pictures: Path,
    theme: str,
) -> None:
    client.run(workflow(FAL, seed=171))
    providers.fal.queue_looks = 10**9  # the next job waits until it is cancelled
    place = str(pictures / f"jobs-{theme}.png")
    seen = in_browser("jobs_panel.cjs", host.url, theme, place, str(ROOT / "workflows" / f"{FAL}.json"))
    waiting, done = seen["cards"]
    assert waiting.startswith("…")
    assert "done" in done
    assert seen["money"].startswith("spent today: $")
    assert "no limit per day, no limit per run" in seen["money"]
    assert seen["width"] > 0  # the video is shown
    assert seen["opened"].endswith("/wan_duet/jobs/file")
    assert "WanDuetRunFal" in seen["workflow"]
    assert "cancelled" in seen["stopped"] or "stopping" in seen["stopped"]
    assert seen["left"] == 1
    assert providers.jobs()["fal"] == 2


def test_the_jobs_panel_shows_cancels_and_retries_a_batch(
    host: HeadlessComfyUI, pictures: Path, tmp_path: Path
) -> None:
    night = host.output / "teasers" / "night"
    texts = ("a red ball", "fails", "a blue ball", "slow", "slower", "slow too")
    rows = write_rows(host.input / "rows.jsonl", *({"prompt": text, "seed": 1} for text in texts))
    painting = threading.Thread(target=paint, args=(rows, night), kwargs={"keep_going": True}, daemon=True)
    painting.start()
    settings = host.user / "__wan_duet"
    try:
        with running(tmp_path) as service:
            key = service.http.headers["Authorization"].removeprefix("Bearer ")
            keep_address(settings, service.url, key)
            httpx.post(f"{service.url}/v1/jobs", json={"prompt": "slow"}, headers=service.http.headers)
            seen = in_browser("batches_panel.cjs", host.url, "teasers/night", str(pictures / "batches.png"))
    finally:
        (settings / "fleet.json").unlink(missing_ok=True)
        with closing(open_batch(night)) as journal:
            journal.cancel([row.number for row in journal.rows()])
        painting.join(30)
    assert "in ComfyUI's output folder, at most 4 folders deep" in seen["rule"]
    assert "2 of 6 done · 1 running · 2 waiting · 1 failed" in seen["runs"]
    assert "left" in seen["runs"]
    assert "local: 00004" in seen["runs"]
    assert "00002 failed: fails: no such model" in seen["runs"]
    assert "no process works on it" not in seen["runs"]
    assert "2 of 6 done · 4 cancelled" in seen["cancelled"]
    assert "waiting" in seen["retried"]
    assert "cancelled" not in seen["retried"]
    assert str(host.output) not in seen["runs"]
    assert seen["fleet"].startswith("Run Fleet at 127.0.0.1:")
    assert "0 of 1 done · 1 running" in seen["fleet"]
    assert seen["buttonsOfFleet"] == 0


def test_the_help_of_a_node_is_as_wide_as_its_panel(host: HeadlessComfyUI, pictures: Path) -> None:
    kinds = ["WanDuetLoadModel", "WanDuetTextToVideo", "WanDuetRequestLocal"]
    seen = in_browser("show_help.cjs", host.url, json.dumps(kinds), str(pictures / "help.png"))
    for kind, panel in zip(kinds, seen, strict=True):
        assert panel["over"] < 1, kind  # pixel
        assert panel["text"].count(":") > 10, kind  # each input with what it is
    assert "residency (COMBO, optional, default auto): How much of the experts to keep" in seen[0]["text"]


def test_the_search_finds_our_nodes_by_the_words_of_other_packs(host: HeadlessComfyUI) -> None:
    found = in_browser("search.cjs", host.url, json.dumps(list(WORDS)))
    for words, node in WORDS.items():
        assert node in found[words], words

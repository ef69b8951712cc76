"""The table of cuts in docs/media.md is what the detector says today: nothing missed, nothing found too much.

`WAN_DUET_CUT_TABLE=write pytest tests/video/test_cut_table.py` writes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from scenes import Scene, scene

from wan_duet.pipelines.video.cuts import marked
from wan_duet.pipelines.video.frame_stream import Frame

PAGE = Path(__file__).parents[2] / "docs" / "media.md"
BEGIN, END = "<!-- cuts: begin -->\n", "<!-- cuts: end -->\n"
WIDTH, HEIGHT = 320, 176
SHOT = 4  # frames, as many as the detector looks at around a cut


@cache
def moving(name: str) -> list[Frame]:
    return [scene(name, WIDTH, HEIGHT).frame(t) for t in range(SHOT)]


def panned(*share: float) -> list[Frame]:
    """A pan by so much of the width, right and down, in each frame."""
    camera = Scene(WIDTH, HEIGHT, pan=(share[0] * WIDTH, share[1] * WIDTH))
    return [camera.frame(t) for t in range(SHOT)]


def elsewhere(x: float, y: float) -> list[Frame]:
    return [Scene(WIDTH, HEIGHT, pan=(x + t, y)).frame(1) for t in range(SHOT)]


def flat(level: int, count: int = 1) -> list[Frame]:
    return [np.full((HEIGHT, WIDTH, 3), level, np.uint8)] * count


def clips() -> Iterator[tuple[str, list[Frame], list[int]]]:
    """Yield what is shown, the frames, and the numbers of the frames with which a new shot begins."""
    mixed, still = moving("mixed"), elsewhere(400, 300)
    yield "fast pan of the scenes", moving("fast pan"), []
    yield "pan by a tenth of the width", panned(1 / 10, 0), []
    yield "pan by a seventh, diagonal", panned(1 / 7, 1 / 7), []
    yield "pan by a fifth", panned(1 / 5, 0), []
    yield "pan by a fifth, diagonal", panned(-1 / 5, 1 / 8), []
    yield "zoom", moving("zoom"), []
    yield "rotation", moving("rotation"), []
    yield "white flash of one frame", [*mixed[:2], *flat(255), *mixed[3:]], []
    yield "white flash of two frames", [*mixed[:2], *flat(255, 2), *mixed[2:]], []
    yield "black frame", [*mixed[:2], *flat(0), *mixed[3:]], []
    faded = [(still[0] * (1 - n / 12)).astype(np.uint8) for n in range(12)]
    yield "fade to a twelfth of the light", faded, []
    yield "hard cut", [*mixed, *still], [SHOT]
    yield "hard cut within one place", [*still, *elsewhere(-300, 200)], [SHOT]
    yield "hard cut between dark shots", [frame // 7 for frame in (*mixed, *still)], [SHOT]
    yield "cut out of a pan and back", [*panned(1 / 10, 0), *still, *panned(1 / 10, 0)], [SHOT, 2 * SHOT]
    yield "cut between plain grounds", [*flat(60, 4), *flat(160, 4)], [4]


def rows() -> Iterator[str]:
    yield "| clip | cuts in it | found | missed | found too much |\n|---|---|---|---|---|\n"
    for name, frames, real in clips():
        found = [n for n, (_, cut) in enumerate(marked(iter(frames), lambda frame: frame)) if cut]
        missed, extra = len({*real} - {*found}), len({*found} - {*real})
        yield f"| {name} | {len(real)} | {len(found)} | {missed} | {extra} |\n"


def test_the_table_of_cuts_is_what_is_found() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    old, _, after = rest.partition(END)
    table = "".join(rows())
    if os.environ.get("WAN_DUET_CUT_TABLE") == "write":
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8", newline="\n")
    else:
        assert table == old
    assert all(row.endswith("| 0 | 0 |") for row in table.splitlines()[2:])

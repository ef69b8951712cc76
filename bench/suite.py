"""The ratios and counts that say how near a run is to what its arithmetic takes, each against its gate.

    python bench/suite.py [--only C1 ...] [--pairs 12] [-o OUT.json] [--table docs/performance.md]

Everything here runs on a CPU. Counts are exact: full-size networks of A14B and of the VAEs without numbers,
whose memory traffic a dispatch mode adds up (`traffic`). Ratios are of processor time (`pairs`), of random
experts that are small and in the real layout (`small_model`). A comparison with ComfyUI needs one in
$COMFYUI_PATH or ~/ComfyUI. Seconds of a GPU are for `gpu_suite.py`.

--table writes the table between the two markers of that page. Exit code 1 when a gate is missed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import diffusers
import small_model
import torch
from small_model import Setting

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "streaming"))
import count_rows
import measured_rows
from rows import Row, mark, table, write_between

PARTS: dict[str, Callable[[Setting], list[Row]]] = {
    "C1": measured_rows.loop,
    "C2": measured_rows.against_diffusers,
    "C3": measured_rows.against_comfyui,
    "C6": count_rows.forwards,
    "C7": count_rows.block,
    "C9": count_rows.lora,
    "C10": count_rows.compiled_with_cache,
    "C11": measured_rows.loading,
    "C13": measured_rows.two_experts,
    "C14": measured_rows.frames,
    "C15": count_rows.activations,
    "C16": count_rows.vae,
    "C17": measured_rows.text,
    "C18": count_rows.arithmetic,
    "C19": count_rows.streaming,
    "C21": measured_rows.importing,
    "C22": measured_rows.stopping,
}
"""C4 and C5 come with C3, C8 with C7, C12 with C11."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="C1")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made, torch.inference_mode():
        at = Setting(small_model.make(Path(made)), Path(made), options.pairs)
        for name in options.only:
            found = PARTS[name](at)
            rows += found
            for row in found:
                print(f"{row.gate:4} {mark(row):6} {row.what}: {row.found} ({row.goal})", flush=True)
    result = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
        "pairs": options.pairs,
        "rows": [asdict(row) for row in rows],
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.table:
        write_between(options.table, "suite", lines_of(result))
    return int(any(row.passed is False for row in rows))


def lines_of(result: dict[str, Any]) -> list[str]:
    rows = [Row(**row) for row in result["rows"]]
    return [
        f"{result['date']}, torch {result['torch']}, diffusers {result['diffusers']}; ratios are medians of "
        f"{result['pairs']} pairs (quartiles).",
        "",
        *table(
            ("gate", "what", "goal", "stock", "ours", ""),
            [(row.gate, row.what, row.goal, row.stock, row.found, mark(row)) for row in rows],
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())

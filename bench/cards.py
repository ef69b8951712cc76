"""Write the table of cards into docs/performance.md, from files of `wan-duet bench --submit-file`.

    python bench/cards.py docs/performance.md [--cards bench/results/cards]

Each card has its own rates. What the estimate shares between cards are the passes that kernels make over a
hidden state, which are counted and not fitted, so every row is a test of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rows import table, write_between

CARDS = Path(__file__).parent / "results" / "cards"
HEAD = (
    *("device", "system, torch", "dtype", "products", "attention", "copies", "kernels, attention"),
    *("one block", "measured", "from the rates"),
)


def cells(card: Mapping[str, Any]) -> list[str]:
    rates, block = card["rates"], card["block"]
    apart = block["expected_s"] / block["seconds"] - 1
    return [
        f"{card['device']}, {card['memory_bytes'] / 2**30:.0f} GiB",
        f"{card['system']}, {card['torch']}",
        rates["dtype"],
        f"{rates['products'] / 1e12:.3g} TFLOP/s",
        f"{rates['attention'] / 1e12:.3g} TFLOP/s",
        f"{rates['copies'] / 1e9:.3g} GB/s",
        f"{card['kernels']}, {card['attention']}",
        f"{block['family']}, {block['tokens']} tokens",
        f"{block['seconds']:.3g} s",
        f"{block['expected_s']:.3g} s ({apart:+.0%})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--cards", type=Path, default=CARDS)
    options = parser.parse_args()
    cards = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(options.cards.glob("*.json"))]
    write_between(options.page, "cards", table(HEAD, map(cells, cards)))


if __name__ == "__main__":
    main()

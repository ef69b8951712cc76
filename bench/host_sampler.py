"""Our sampler on ComfyUI's MODEL beside ComfyUI's own two stages: time, forwards, reads, peak memory.

    python bench/host_sampler.py [--pairs 40] [--latent 5 16 24] [--json FILE]

Both run the same two MODELs in one process and on one thread, in alternating order. Time is that of the
processor. The smaller the latent, the larger the share of the two samplers themselves in it. A read is a
value that Python asks a tensor for (`item`, `tolist`, `bool`, `float`, `int`): on a graphics card each of
them waits.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import comb
from pathlib import Path
from typing import Any

STEPS, SHIFT, BOUNDARY, GUIDANCE, SEED = 6, 8.0, 0.85, 3.5, 5
LATENT = (5, 16, 24)  # latent frames, height and width
_READS = ("item", "tolist", "__bool__", "__float__", "__int__")


def interval_of_median(values: list[float]) -> tuple[float, float]:
    """At least 95 % by order statistics: Conover, Practical Nonparametric Statistics, section 3.2."""
    ordered, count = sorted(values), len(values)
    cut, below = 0, 0.5**count
    while below <= 0.025:
        cut += 1
        below += comb(count, cut) * 0.5**count
    return ordered[max(cut - 1, 0)], ordered[min(count - cut, count - 1)]


def measure(pairs: int, latent: tuple[int, ...]) -> dict[str, Any]:
    """Run in ComfyUI's interpreter."""
    import torch
    from host_sampler_pair import Pair
    from pairs import ratios_of

    torch.set_num_threads(1)
    pair = Pair((1, 16, *latent), STEPS, SHIFT, BOUNDARY, GUIDANCE, SEED)
    with torch.inference_mode():
        apart = float((pair.ours() - pair.core()).norm() / pair.core().norm())
        ratios = ratios_of(pair.ours, pair.core, pairs)
        low, high = interval_of_median(ratios)
        counted = {name: counts(work, pair) for name, work in (("ours", pair.ours), ("core", pair.core))}
    return {
        "ratio": {"median": statistics.median(ratios), "low": low, "high": high, "pairs": pairs},
        "latents_apart": apart,
        "latent": latent,
        "steps": STEPS,
        **counted,
    }


def counts(work: Callable[[], object], pair: Any) -> dict[str, int]:
    before = dict(pair.forwards)
    with reads() as found:
        work()
    forwards = sum(pair.forwards.values()) - sum(before.values())
    return {"forwards": forwards, "reads": found[0], "peak_bytes": peak_bytes(work)}


@contextmanager
def reads() -> Iterator[list[int]]:
    import torch

    found, depth = [0], [0]
    originals = {name: getattr(torch.Tensor, name) for name in _READS}

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def read(*args: Any, **options: Any) -> Any:
            found[0] += depth[0] == 0  # one that calls another is one read
            depth[0] += 1
            try:
                return original(*args, **options)
            finally:
                depth[0] -= 1

        return read

    for name, original in originals.items():
        setattr(torch.Tensor, name, counting(original))
    try:
        yield found
    finally:
        for name, original in originals.items():
            setattr(torch.Tensor, name, original)


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that the tensors of `work` take together, beside what was there before."""
    import torch

    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    taken = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        taken += event.nbytes()
        peak = max(peak, taken)
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--latent", type=int, nargs=3, default=LATENT, metavar=("FRAMES", "HEIGHT", "WIDTH"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if importlib.util.find_spec("comfy") or (Path.cwd() / "comfy").is_dir():
        sys.path[:0] = [os.getcwd()]
        print(json.dumps(measure(options.pairs, tuple(options.latent))))
        return
    from comfyui_python import in_comfyui

    latent = ("--latent", *map(str, options.latent))
    found = in_comfyui(str(Path(__file__).resolve()), "--pairs", str(options.pairs), *latent)
    if found is None:
        sys.exit("no ComfyUI; set COMFYUI_PATH")
    record = {"date": time.strftime("%Y-%m-%d"), "load": list(os.getloadavg()), **found}
    text = json.dumps(record, indent=1) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

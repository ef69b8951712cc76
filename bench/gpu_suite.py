"""What one GPU does with the real sizes, on random weights: the parts of the benchmark that need no files.

    python bench/gpu_suite.py -o bench/results/gpu-suite.json [--budget-s 170] [--only forward ...]
    python bench/gpu_suite.py --tiny --device cpu     every part on toy sizes, to see that it runs

A14B at 832x480 and 81 frames is 32760 tokens, at 1280x720 it is 75600. Weights are normal numbers times 0.02,
made on the device: zeros would lower its power draw and flatter it. The file is written after every part, a
part that fails leaves its traceback there, and none is begun that would not end within the budget.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import gpu_kernels
import gpu_networks
import torch
from gpu_bench import Bench

T0 = time.perf_counter()


def about(bench: Bench) -> dict[str, Any]:
    import diffusers
    import transformers

    found: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        found["triton"] = None
    if bench.cuda:
        properties = torch.cuda.get_device_properties(bench.device)
        found |= {
            "device": properties.name,
            "memory_gib": properties.total_memory / 2**30,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


PARTS: dict[str, tuple[Callable[[Bench], dict[str, Any]], float]] = {
    "about": (about, 0),
    "kernels": (gpu_kernels.kernels, 6),
    "ceilings": (gpu_kernels.ceilings, 6),
    "attention": (gpu_kernels.attention, 8),
    "floor": (gpu_kernels.floor, 8),
    "stored products": (gpu_kernels.stored_products, 30),
    "block error": (gpu_networks.block_error, 6),
    "stock forward": (gpu_networks.stock_forward, 22),  # before ours: it leaves the network as it was
    "own forward": (gpu_networks.own_forward, 12),
    "kernel times": (gpu_networks.kernel_times, 2),
    "own cudnn": (gpu_networks.own_cudnn, 8),
    "chunks": (gpu_networks.chunks, 16),
    "step cache": (gpu_networks.step_cache, 9),
    "own lean": (gpu_networks.own_lean, 5),
    "own plain": (gpu_networks.own_plain, 8),
    "own compiled": (gpu_networks.own_compiled, 30),
    "own 720p": (gpu_networks.own_720p, 14),
    "lora merge": (gpu_networks.lora_merge, 3),
    "own traced": (gpu_networks.own_traced, 30),
    "vae": (gpu_networks.vae, 15),
    "small forward": (gpu_networks.small_forward, 12),
}
"""Each with about how many seconds it takes on an H200."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    parser.add_argument("--budget-s", type=float, default=170.0)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", default=list(PARTS))
    options = parser.parse_args()
    bench = Bench(torch.device(options.device), options.tiny, options.output, options.budget_s)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    for name, (part, about_s) in PARTS.items():
        if name not in options.only:
            continue
        elapsed = time.perf_counter() - T0
        if elapsed + (0 if options.tiny else about_s) > options.budget_s:
            bench.put(name, {"left out": f"{elapsed:.0f} s of {options.budget_s:.0f} s were gone"})
            continue
        bench.forget_peak()
        try:
            with torch.inference_mode():
                found = part(bench)
        except Exception as error:  # a part that fails must not cost the others
            found = {
                "failed": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc()[-3000:],
            }
        found["took_s"] = round(time.perf_counter() - T0 - elapsed, 2)
        if bench.cuda:
            found["peak_gib"] = bench.peak_gib()
        bench.put(name, found)
        print(f"[{time.perf_counter() - T0:6.1f} s] {name}: {_short(found)}", flush=True)
    print(json.dumps(bench.results, indent=1))


def _short(found: dict[str, Any]) -> str:
    text = json.dumps({key: value for key, value in found.items() if key != "traceback"})
    return text if len(text) < 1500 else text[:1500] + " ..."


if __name__ == "__main__":
    main()

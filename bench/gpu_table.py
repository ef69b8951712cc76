"""Writes the tables of docs/performance.md that compare `gpu_suite` and `gpu_executor` with their goals.

python bench/gpu_table.py docs/performance.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rows import Row, mark, table, write_between

RESULTS = Path(__file__).resolve().parent / "results"
CAPS = ("24 GB", "12 GB", "8 GB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    page: Path = parser.parse_args().page
    suite, executor = (
        json.loads((RESULTS / f"gpu-{name}.json").read_text(encoding="utf-8"))
        for name in ("suite", "executor")
    )
    rows = [*forwards(suite), *streaming(executor), *others(suite)]
    lines = [(row.what, row.goal, row.stock, row.found, mark(row)) for row in rows]
    on = suite["about"]
    run_with = (
        f"{on['device']}, {on['date'][:10]}: torch {on['torch']}, triton {on['triton']}, "
        f"cuDNN {on['cudnn']}, diffusers {on['diffusers']}; random weights in bf16."
    )
    write_between(page, "gpu", [run_with, "", *table(("what", "goal", "reference", "ours", ""), lines)])
    write_between(page, "gpu memory", memory(suite, executor))


def limit(
    what: str, found: float, goal: float, unit: str = " s", anchor: str = "", *, least: bool = False
) -> Row:
    """least: whether the goal is a minimum instead of a maximum."""
    passed = found >= goal if least else found <= goal
    wanted = f"at {'least' if least else 'most'} {goal:g}{unit}"
    return Row("", what, f"{_digits(found)}{unit}", wanted, anchor, passed)


def _digits(number: float) -> str:
    return f"{number:.3f}" if 0.001 <= number < 2 else f"{number:.3g}"


def told(what: str, found: str, anchor: str = "") -> Row:
    """Without a goal."""
    return Row("", what, found, "", anchor, None)


def forwards(suite: dict[str, Any]) -> list[Row]:
    rates = {name: rate for name, rate in suite["ceilings"].items() if name.startswith("gemm 3")}
    fresh, floor = max(rates.values()), suite["floor"]
    ours, cudnn, stock = suite["own forward"], suite["own cudnn"], suite["stock forward"]["sdpa"]
    alone_s = floor["products s"] + floor["attention s"]
    what = "forward of A14B, 832x480, 81 frames"
    return [
        limit(f"{what}, FlashAttention 3", ours["best"], 2.55, anchor="2.57 s, half a step of SGLang"),
        limit(
            "its TFLOP/s / those of matrix products on a cold GPU",
            100 * ours["TFLOP/s"] / fresh,
            83,
            " %",
            least=True,
        ),
        told(
            "its own matrix products and attention alone / the forward",
            f"{100 * alone_s / ours['best']:.0f} %",
        ),
        limit(f"{what}, cuDNN's attention", cudnn["best"], 2.55, anchor=f"{stock['best']:.2f} s, diffusers"),
        limit(
            "its TFLOP/s / those of matrix products on a cold GPU",
            100 * cudnn["TFLOP/s"] / fresh,
            83,
            " %",
            least=True,
        ),
        told(f"{what}, blocks compiled with torch.compile", f"{suite['own compiled']['best']:.2f} s"),
        limit(
            "forward of A14B, 1280x720, 81 frames",
            suite["own 720p"]["best"],
            9.83,
            anchor="9.83 s, FastVideo",
        ),
        told(
            "forward of TI2V 5B, 1280x704, 121 frames, one timestep per frame",
            f"{suite['small forward']['ours s']:.2f} s",
            f"{suite['small forward']['diffusers s']:.2f} s, diffusers with one per token",
        ),
    ]


def streaming(executor: dict[str, Any]) -> list[Row]:
    switch, lora = executor["switch"], executor["lora"]
    whole = f"{switch['as a whole']['switch_visible_s']:.2f} s, loaded as a whole"
    small, large = ([executor[part][cap]["slowdown"] for cap in CAPS] for part in ("capped", "720p"))
    runs = [*switch.values(), *executor["capped"].values(), *executor["720p"].values(), lora]
    same = all(run["same_bits_as_the_first_run"] for run in runs if isinstance(run, dict))
    return [
        limit(
            "visible time of the expert switch, three slots",
            max(0, switch["ring"]["switch_visible_s"]),
            0.05,
            anchor=whole,
        ),
        limit(
            "visible time of the expert switch, one expert and three slots",
            max(0, switch["one expert and a ring"]["switch_visible_s"]),
            0.05,
            anchor=whole,
        ),
        *(
            limit(f"1280x720 with {cap} / with all GPU memory", found, 1.02, "", "1.5 and more")
            for cap, found in zip(CAPS, large, strict=True)
        ),
        *(
            told(f"832x480 with {cap} / with all GPU memory", _digits(found))
            for cap, found in zip(CAPS, small, strict=True)
        ),
        limit(
            "832x480 with 24 GB and a LoRA of rank 64 on every layer / without",
            lora["slowdown"],
            1.0,
            "",
            "1.09, attached",
        ),
        Row("", "same bits at every residency", "yes" if same else "no", "yes", "", same),
    ]


def others(suite: dict[str, Any]) -> list[Row]:
    vae, error = suite["vae"], suite["block error"]
    worst = max(
        number
        for name, errors in suite["kernels"].items()
        if name.startswith("triton float32")
        for number in errors.values()
    )
    return [
        limit(
            "VAE decode, 832x480, 81 frames",
            vae["ours"]["best"],
            1.2,
            anchor=f"{vae['stock']['best']:.2f} s, diffusers",
        ),
        limit("diffusers' VAE decode / ours", vae["speedup"], 1.8, "", least=True),
        limit("error of a block in bf16 / of diffusers', triton", error["triton"]["of stock"], 1.05, ""),
        limit("error of a block in bf16 / of diffusers', plain torch", error["plain"]["of stock"], 1.05, ""),
        limit("error of the triton kernels in float32, against float64", worst, 1e-5, ""),
        limit(
            "overhead of a skipped step / a whole step",
            100 * suite["step cache"]["overhead of a whole one"],
            0.5,
            " %",
        ),
        limit("adding a LoRA of rank 64 to an expert", suite["lora merge"]["seconds per expert"], 0.1),
    ]


def memory(suite: dict[str, Any], executor: dict[str, Any]) -> list[str]:
    stock, vae, small = suite["stock forward"]["sdpa"], suite["vae"], suite["small forward"]
    activations = (
        ("forward, 832x480, diffusers", stock["activations_gib"]),
        ("forward, 832x480", suite["own forward"]["activations_gib"]),
        ("forward, 832x480, compiled", suite["own compiled"]["activations_gib"]),
        ("forward, 832x480, a sixth of the tokens at a time", suite["own lean"]["activations_gib"]),
        ("forward, 1280x720", suite["own 720p"]["activations_gib"]),
        ("VAE decode, 832x480, diffusers", vae["stock"]["working_gib"]),
        ("VAE decode, 832x480", vae["ours"]["working_gib"]),
        ("forward of 5B with its weights, diffusers", small["diffusers peak_gib"]),
        ("forward of 5B with its weights", small["ours peak_gib"]),
    )
    switch = executor["switch"]
    runs = (
        ("832x480, both experts resident", switch["resident"]),
        ("832x480, one expert and three slots", switch["one expert and a ring"]),
        ("832x480, three slots", switch["ring"]),
        *(
            (f"{size}, {cap}", executor[part][cap])
            for part, size in (("capped", "832x480"), ("720p", "1280x720"))
            for cap in CAPS
        ),
    )
    return [
        *table(("working memory", "GiB"), [(what, f"{size:.2f}") for what, size in activations]),
        "",
        *table(
            ("sampling with both experts", "allocator peak, GiB", "on the device"),
            [
                (what, f"{run['peak_reserved_gib']:.1f}", run["residency"].partition(":")[0])
                for what, run in runs
            ],
        ),
    ]


if __name__ == "__main__":
    main()

"""How much memory loading and running take, next to the weights that are kept. Linux only.

    python bench/memory_use.py [--layers 11] [-o OUT.json]

Makes two experts in the real layout, bf16, 1.6 GB each with 11 layers (of zeros, which take no room on the
disk), and looks at the process while it loads and runs them. What counts is anonymous memory (RssAnon) above
what was there before: that is what a machine runs out of. Pages of mapped weight files are not among it,
because the system drops them when it needs the room.

Prints JSON: per case the bytes of the weights of one expert, how many of them stay mapped files, what making
them takes beside them, the peak, and what is left when the run is over.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

from wan_duet.pipelines.device.memory import DeviceMemory, compute_dtype
from wan_duet.pipelines.device.ram import trim_heap
from wan_duet.pipelines.generate.stages import sample
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.networks.expert import expert_dtypes
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.noise import StartLatents
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.weights.footprint import making_bytes, mapped_bytes, weight_bytes
from wan_duet.pipelines.weights.recipe import Recipe
from wan_duet.pipelines.weights.stored_tensors import read_header

WIDTH = {"num_attention_heads": 16, "attention_head_dim": 128, "ffn_dim": 8192, "text_dim": 4096}
LORA_RANK = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=11, help="140 MB per expert each")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), metavar="CASE")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)

    sample_once(load_model("toy"), ("high",), width=128)  # what libraries take once
    with tempfile.TemporaryDirectory() as made:
        model = make_model(Path(made), options.layers)
        cases = {name: in_a_child(lambda case=CASES[name]: case(model)) for name in options.only}
    result = {"date": date.today().isoformat(), "torch": torch.__version__, "layers": options.layers}
    text = json.dumps({**result, "cases": cases}, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")


@dataclass
class Watch:
    """Bytes of anonymous memory above those at the start: the `peak`, and what is `left` at the end."""

    peak: int = 0
    left: int = 0


@contextmanager
def watched() -> Iterator[Watch]:
    trim_heap()  # so that what the imports left does not hide what follows
    start, watch, done = anonymous_bytes(), Watch(), threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            watch.peak = max(watch.peak, anonymous_bytes() - start)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()
        watch.left = anonymous_bytes() - start


def anonymous_bytes() -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise SystemExit("no RssAnon in /proc/self/status: only Linux tells")
    return int(found[1]) * 1024


def run_of(
    *experts: str, precision: Any = "fp32", lora: bool = False, times: int = 1
) -> Callable[[WanModel], dict[str, Any]]:
    """A case: one step with each of `experts`, the whole `times` over."""

    def case(model: WanModel) -> dict[str, Any]:
        model = replace(model, precision=precision)
        if lora:
            model = model.with_lora(Path(model.name) / "lora.safetensors", 0.5, "both")
        began = time.perf_counter()
        with watched() as watch:
            for _ in range(times):
                sample_once(model, experts, WIDTH["text_dim"])
        dtype_of = expert_dtypes(compute_dtype(precision, DeviceMemory("cpu"), "transformer"))
        recipe = model.experts[experts[0]]
        return {
            "kept_bytes": weight_bytes(recipe, dtype_of),
            "mapped_bytes": mapped_bytes(recipe, dtype_of),
            "making_bytes": making_bytes(recipe),
            "peak_bytes": watch.peak,
            "left_bytes": watch.left,
            "seconds": round(time.perf_counter() - began, 2),
        }

    return case


def sample_once(model: WanModel, experts: tuple[str, ...], width: int) -> None:
    """One step with each of `experts`, on a clip of four tokens. width: of the text embeddings."""
    sigmas = tuple(1 - index / len(experts) for index in range(len(experts) + 1))
    schedule = Schedule(sigmas, tuple(1000 * sigma for sigma in sigmas[:-1]), experts)
    prompts = Prompts(Condition(torch.zeros(1, 16, width)), None)
    latents, sampling = torch.zeros(1, 16, 1, 4, 4), Sampling(schedule, "euler", dict.fromkeys(experts, 1.0))
    sample(model, sampling, StartLatents(latents, latents), prompts, DeviceMemory("cpu"), Silent())


CASES: dict[str, Callable[[WanModel], dict[str, Any]]] = {
    "same dtype": run_of("high", precision="bf16"),
    "converted": run_of("high"),
    "converted, with a LoRA": run_of("high", lora=True),
    "two experts": run_of("high", "low"),
    "two experts, three times": run_of("high", "low", times=3),
}


def in_a_child(case: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `case` returns in a process of its own, which has the imports already."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(case()))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(answer)
    return found


def make_model(folder: Path, layers: int) -> WanModel:
    """The embedded model with two large experts in place of its own, and a LoRA for them in `folder`."""
    config = {**WIDTH, "num_layers": layers}
    with torch.device("meta"):
        shapes = {name: item.shape for name, item in WanTransformer3DModel(**config).state_dict().items()}
    experts = {}
    for name in ("high", "low"):
        file = folder / f"{name}.safetensors"
        write_zeros(file, shapes.items())
        experts[name] = Recipe.of(config, read_header(file))
    width = WIDTH["num_attention_heads"] * WIDTH["attention_head_dim"]
    lora = {}
    for layer in range(layers):
        for part in ("attn1.to_q", "attn2.to_k", "ffn.net.2"):
            module = f"blocks.{layer}.{part}"
            lora[f"transformer.{module}.lora_A.weight"] = torch.zeros(
                LORA_RANK, shapes[f"{module}.weight"][1]
            )
            lora[f"transformer.{module}.lora_B.weight"] = torch.zeros(width, LORA_RANK)
    save_file(lora, folder / "lora.safetensors")
    return replace(load_model("toy"), name=str(folder), experts=MappingProxyType(experts))


def write_zeros(file: Path, shapes: Iterable[tuple[str, torch.Size]]) -> None:
    """A safetensors file of bf16 zeros, whose data is a hole in the file."""
    header, end = {}, 0
    for name, shape in shapes:
        begin, end = end, end + 2 * shape.numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)


if __name__ == "__main__":
    main()

"""What streaming the experts costs on a GPU: the switch, and runs under a cap of memory.

    python bench/gpu_executor.py -o OUT.json [--budget-s 140] [--skip 720p ...] [--tiny]

Two experts of A14B in full size with normal random weights (standard deviation 0.02, made on the device, and
never zeros: those draw less power) are written to files once, and everything else reads those files, as a run
of a user does. To keep that short, a file holds `--distinct` blocks, and the forty blocks take turns with
them: as many bytes are read and sent as with forty different ones, and no cache on the way is as large as
they are. The files lie in /dev/shm where there is room: like files that the system has read before.

Parts, in this order, each skippable by name with --skip:

  link      how fast units come when nothing else happens
  switch    four forwards at 480p, 81 frames, two with each expert: all resident; loaded as a whole at the
            switch; one expert resident and a ring; a ring alone
  capped    three forwards under a cap of 24, 12 and 8 GB less 0.6 for what CUDA takes outside of the cap
  720p      two forwards at 720p, 81 frames, one with each expert: resident, 24 GB, 12 GB, 8 GB
  lora      as capped with 24 GB, and a LoRA of rank 64 on every linear layer of both experts

A part that fails leaves its error in the JSON and the others go on. No part starts after --budget-s, nor one
that, by what a forward took so far, would not end in it.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]


def find_pack() -> None:
    """The pack as `wan_duet`, from this checkout where it is not installed."""
    if importlib.util.find_spec("wan_duet") is None:
        spec = importlib.util.spec_from_file_location(
            "wan_duet", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        if spec is None or spec.loader is None:
            raise SystemExit(f"{ROOT}: no pack here")
        sys.modules["wan_duet"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["wan_duet"])


find_pack()

from diffusers import WanTransformer3DModel  # noqa: E402

from wan_duet.pipelines.device.memory import DeviceMemory  # noqa: E402
from wan_duet.pipelines.generate.memory_estimate import sampling_bytes, usual_chunk  # noqa: E402
from wan_duet.pipelines.kernels.choices import Preferences  # noqa: E402
from wan_duet.pipelines.kernels.kernel_names import ATTENTIONS  # noqa: E402
from wan_duet.pipelines.networks.expert import expert_dtypes  # noqa: E402
from wan_duet.pipelines.sampling.engine import Condition  # noqa: E402
from wan_duet.pipelines.streaming.buffer_pool import BufferPool, unit_sources  # noqa: E402
from wan_duet.pipelines.streaming.executor import Executor, unit_sizes  # noqa: E402
from wan_duet.pipelines.streaming.residency import MemoryBudget, Residency, choose_residency  # noqa: E402
from wan_duet.pipelines.streaming.transfer import padded_bytes, transfer_for  # noqa: E402
from wan_duet.pipelines.weights.lora.attach import attach_lora  # noqa: E402
from wan_duet.pipelines.weights.lora.lora_file import read_lora  # noqa: E402
from wan_duet.pipelines.weights.recipe import Recipe  # noqa: E402
from wan_duet.pipelines.weights.stored_tensors import read_header  # noqa: E402

GIB = 2**30
OUTSIDE_CAP = int(0.6 * GIB)  # context, kernels and library workspaces, which torch does not count
PARTS = ("link", "switch", "capped", "720p", "lora")
A14B: dict[str, Any] = {"num_layers": 40}
TINY: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "text_dim": 8,
    "freq_dim": 8,
    "ffn_dim": 32,
    "num_layers": 5,
}
LORA_RANK = 64
LINEAR = (
    *(f"attn{number}.{part}" for number in (1, 2) for part in ("to_q", "to_k", "to_v", "to_out.0")),
    "ffn.net.0.proj",
    "ffn.net.2",
)


@dataclass
class Bench:
    """What all parts share."""

    device: torch.device
    dtype: torch.dtype
    config: dict[str, Any]
    recipes: dict[str, Recipe]
    shapes: dict[str, tuple[int, ...]]
    text: tuple[int, int]
    preferences: Preferences
    folder: Path
    deadline: float
    forward_s: dict[str, float] = field(default_factory=dict)  # of a resident forward, by shape
    # Sums over the bits of every velocity: by (shape, without LoRA), by expert.
    bits: dict[tuple[str, bool], dict[str, int]] = field(default_factory=dict)

    def left_s(self) -> float:
        return self.deadline - time.monotonic()

    def has_time(self, shape: str, forwards: int) -> bool:
        known = self.forward_s.get(shape)
        if known is None and "480p" in self.forward_s:
            known = 4 * self.forward_s["480p"]  # 6.523 by 1.678 PFLOP
        return self.left_s() > 1.3 * forwards * (known or 0) + 2


class TooLate(Exception):  # noqa: N818
    """The budget is spent."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--budget-s", type=float, default=140, help="no part starts that would end later")
    parser.add_argument("--skip", nargs="+", choices=PARTS, default=[], metavar="PART")
    parser.add_argument("--distinct", type=int, default=8, help="blocks that are really in a file")
    parser.add_argument("--attention", choices=ATTENTIONS, help="default: the quickest exact one")
    parser.add_argument("--compile", metavar="BACKEND", help="blocks compiled by torch.compile")
    parser.add_argument("--folder", type=Path, help="where the weight files are written; 2 x 6.7 GB")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU: does it run at all")
    options = parser.parse_args()
    began = time.monotonic()
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "device": "cpu" if options.tiny else torch.cuda.get_device_name(),
        "distinct_blocks": options.distinct,
    }

    def save() -> None:
        result["seconds"] = round(time.monotonic() - began, 2)
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")

    folder = Path(tempfile.mkdtemp(prefix="wan-duet-bench-", dir=options.folder or roomy_folder(options)))
    try:
        with torch.inference_mode():
            bench = prepare(options, folder, began)
            result["files_s"] = round(time.monotonic() - began, 2)
            result["files_in"] = str(folder.parent)
            save()
            for name in PARTS:
                if name not in options.skip:
                    result[name] = attempt(lambda name=name: RUNS[name](bench), bench)
                    save()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        save()
    print(json.dumps(result, indent=2))


def attempt(part: Callable[[], Any], bench: Bench) -> Any:
    """The answer of a part, or what went wrong in it. Afterwards the device is empty."""
    try:
        if bench.left_s() < 1:
            raise TooLate
        return part()
    except TooLate:
        return {"skipped": "no time left in the budget"}
    except Exception as error:  # the other parts go on
        return {
            "error": f"{type(error).__name__}: {str(error)[:500]}",
            "where": traceback.format_exc().splitlines()[-6:],
        }
    finally:
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def roomy_folder(options: argparse.Namespace) -> Path | None:
    """The folder in memory where the files fit into half of it; None for the usual place."""
    shm, need = Path("/dev/shm"), 2 * (options.distinct + 2) * 0.72e9  # noqa: S108  files, not secrets
    return shm if shm.is_dir() and not options.tiny and shutil.disk_usage(shm).free > 2 * need else None


def prepare(options: argparse.Namespace, folder: Path, began: float) -> Bench:
    device = torch.device("cpu" if options.tiny else "cuda")
    config = TINY if options.tiny else A14B
    text = (6, 8) if options.tiny else (512, 4096)
    shapes: dict[str, tuple[int, ...]] = {"480p": (1, 16, 21, 60, 104), "720p": (1, 16, 21, 90, 160)}
    if options.tiny:
        shapes = {"480p": (1, 16, 2, 8, 8), "720p": (1, 16, 2, 12, 12)}
    recipes = {
        name: write_expert(folder / f"{name}.safetensors", config, options.distinct, device, seed)
        for seed, name in enumerate(("high", "low"))
    }
    return Bench(
        device,
        torch.bfloat16,
        config,
        recipes,
        shapes,
        text,
        Preferences(options.attention, compiler=options.compile),
        folder,
        began + options.budget_s,
    )


def write_expert(
    file: Path, config: Mapping[str, Any], distinct: int, device: torch.device, seed: int
) -> Recipe:
    """An expert in bf16, whose blocks share the tensors of its first `distinct` ones."""
    with torch.device("meta"):
        network = WanTransformer3DModel(**config)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    stored = {name: shape for name, shape in shapes.items() if _block(name) < distinct}
    write_normal(file, stored, device, seed)
    header = read_header(file)
    sources = {}
    for name in shapes:
        number = _block(name)
        source = name if number < 0 else name.replace(f"blocks.{number}.", f"blocks.{number % distinct}.", 1)
        sources[name] = header[source]
    return Recipe.of({**config}, sources)


def write_normal(
    file: Path, shapes: Mapping[str, tuple[int, ...]], device: torch.device, seed: int, std: float = 0.02
) -> None:
    """A safetensors file of bf16 normal numbers."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator(device).manual_seed(seed)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    data = np.memmap(file, np.uint8, "r+", 8 + len(text), (end,))
    target = torch.from_numpy(data)
    for name, shape in shapes.items():
        begin, stop = header[name]["data_offsets"]
        made = torch.empty(math.prod(shape), dtype=torch.bfloat16, device=device)
        made.normal_(0, std, generator=generator)
        target[begin:stop].copy_(made.view(torch.uint8))


def _block(name: str) -> int:
    """The number of the block a parameter is in; -1 for those of none."""
    return int(name.split(".")[1]) if name.startswith("blocks.") else -1


def decide(
    bench: Bench, wanted: str, working: int, memory: DeviceMemory, recipes: Mapping[str, Recipe]
) -> Residency:
    sizes = unit_sizes(recipes, expert_dtypes(bench.dtype), bench.device)
    return choose_residency(
        wanted, sizes, MemoryBudget(memory.free_bytes(), working), own_memory=bench.device.type != "cpu"
    )


def forwards(
    bench: Bench,
    wanted: str,
    shape: str,
    experts: Sequence[str],
    memory: DeviceMemory,
    recipes: Mapping[str, Recipe] | None = None,
) -> dict[str, Any]:
    """Seconds of every forward, the device waited for after each, and what was taken."""
    if not bench.has_time(shape, len(experts)):
        raise TooLate
    used = {name: (recipes or bench.recipes)[name] for name in dict.fromkeys(experts)}
    chunk_tokens = usual_chunk([bench.config], bench.shapes[shape], bench.dtype, memory)
    working = max(
        sampling_bytes(recipe, bench.shapes[shape], bench.dtype, chunk_tokens) for recipe in used.values()
    )
    residency = decide(bench, wanted, working, memory, used)
    choices = bench.preferences.resolve(bench.device, bench.dtype, chunk_tokens=chunk_tokens)
    generator = torch.Generator(bench.device).manual_seed(0)  # the same input for all
    latents = torch.randn(bench.shapes[shape], device=bench.device, generator=generator)
    condition = Condition(torch.randn(1, *bench.text, device=bench.device, generator=generator))
    seconds: list[float] = []
    bits: list[int] = []
    fresh_peak(bench)
    began = time.perf_counter()
    with (
        Executor(
            used,
            bench.dtype,
            memory,
            lambda: None,
            working,
            forwards=experts,
            residency=residency,
            choices=choices,
        ) as executor,
    ):
        for name in experts:
            started = time.perf_counter()
            velocity = executor.use(name).predict(latents, 500.0, condition)
            synchronize(bench)
            seconds.append(round(time.perf_counter() - started, 4))
            bits.append(int(velocity.contiguous().view(torch.int32).long().sum()))
        finite = bool(torch.isfinite(velocity).all())
        peak = peaks(bench)
    known = bench.bits.setdefault((shape, recipes is None), {})
    same = all(known.setdefault(name, bit) == bit for name, bit in zip(experts, bits, strict=True))
    return {
        "residency": residency.text(),
        "choices": choices.text(),
        "experts": list(experts),
        "forward_s": seconds,
        "total_s": round(time.perf_counter() - began, 3),
        "finite": finite,
        "same_bits_as_the_first_run": same,
        **peak,
    }


def synchronize(bench: Bench) -> None:
    if bench.device.type == "cuda":
        torch.cuda.synchronize()


def fresh_peak(bench: Bench) -> None:
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peaks(bench: Bench) -> dict[str, float]:
    if bench.device.type != "cuda":
        return {}
    return {
        "peak_allocated_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
        "peak_reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 2),
    }


@contextmanager
def capped(bench: Bench, size_gb: float) -> Iterator[int]:
    """Less memory than there is; yields the bytes."""
    allowed = int(size_gb * GIB) - OUTSIDE_CAP
    if bench.device.type != "cuda":
        yield allowed
        return
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(0).total_memory)
    try:
        yield allowed
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def fill_whole(bench: Bench, expert: str, memory: DeviceMemory) -> float:
    """Fill slots with an expert while nothing else happens, and leave them to `memory`; seconds."""
    dtype_of, made = expert_dtypes(bench.dtype), unit_sources(bench.recipes[expert])
    slot_bytes = max(padded_bytes(unit.tensors, dtype_of) for unit in made)
    transfer = transfer_for(bench.device, dtype_of, len(made), slot_bytes)
    pool = BufferPool(transfer, bench.device, bench.dtype, len(made), slot_bytes, slot_bytes * len(made))
    synchronize(bench)
    transfer.open()
    began = time.perf_counter()
    for number, unit in enumerate(made):
        pool.fill(number, unit, None, lambda: None)
    synchronize(bench)
    seconds = time.perf_counter() - began
    memory.keep(pool)
    return seconds


def link(bench: Bench) -> dict[str, Any]:
    size = sum(item.elements for item in bench.recipes["low"].tensors.values()) * bench.dtype.itemsize
    first, second = (fill_whole(bench, "low", DeviceMemory(str(bench.device))) for _ in range(2))
    found: dict[str, Any] = {
        "expert_gb": round(size / 1e9, 2),
        "expert_s": [round(first, 3), round(second, 3)],
        "gb_per_s": round(size / 1e9 / second, 2),
        "threads": torch.get_num_threads(),
    }
    if bench.device.type == "cuda":
        found["pinned_gb_per_s"] = pinned_rate()
    return found


def pinned_rate() -> float:
    """Gigabytes a second of a plain copy from page-locked memory."""
    here = torch.empty(2**30, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(here, device="cuda")
    rates = []
    for _ in range(4):
        torch.cuda.synchronize()
        began = time.perf_counter()
        there.copy_(here, non_blocking=True)
        torch.cuda.synchronize()
        rates.append(2**30 / 1e9 / (time.perf_counter() - began))
    return round(statistics.median(rates), 2)


def switch(bench: Bench) -> dict[str, Any]:
    loop = ("high", "high", "low", "low")
    memory = DeviceMemory(str(bench.device), keeps=True)
    found: dict[str, Any] = {}
    # The first forwards also warm kernels up, and leave both experts in place for the next ones.
    found["warming"] = forwards(bench, "resident", "480p", ("high", "low"), memory)
    found["resident"] = forwards(bench, "resident", "480p", loop, memory)
    usual = statistics.median(found["resident"]["forward_s"])
    bench.forward_s["480p"] = usual
    release(memory)

    def with_visible(name: str, run: Callable[[], dict[str, Any]]) -> None:
        found[name] = attempt(run, bench)
        if "forward_s" in found[name]:
            found[name]["switch_visible_s"] = round(found[name]["forward_s"][2] - usual, 4)

    with_visible("ring", lambda: forwards(bench, "ring", "480p", loop, DeviceMemory(str(bench.device))))
    with_visible("one expert and a ring", lambda: one_and_ring(bench, loop))
    with_visible("as a whole", lambda: as_a_whole(bench, loop))
    return {"resident_forward_s": usual, **found}


def one_and_ring(bench: Bench, loop: Sequence[str]) -> dict[str, Any]:
    """A cap that leaves room for one expert: what a card of 48 GB does."""
    with capped(bench, 40) as allowed:
        run = forwards(bench, "auto", "480p", loop, DeviceMemory(str(bench.device)))
        return {"cap_gib": round(allowed / GIB, 2), **run}


def as_a_whole(bench: Bench, loop: Sequence[str]) -> dict[str, Any]:
    """What is done today: at the switch one expert is dropped, then the other one is loaded."""
    device = str(bench.device)
    keeping = DeviceMemory(device, keeps=True)
    fill_whole(bench, "high", keeping)
    high = forwards(bench, "auto", "480p", loop[:2], keeping)
    began = time.perf_counter()
    release(keeping)
    fill_whole(bench, "low", keeping)
    waited = time.perf_counter() - began
    low = forwards(bench, "auto", "480p", loop[2:], keeping)
    release(keeping)
    first, second = low["forward_s"]
    return {
        **high,
        "experts": list(loop),
        "forward_s": [*high["forward_s"], round(first + waited, 4), second],
    }


def release(memory: DeviceMemory) -> None:
    if (left := memory.take()) is not None:
        left.close()
    memory.release()


def caps(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for size_gb in (24, 12, 8):
        found[f"{size_gb} GB"] = attempt(lambda size_gb=size_gb: one_cap(bench, size_gb, "480p"), bench)
    return found


def one_cap(
    bench: Bench,
    size_gb: float,
    shape: str,
    experts: Sequence[str] = ("high", "high", "low"),
    recipes: Mapping[str, Recipe] | None = None,
) -> dict[str, Any]:
    """slowdown: the forwards after the first, by as many resident ones."""
    with capped(bench, size_gb) as allowed:
        run = forwards(bench, "auto", shape, experts, DeviceMemory(str(bench.device)), recipes)
    run["cap_gib"] = round(allowed / GIB, 2)
    if shape in bench.forward_s:
        later = run["forward_s"][1:]
        run["slowdown"] = round(sum(later) / len(later) / bench.forward_s[shape], 4)
    return run


def loras(bench: Bench) -> dict[str, Any]:
    width = bench.config.get("num_attention_heads", 40) * bench.config.get("attention_head_dim", 128)
    rank, file = min(LORA_RANK, width // 2), bench.folder / "lora.safetensors"
    shapes = {}
    for number in range(bench.config["num_layers"]):
        for module in LINEAR:
            out, inputs = bench.recipes["high"].tensors[f"blocks.{number}.{module}.weight"].shape
            name = f"transformer.blocks.{number}.{module}"
            shapes[f"{name}.lora_A.weight"], shapes[f"{name}.lora_B.weight"] = (rank, inputs), (out, rank)
    write_normal(file, shapes, bench.device, seed=7, std=0.001)
    lora = read_lora(file)
    changed = {name: attach_lora(recipe, lora, 1.0, name)[0] for name, recipe in bench.recipes.items()}
    return one_cap(bench, 24, "480p", recipes=changed)


def large(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = {}
    keeping = DeviceMemory(str(bench.device), keeps=True)
    fill_whole(bench, "high", keeping)
    found["resident"] = attempt(lambda: forwards(bench, "auto", "720p", ("high",), keeping), bench)
    release(keeping)
    if "forward_s" in found["resident"]:
        bench.forward_s["720p"] = found["resident"]["forward_s"][0]
    for size_gb in (24, 12, 8):
        found[f"{size_gb} GB"] = attempt(
            lambda size_gb=size_gb: one_cap(bench, size_gb, "720p", ("high", "low")), bench
        )
    return found


RUNS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "link": link,
    "switch": switch,
    "capped": caps,
    "720p": large,
    "lora": loras,
}


if __name__ == "__main__":
    main()

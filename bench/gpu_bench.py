"""What the parts of `gpu_suite` share: the device, the sizes, how seconds and memory are read."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["Bench", "best_attention_of", "dtype_name", "fused_kernels", "relative_l2", "token_count"]

A14B = {"tokens_480p": (21, 60, 104), "tokens_720p": (21, 90, 160), "width": 5120, "ffn": 13824, "heads": 40}
TINY = {"tokens_480p": (3, 8, 12), "tokens_720p": (3, 8, 16), "width": 256, "ffn": 512, "heads": 2}


@dataclass
class Bench:
    device: torch.device
    tiny: bool
    output: Path | None
    budget_s: float
    results: dict[str, Any] = field(default_factory=dict)
    network: Any = None  # the full-size expert, made once
    reference: Tensor | None = None  # what diffusers' own forward gives on it

    @property
    def sizes(self) -> dict[str, Any]:
        return TINY if self.tiny else A14B

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.cuda else torch.float32

    def put(self, name: str, value: Any) -> None:
        self.results[name] = value
        if self.output is not None:
            self.output.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], repeats: int = 3) -> list[float]:
        times = []
        for _ in range(repeats):
            self.sync()
            begun = time.perf_counter()
            work()
            self.sync()
            times.append(time.perf_counter() - begun)
        return times

    def peak_gib(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 2**30 if self.cuda else None

    def forget_peak(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def token_count(grid: tuple[int, int, int]) -> int:
    frames, rows, columns = grid
    return frames * rows * columns // 4


def relative_l2(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def best_attention_of(bench: Bench) -> Any:
    from wan_duet.pipelines.kernels.choices import Preferences

    return Preferences().resolve(bench.device, bench.dtype).attention


def fused_kernels(bench: Bench) -> str:
    return "triton" if bench.cuda else "plain"

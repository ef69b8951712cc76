"""Measure a step on two ranks of one CPU thread against one, and compute what 2, 4 and 8 H100 would take.

    python bench/several_gpus.py [-o bench/results/several-gpus.json] [--rounds 7]

Seconds on the clock, in alternating rounds. A round counts if every rank that computed had at least 0.95
seconds of processor time for each second; on a machine that does other work, few do. So the ratio of CPU
seconds (busiest rank / one rank) is given too: it has the doubled and uneven work and the copies, but no
waiting for the link.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.networks.expert import velocity_of
from wan_duet.pipelines.networks.transformer import replace_transformer_forward
from wan_duet.pipelines.parallel.gpu_world import join_world
from wan_duet.pipelines.parallel.guidance_pair import guidance_pair
from wan_duet.pipelines.parallel.rank_group import RankGroup
from wan_duet.pipelines.parallel.rank_processes import RankPlace, run_ranks
from wan_duet.pipelines.plan.expectation import Rates
from wan_duet.pipelines.plan.flops import SIZES
from wan_duet.pipelines.plan.gpu_expectation import sent_in_forward, shared_forward_seconds
from wan_duet.pipelines.plan.gpu_layout import GpuLayout
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.sampling.guidance import one_after_the_other

BUSY = 0.95  # processor seconds per second
GOALS = {"pair": 0.55, "tokens": 0.58}


@dataclass(frozen=True)
class Case:
    """way: "pair" (a step with both prompts) or "tokens" (a forward whose tokens are split)."""

    way: str
    tokens: int
    width: int


CASES = [
    Case("pair", 2048, 1280),
    Case("tokens", 2048, 1280),
    Case("tokens", 1024, 640),
    Case("tokens", 512, 320),
]
HEAD_WIDTH = {1280: 128, 640: 128, 320: 32}


class Expert:
    """A random expert of one block."""

    def __init__(self, width: int) -> None:
        torch.manual_seed(0)
        head = HEAD_WIDTH[width]
        self.network = WanTransformer3DModel(
            num_attention_heads=width // head,
            attention_head_dim=head,
            ffn_dim=4 * width,
            num_layers=1,
            text_dim=64,
        ).requires_grad_(False)
        replace_transformer_forward(self.network, FloatChoices())
        self.ranks: RankGroup | None = None

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        return velocity_of(self.network, latents, timestep, condition, torch.float32, ranks=self.ranks)


@torch.inference_mode()
def rounds_of_rank(place: RankPlace, case: Case, rounds: int) -> list[dict[str, float]]:
    """Return clock and processor seconds of each round, of rank 0 alone and of the busiest of both."""
    torch.set_num_threads(1)
    world = join_world(place.rank, place.devices, place.store)
    ranks = world.arrange(GpuLayout(case.way == "pair", 1 if case.way == "pair" else 2))
    expert = Expert(case.width)
    latents = torch.randn(1, 16, 8, 16, case.tokens // 32)  # 8 x 8 x N / 64 tokens
    prompts = [Condition(torch.randn(1, 64, 64)) for _ in range(2)]

    def forward() -> None:
        expert.predict(latents, 700.0, prompts[0])

    def step(paired: bool) -> None:
        both = guidance_pair(ranks.pair) if paired and ranks.pair else one_after_the_other(lambda: None)
        both(expert, latents, 700.0, *prompts)

    found = []
    for number in range(rounds + 1):
        alone, together = [0.0, 0.0], [0.0, 0.0]
        for shared in (False, True) if number % 2 else (True, False):
            world.everyone.from_first(torch.zeros(1))  # the other rank waits here while one works alone
            expert.ranks = ranks.sequence if shared else None
            work: Callable[[], None] = forward if case.way == "tokens" else lambda shared=shared: step(shared)
            if shared:
                together = timed(work)
            elif world.rank == 0:
                alone = timed(work)
        gathered = world.everyone.exchange([torch.tensor(together, dtype=torch.float64)] * 2, [(2,), (2,)])
        seconds, cpu = (torch.stack(gathered).T).tolist()
        busy = [used / clock for used, clock in zip(cpu, seconds, strict=True)]
        busy += [alone[1] / alone[0]] if world.rank == 0 else []
        found.append(
            {
                "alone_s": alone[0],
                "alone_cpu_s": alone[1],
                "together_s": max(seconds),
                "together_cpu_s": max(cpu),
                "least_busy": min(busy),
            }
        )
    world.close()
    return found[1:]  # the first one warms up


def timed(work: Callable[[], None]) -> list[float]:
    begun, cpu = time.perf_counter(), time.process_time()
    work()
    return [time.perf_counter() - begun, time.process_time() - cpu]


def measured(case: Case, rounds: int) -> dict[str, Any]:
    found = run_ranks(rounds_of_rank, (case, rounds), ("cpu", "cpu"))
    counted = [each for each in found if each["least_busy"] >= BUSY]

    def ratio(rows: list[dict[str, float]], unit: str) -> float | None:
        ratios = [row[f"together_{unit}"] / row[f"alone_{unit}"] for row in rows]
        return round(statistics.median(ratios), 3) if ratios else None

    return {
        **vars(case),
        "goal": GOALS[case.way] if case.width >= 1280 else None,
        "ratio": ratio(counted, "s"),
        "rounds": len(found),
        "discarded": len(found) - len(counted),
        "ratio_of_all_rounds": ratio(found, "s"),
        "cpu_ratio": ratio(found, "cpu_s"),
        "found": found,
    }


# Matrix products and FlashAttention 3 as measured on an H200 ("floor" in bench/results/gpu-suite.json), which
# has the same compute units as an H100. Memory and links: what NVIDIA states, of which four fifths count.
H100 = Rates("H100", "bfloat16", 2, 689e12, 680e12, 0.8 * 3.35e12, "triton", "2026-11-28")
LINKS = {"NVLink 4": 0.8 * 450e9, "PCIe 5.0 x16": 0.8 * 63e9}
CLIPS = {"832x480, 81 frames": 32760, "1280x720, 81 frames": 75600}


def analytic() -> list[dict[str, Any]]:
    """The seconds of a step with guidance on A14B. Computed and never measured."""
    size, rows = SIZES["wan2.2-t2v-a14b"], []
    for clip, tokens in CLIPS.items():
        for link, rate in LINKS.items():
            rates = Rates(**{**vars(H100), "link": rate})
            alone = 2 * shared_forward_seconds(size, 40, tokens, rates, 1)
            for ranks in (2, 4, 8):
                step = shared_forward_seconds(size, 40, tokens, rates, ranks // 2)
                row = {"clip": clip, "link": link, "devices": ranks, "step_s": round(step, 3)}
                sent = sent_in_forward(size, 40, tokens, 2, ranks // 2)
                rows.append({**row, "factor": round(alone / step, 2), "sent_gb": round(sent / 1e9, 2)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    result: dict[str, Any] = {"date": date.today().isoformat(), "torch": torch.__version__, "measured": []}
    result["analytic"] = analytic()
    for case in CASES:
        result["measured"].append(measured(case, options.rounds))
        print(json.dumps({name: value for name, value in result["measured"][-1].items() if name != "found"}))
        if options.output is not None:  # each case as it is there: on a busy machine they take minutes
            options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

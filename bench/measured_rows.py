"""Rows that are measured: processor time against somebody else's for the same, and memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import small_model
import torch
from comfyui_python import in_comfyui
from memory_use import in_a_child, sample_once, watched
from pairs import Ratio, ratio_of
from rows import Row, at_most, of_ratio
from safetensors import safe_open
from small_model import Setting
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from wan_duet.pipelines.progress import Silent

BENCH = Path(__file__).resolve().parent


def loop(at: Setting) -> list[Row]:
    experts, schedule = small_model.Loaded(at.model), small_model.schedule()
    noise, prompts = small_model.inputs()

    def ours() -> None:
        small_model.sampled(experts, schedule, "unipc")

    def bare() -> None:
        for name, timestep in zip(schedule.experts, schedule.timesteps, strict=True):
            for condition in (prompts.positive, prompts.negative):
                experts.use(name).predict(noise, timestep, condition)

    return [of_ratio("C1", "denoise loop / the forwards in it", ratio_of(ours, bare, at.pairs), 1.02)]


def against_diffusers(at: Setting) -> list[Row]:
    pipe = small_model.pipeline(at.folder)
    noise, prompts = small_model.inputs()
    assert prompts.negative is not None  # noqa: S101
    _, _, frames, rows, columns = noise.shape

    def theirs() -> Tensor:
        made: Tensor = pipe(
            prompt_embeds=prompts.positive.text,
            negative_prompt_embeds=prompts.negative.text,  # type: ignore[union-attr]
            latents=noise.clone(),
            height=rows * 8,
            width=columns * 8,
            num_frames=frames * 4 - 3,
            num_inference_steps=small_model.STEPS,
            guidance_scale=3.5,
            guidance_scale_2=4.0,
            output_type="latent",
        ).frames
        return made

    experts = small_model.Loaded(at.model)

    def ours() -> Tensor:
        return small_model.sampled(experts, small_model.schedule(), "unipc")

    return [of_ratio("C2", "sampling / diffusers' WanPipeline", ratio_of(ours, theirs, at.pairs), 1.0)]


def against_comfyui(at: Setting) -> list[Row]:
    names = {
        "C3": "sampling / ComfyUI's two stages",
        "C4": "one forward, distance from ComfyUI's",
        "C5": "latents of both stages, distance from ComfyUI's",
    }
    script = BENCH / "comfyui_pair.py"
    found = in_comfyui(str(script), str(at.folder), "--pairs", str(at.pairs))
    if found is None:
        return [Row(gate, what, "no ComfyUI here", "", "", None) for gate, what in names.items()]
    return [
        of_ratio("C3", names["C3"], Ratio(*found["ratio"]), 1.0),
        at_most("C4", names["C4"], found["forward"], 1e-5, text=f"{found['forward']:.1e}"),
        at_most("C5", names["C5"], found["latents"], 1e-5, text=f"{found['latents']:.1e}"),
    ]


def text(at: Setting) -> list[Row]:
    torch.manual_seed(0)
    config = UMT5Config(d_model=256, d_ff=512, d_kv=32, num_heads=8, num_layers=4, vocab_size=256)
    network = UMT5EncoderModel(config).eval()
    tokens, length = torch.randint(2, 256, (1, 60)), 512
    padded = torch.nn.functional.pad(tokens, (0, length - 60))
    mask = torch.nn.functional.pad(torch.ones_like(tokens), (0, length - 60))

    @torch.inference_mode()
    def short() -> Tensor:
        hidden: Tensor = network(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        return torch.nn.functional.pad(hidden, (0, 0, 0, length - 60))

    @torch.inference_mode()
    def long() -> Tensor:
        hidden: Tensor = network(input_ids=padded, attention_mask=mask).last_hidden_state
        return hidden * mask[..., None]

    apart = float((short() - long()).norm() / long().norm())
    ratio = ratio_of(short, long, at.pairs)
    return [
        of_ratio("C17", "encoding 60 tokens / encoding them padded to 512", ratio, 0.2),
        at_most("C17", "relative difference of the two", apart, 1e-5, text=f"{apart:.1e}"),
    ]


def loading(at: Setting) -> list[Row]:
    recipe = at.model.experts["high"]
    file = recipe.files[0]

    def touch(tensors: Any) -> None:
        for tensor in tensors:
            tensor.flatten()[::1024].sum()

    def ours() -> None:
        touch(small_model.load(at.model, "high").parameters())

    def mapped() -> None:
        with safe_open(file, "pt") as opened:
            touch([opened.get_tensor(key) for key in opened.keys()])  # noqa: SIM118  not a dict

    whole = recipe.elements * 4

    def peak() -> dict[str, Any]:
        with watched() as watch:
            small_model.load(at.model, "high")
        return {"peak": watch.peak}

    share = statistics.median(in_a_child(peak)["peak"] for _ in range(5)) / whole

    seconds: dict[str, list[float]] = {"ours": [], "mapped": []}
    for _ in range(5):
        for name, work in (("ours", ours), ("mapped", mapped)):
            begun = time.process_time()
            work()
            seconds[name].append(time.process_time() - begun)
    apart = min(seconds["ours"]) - min(seconds["mapped"])
    return [
        Row(
            "C11",
            "loading an expert over reading its mapped file",
            f"{apart * 1000:.0f} ms more for {whole / 1e6:.0f} MB",
            "at most 100 ms more",
            "",
            apart <= 0.1,
        ),
        at_most(
            "C12",
            "mapped and other memory while loading / bytes of the weights (median of 5)",
            1 + share,
            1.05,
            text=f"{1 + share:.3f}",
        ),
    ]


def two_experts(at: Setting) -> list[Row]:
    """Anonymous memory of a run: both experts against the high one alone, weights computed, not mapped."""
    model = replace(at.model, precision="bf16")  # other than the files': nothing stays mapped

    def case(*experts: str) -> Callable[[], dict[str, Any]]:
        def work() -> dict[str, Any]:
            with watched() as watch:
                sample_once(model, experts, small_model.CONFIG["text_dim"])
            return {"peak": watch.peak}

        return work

    one, two = in_a_child(case("high"))["peak"], in_a_child(case("high", "low"))["peak"]
    return [at_most("C13", "peak memory of a run with two experts / with one", two / one, 1.15)]


def frames(at: Setting) -> list[Row]:
    del at
    found = json.loads((BENCH / "results" / "media-memory.json").read_text(encoding="utf-8"))
    picture, by_way = next(iter(found["peak_bytes"].items()))
    peaks, size = by_way["plain"], found["frame_bytes_fp32"][picture]
    few, many = (int(count) for count in (min(peaks, key=int), max(peaks, key=int)))
    slope = (peaks[str(many)] - peaks[str(few)]) / (many - few) / size
    what = f"memory per further frame / bytes of a frame ({found['date']}, bench/media_memory.py)"
    return [at_most("C14", what, slope, 0.1, "1")]


def importing(at: Setting) -> list[Row]:
    del at

    def seconds(code: str) -> float:
        found = []
        for _ in range(5):
            before = os.times()
            subprocess.run([sys.executable, "-c", code], check=True)
            after = os.times()
            found.append(
                after.children_user + after.children_system - before.children_user - before.children_system
            )
        return statistics.median(found)

    nothing, pack, framework = (seconds(code) for code in ("pass", "import wan_duet", "import torch"))
    value = (pack - nothing) / (framework - nothing)
    return [at_most("C21", "importing the pack / importing torch", value, 1.2)]


class _Stop(Exception):  # noqa: N818  not an error
    pass


def stopping(at: Setting) -> list[Row]:
    """From the moment of a stop inside of a forward to the end of the run, in forwards."""
    whole = time.perf_counter()
    small_model.run(at.model)
    forward_s = (time.perf_counter() - whole) / (2 * small_model.STEPS)
    asked: list[float] = []

    class Watcher(Silent):
        def check(self) -> None:
            if asked:
                raise _Stop

    found = []
    for share in (0.3, 1.7, 2.5, 4.4, 5.2):
        asked.clear()
        timer = threading.Timer(share * forward_s, lambda: asked.append(time.perf_counter()))
        timer.start()
        try:
            small_model.run(at.model, progress=Watcher())
        except _Stop:
            found.append((time.perf_counter() - asked[0]) / forward_s)
        timer.cancel()
    return [
        at_most(
            "C22",
            "from Stop to the end of the run / one forward (median of 5)",
            statistics.median(found),
            1.1,
        )
    ]

"""Run by test_sharing.py in ComfyUI's own interpreter: ComfyUI's model management, its models and ours.

The processor plays a graphics card here: a device that is not ComfyUI's "cpu", so that room has to be made on
it, with as much memory as a scene says. The last line it prints is what happened in every scene, as JSON.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from comfy import model_management
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from pack.nodes.host_memory import HostMemory
from pack.pipelines.device.ram import free_ram, total_ram
from pack.pipelines.generate.frame_stages import decode
from pack.pipelines.generate.stages import sample
from pack.pipelines.loading.wan_model import load_model
from pack.pipelines.progress import Silent
from pack.pipelines.sampling.engine import Condition, Prompts
from pack.pipelines.sampling.noise import StartLatents
from pack.pipelines.sampling.schedule import Sampling, Schedule
from safetensors.torch import save_file

GIB = 2**30
FOLDER = tempfile.TemporaryDirectory()
CARD = torch.device("cpu", 0)  # unlike torch.device("cpu")


class Card:
    """How much memory there is, and what is loaded takes of it."""

    total = 8 * GIB

    def free(self, device: Any = None, torch_free_too: bool = False) -> Any:
        taken = sum(
            loaded.model.model_size()
            for loaded in model_management.current_loaded_models
            if is_loaded(loaded)
        )
        return (self.total - taken, 0) if torch_free_too else self.total - taken


def is_loaded(entry: Any) -> bool:
    return entry.model is not None and entry.model.loaded_size() > 0


card = Card()
model_management.get_torch_device = lambda: CARD
model_management.is_device_cpu = lambda device: device == torch.device("cpu")
model_management.get_free_memory = card.free
model_management.get_total_memory = lambda device: card.total


class CoreModel(torch.nn.Linear):
    """A model of ComfyUI's side."""


def core_model(size_bytes: int) -> ModelPatcher:
    return ModelPatcher(CoreModel(4, 4), CARD, torch.device("cpu"), size=size_bytes)


def listed() -> list[str]:
    return [type(entry.model.model).__name__ for entry in model_management.current_loaded_models]


def networks() -> int:
    return sum(type(thing).__name__ == "OwnTransformer" for thing in gc.get_objects())


def state() -> dict[str, Any]:
    return {"listed": listed(), "networks": networks()}


class Watching(Silent):
    """Notes, whenever a step or a unit is about to be used, what is loaded then."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def check(self) -> None:
        self.seen.append(state())


class Reserved(logging.Handler):
    """The networks that were loaded, by the lines of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("loading "):
            self.lines.append(record.getMessage().partition(":")[0].removeprefix("loading "))


def run(model: Any, *experts: str) -> dict[str, Any]:
    sigmas = tuple(1 - index / len(experts) for index in range(len(experts) + 1))
    schedule = Schedule(sigmas, tuple(1000 * sigma for sigma in sigmas[:-1]), experts)
    latents, prompts = torch.zeros(1, 16, 1, 4, 4), Prompts(Condition(torch.zeros(1, 8, 128)), None)
    progress, reserved = Watching(), Reserved()
    logging.getLogger("pack").addHandler(reserved)
    sampling = Sampling(schedule, "euler", dict.fromkeys(experts, 1.0))
    start = StartLatents(latents, latents)
    sample(model, sampling, start, prompts, HostMemory(model.keep_alive), progress)
    logging.getLogger("pack").removeHandler(reserved)
    return {"loaded": reserved.lines, "seen": progress.seen, **state()}


def with_lora(model: Any) -> Any:
    """The model with one block of its low expert changed."""
    file = Path(FOLDER.name) / "lora.safetensors"
    parts = {"A": torch.ones(1, 256), "B": torch.ones(256, 1)}
    save_file({f"blocks.0.attn1.to_q.lora_{side}.weight": part for side, part in parts.items()}, file)
    return model.with_lora(file, 0.5, "low")


def ours_makes_core_leave() -> dict[str, Any]:
    card.total = 4 * GIB
    core = core_model(2 * GIB)
    model_management.load_models_gpu([core])
    memory, told = HostMemory(), {"free": 0}
    memory.reserve(GIB // 4, "VAE")
    told["both"], told["free"] = listed(), memory.free_bytes()
    memory.release()
    told["released"] = listed()
    memory.reserve(2 * GIB, "VAE")
    told["ours"], told["core bytes"] = listed(), core.loaded_size()
    memory.release()
    return {**told, "end": listed()}


def working_room_counts() -> dict[str, Any]:
    card.total = 4 * GIB
    core = core_model(2 * GIB)
    model_management.load_models_gpu([core])
    memory = HostMemory()
    memory.reserve(GIB // 4, "VAE", 3 * GIB)
    told = listed()
    memory.release()
    return {"listed": told}


def a_run_and_then_core() -> dict[str, Any]:
    model, card.total = load_model("toy"), 4 * GIB
    core = core_model(2 * GIB + GIB // 2 + GIB // 4)
    model_management.load_models_gpu([core])
    told = {"first": run(model, "high", "low")}
    told["same again"] = run(model, "low")
    told["with a LoRA"] = run(with_lora(model), "low")
    big = core_model(4 * GIB)
    model_management.load_models_gpu([big])
    return {**told, "core came": state(), "after": run(model, "low")}


def unload_button() -> dict[str, Any]:
    model, card.total = load_model("toy"), 8 * GIB
    told = {"kept": run(model, "low")}
    model_management.unload_all_models()
    told["unloaded"] = state()
    return {**told, "again": run(model, "low")}


def loader_forgotten() -> dict[str, Any]:
    model, card.total = load_model("toy"), 8 * GIB
    derived = with_lora(model)
    del model
    told = {"kept": run(derived, "low")}
    del derived
    return {**told, "gone": state()}


def others_keep_theirs() -> dict[str, Any]:
    """As with --reserve-vram 6 on a card of 24 GiB, and with more reserved than there is."""
    card.total, default = 24 * GIB, model_management.EXTRA_RESERVED_VRAM
    told: dict[str, Any] = {"default": default, "by default": HostMemory().free_bytes()}
    model_management.EXTRA_RESERVED_VRAM = 6 * GIB
    memory, asked = HostMemory(), []
    told["free"], told["total"] = memory.free_bytes(), memory.total_bytes()
    core_frees = model_management.free_memory

    def noted(size: float, *rest: Any, **how: Any) -> Any:
        asked.append(size)
        return core_frees(size, *rest, **how)

    model_management.free_memory = noted
    memory.reserve(10 * GIB, "VAE", 3 * GIB)
    model_management.free_memory = core_frees
    memory.release()
    model_management.EXTRA_RESERVED_VRAM = 30 * GIB
    told["too much"], told["asked"] = HostMemory().free_bytes(), asked[0]
    model_management.EXTRA_RESERVED_VRAM = default
    return told


def a_cap_on_the_process() -> dict[str, Any]:
    """As after set_per_process_memory_fraction(0.5), with 3 GiB of tensors, 1 GiB of them core's."""
    cuda, card.total = torch.device("cuda", 0), 24 * GIB
    core = ModelPatcher(CoreModel(4, 4), CARD, torch.device("cpu"), size=GIB)
    model_management.load_models_gpu([core])
    listed_entry = model_management.current_loaded_models[0]
    listed_entry.device = cuda
    replaced = (
        (model_management, "get_torch_device", lambda: cuda),
        (torch.cuda, "get_per_process_memory_fraction", lambda _: 0.5),
        (torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=24 * GIB)),
        (torch.cuda, "memory_allocated", lambda _: 3 * GIB),
    )
    before = [getattr(owner, name) for owner, name, _ in replaced]
    told: dict[str, Any] = {}
    for owner, name, instead in replaced:
        setattr(owner, name, instead)
    for reserved in (GIB, 20 * GIB):
        model_management.EXTRA_RESERVED_VRAM, usual = reserved, model_management.EXTRA_RESERVED_VRAM
        told[f"{reserved // GIB} reserved"] = HostMemory().free_bytes()
        model_management.EXTRA_RESERVED_VRAM = usual
    told["total"] = HostMemory().total_bytes()
    for (owner, name, _), was in zip(replaced, before, strict=True):
        setattr(owner, name, was)
    listed_entry.device = CARD
    return told


def vae_on_the_cpu() -> dict[str, Any]:
    """As with --cpu-vae, beside a model of core on the card."""
    model, card.total = load_model("toy"), 4 * GIB
    core = core_model(3 * GIB)
    model_management.load_models_gpu([core])
    told = {"same without the flag": HostMemory().for_part("vae").device == CARD}
    args.cpu_vae = True
    memory = HostMemory()
    vae = memory.for_part("vae")
    told["devices"] = [str(place.device) for place in (memory, vae, memory.for_part("text_encoder"))]
    told["dtype"], told["free"], told["main memory"] = (
        str(vae.auto_dtype("vae")),
        vae.free_bytes(),
        free_ram(),
    )
    frames = list(decode(model, torch.zeros(1, 16, 1, 4, 4), memory, Silent()))
    told["frames"], told["decoded on"] = len(frames), str(frames[0].device)
    told["core bytes"] = core.loaded_size()
    args.cpu_vae = False
    return told


def nothing_is_known_of_directml() -> dict[str, Any]:
    model_management.directml_enabled = True
    told = {"free": HostMemory().free_bytes(), "total": HostMemory().total_bytes()}
    model_management.directml_enabled = False
    return told


def main_memory() -> dict[str, Any]:
    """As the command line sees it, without what ComfyUI keeps for others."""
    model_management.get_torch_device = lambda: torch.device("cpu")
    told = {"free": HostMemory().free_bytes(), "same": free_ram(), "total": HostMemory().total_bytes()}
    model_management.get_torch_device = lambda: CARD
    return {**told, "default": model_management.EXTRA_RESERVED_VRAM, "in all": total_ram()}


def keeps_nothing_on_a_cpu() -> dict[str, Any]:
    model = load_model("toy")
    model_management.get_torch_device = lambda: torch.device("cpu")
    told = {"run": run(model, "high", "low")}
    model_management.get_torch_device = lambda: CARD
    return told


def main() -> None:
    logging.getLogger("pack").setLevel(logging.INFO)
    scenes = (
        ours_makes_core_leave,
        working_room_counts,
        a_run_and_then_core,
        unload_button,
        loader_forgotten,
        others_keep_theirs,
        a_cap_on_the_process,
        vae_on_the_cpu,
        nothing_is_known_of_directml,
        main_memory,
        keeps_nothing_on_a_cpu,
    )
    told = {}
    for scene in scenes:
        told[scene.__name__] = scene()
        model_management.unload_all_models()
        gc.collect()
    sys.stdout.write(f"\n{json.dumps(told)}\n")


main()

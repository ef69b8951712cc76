"""Run by test_precision.py in ComfyUI's own interpreter: what `auto` stands for under its flags.

A card is played here that answers for what it can do; every rule that is asked is ComfyUI's own. The last
line that it prints holds the answers, as JSON.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import torch
from comfy import model_management
from comfy.cli_args import args
from pack.nodes.host_memory import HostMemory
from pack.pipelines.device.memory import compute_dtype
from pack.pipelines.errors import RequestError

GIB = 2**30
PARTS = ("transformer", "vae", "text_encoder")
CARDS = {
    "RTX 3090": SimpleNamespace(name="NVIDIA GeForce RTX 3090", major=8, minor=6, total_memory=24 * GIB),
    "RTX 2080": SimpleNamespace(name="NVIDIA GeForce RTX 2080", major=7, minor=5, total_memory=8 * GIB),
    "GTX 1660": SimpleNamespace(name="NVIDIA GeForce GTX 1660", major=7, minor=5, total_memory=6 * GIB),
}
FLAGS = (
    "fp16_unet", "bf16_unet", "fp32_unet", "fp64_unet", "fp8_e4m3fn_unet", "fp16_vae", "bf16_vae", "fp32_vae",
    "fp16_text_enc", "bf16_text_enc", "fp32_text_enc", "fp8_e4m3fn_text_enc", "force_fp16", "force_fp32",
)  # fmt: skip


def answer(part: str) -> str:
    try:
        return str(HostMemory().auto_dtype(part)).removeprefix("torch.")
    except RequestError as error:
        return str(error)


def answers() -> list[str]:
    return [answer(part) for part in PARTS]


def on(device: str, card: SimpleNamespace | None = None) -> None:
    model_management.cpu_state = getattr(model_management.CPUState, "CPU" if card is None else "GPU")
    model_management.get_torch_device = lambda: torch.device(device)
    torch.cuda.get_device_properties = lambda _: card
    torch.cuda.get_device_capability = lambda _: (card.major, card.minor)
    torch.cuda.mem_get_info = lambda _: (card.total_memory, card.total_memory)
    torch.cuda.memory_stats = lambda _: {"reserved_bytes.all.current": 0}
    torch.cuda.is_bf16_supported = lambda *_, **__: True  # which counts emulation


def with_flag(flag: str) -> list[str]:
    # Some flags are read once, when ComfyUI starts; --force-fp16 implies --fp16-unet there.
    setattr(args, flag, True)
    model_management.FORCE_FP32 = args.force_fp32
    args.fp16_unet = args.fp16_unet or args.force_fp16
    said = answers()
    for name in (flag, "fp16_unet"):
        setattr(args, name, False)
    model_management.FORCE_FP32 = False
    return said


told = {"CPU": {flag: with_flag(flag) for flag in FLAGS}}
told["CPU"]["none"] = answers()
for name, card in CARDS.items():
    on("cuda:0", card)
    told[name] = {"none": answers(), **{flag: with_flag(flag) for flag in FLAGS}}
on("privateuseone:0", CARDS["RTX 3090"])
model_management.directml_enabled = True
told["DirectML"] = {"none": answers()}
told["chosen"] = {part: str(compute_dtype("bf16", HostMemory(), part)) for part in PARTS}
sys.stdout.write(f"\n{json.dumps(told)}\n")

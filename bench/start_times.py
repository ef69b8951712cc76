"""Measure what starting costs: `check` of a large model, and `generate` up to its first forward.

    python bench/start_times.py [-o OUT.json]

Prints CPU seconds (user and system, the least of 7 fresh processes) as JSON. The large model is Wan 2.2 A14B
in diffusers layout, 16 files in bf16 with real headers and no data (sparse). Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from wan_duet.pipelines.embedded.toy_model import toy_folder

STARTS = 7
UMT5_XXL = {  # google/umt5-xxl, config.json
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "model_type": "umt5",
    "architectures": ["UMT5EncoderModel"],
}
SHARDS = {"transformer": 6, "transformer_2": 6, "text_encoder": 3, "vae": 1}


# Run with the arguments of a command: ends where the first forward of an expert would begin.
FIRST_FORWARD = """
import os, sys
from wan_duet.pipelines.cli import main
from wan_duet.pipelines.networks.transformer import OwnTransformer
OwnTransformer.forward = lambda *given, **more: os._exit(0)
main(sys.argv[1:])
"""


def write_model(folder: Path) -> None:
    """Write the headers of A14B, in as many files as SHARDS says."""
    with torch.device("meta"):
        expert, vae = WanTransformer3DModel(), AutoencoderKLWan()
        text = UMT5EncoderModel(UMT5Config(**UMT5_XXL))
    networks = {"transformer": expert, "transformer_2": expert, "vae": vae, "text_encoder": text}
    for part, network in networks.items():
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        shapes.pop("encoder.embed_tokens.weight", None)  # the same table as shared.weight
        (folder / part).mkdir(parents=True)
        config = UMT5_XXL if part == "text_encoder" else dict(network.config)
        (folder / part / "config.json").write_text(json.dumps(config, default=str))
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        write_shards(folder / part, stem, shapes, SHARDS[part])
    shutil.copytree(toy_folder() / "tokenizer", folder / "tokenizer")
    (folder / "model_index.json").write_text('{"_class_name": "WanPipeline", "boundary_ratio": 0.875}')


def write_shards(folder: Path, stem: str, shapes: Mapping[str, tuple[int, ...]], count: int) -> None:
    names, weight_map = list(shapes), {}
    each = math.ceil(len(names) / count)
    for number in range(count):
        end, header = 0, {}
        own = names[number * each : (number + 1) * each]
        for name in own:
            start, end = end, end + 2 * math.prod(shapes[name])
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        numbered = f"-{number + 1:05}-of-{count:05}" if count > 1 else ""
        file = folder / f"{stem}{numbered}.safetensors"
        with file.open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            out.truncate(8 + len(text) + end)
            out.seek(-16, os.SEEK_END)
            out.write(folder.name.encode()[-16:])  # the experts differ
        weight_map |= dict.fromkeys(own, file.name)
    if count > 1:
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def cpu_seconds(command: list[str]) -> float:
    """Return the CPU seconds of a command, the least of some runs."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = []
    for _ in range(STARTS):
        before = os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ)
        after = os.times()
        found.append(sum(after[2:4]) - sum(before[2:4]))
    return round(min(found), 2)


def rows(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield what was measured, and its CPU seconds."""
    python, prompt = sys.executable, ["--prompt", "a red ball"]
    yield "import torch", cpu_seconds([python, "-c", "import torch"])
    for model in ("toy", str(folder / "A14B")):
        name = "16 files of A14B" if model != "toy" else "the embedded model"
        yield f"check, {name}", cpu_seconds([python, "-m", "wan_duet", "check", *prompt, "--model", model])
    run = [
        "generate",
        "--model",
        "toy",
        *prompt,
        "--num-inference-steps",
        "2",
        "--interpolator-model",
        "none",
    ]
    run += ["-o", str(folder / "a.mp4")]
    yield "generate, to the first forward", cpu_seconds([python, "-c", FIRST_FORWARD, *run])
    yield "generate, whole, 2 steps", cpu_seconds([python, "-m", "wan_duet", *run])


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("-o", "--output", type=Path)
    out: Path | None = options.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder) / "A14B")
        found: dict[str, Any] = {"date": str(date.today()), "torch": torch.__version__}
        found["cpu_s"] = dict(rows(Path(folder)))
    text = json.dumps(found, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()

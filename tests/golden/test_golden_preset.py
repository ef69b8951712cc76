"""A request by preset alone, through the command line, has the numbers of the official code.

The fixture is made by make_official_preset.py, which says how. Its guidance scales are unequal.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import tiny
import tiny_preset
from safetensors.torch import load_file
from torch import Tensor

from wan_duet.pipelines.cli.commands import main
from wan_duet.pipelines.cli.request_flags import add_request_flags, read_request
from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.kept_latents import KeptLatents
from wan_duet.pipelines.generate.local_receipt import latents_hash
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.vae.latent_space import denormalise
from wan_duet.pipelines.video.latent_file import read_latents
from wan_duet.pipelines.video.output import sidecar

ASKED = {
    "--preset": "official", "--prompt": tiny_preset.PROMPT, "--seed": tiny_preset.SEED,
    "--num-frames": tiny_preset.FRAMES, "--interpolator-model": "none",
    "--local-width": tiny_preset.WIDTH, "--local-height": tiny_preset.HEIGHT,
}  # fmt: skip


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return load_file(Path(__file__).with_name("official_preset.safetensors"))


def test_the_official_preset_on_the_command_line_equals_the_official_code(
    official: dict[str, Tensor], tmp_path: Path
) -> None:
    files = tiny_preset.save_files(tmp_path, official["pieces"])
    flags = [str(part) for pair in {**ASKED, **files}.items() for part in pair]
    out = tmp_path / "cli.mp4"
    assert main(["generate", *flags, "--precision", "fp32", "--device", "cpu", "-o", str(out)]) == 0
    receipt = json.loads(sidecar(out).read_text(encoding="utf-8"))
    assert receipt["plan"]["guidance"] == {"high": 4.0, "low": 3.0}
    assert {"high", "low"} == set(receipt["plan"]["experts"])

    # The receipt has the hash of the latents; the same request again keeps them.
    parser = argparse.ArgumentParser()
    add_request_flags(parser, "text-to-video")
    request = read_request(parser.parse_args(flags))
    model = load_model(
        files["--model"], low=files["--low-model"], vae=files["--vae"], text_encoder=files["--text-encoder"],
        precision="fp32",
    )  # fmt: skip
    kept = KeptLatents(tmp_path / "kept")
    memory = DeviceMemory("cpu")
    run(request, model, out=tmp_path / "again.mp4", memory=memory, progress=Silent(), kept=kept)
    (file,) = kept.folder.iterdir()
    ours = read_latents(file).latents
    assert latents_hash(ours) == receipt["latents_sha256"]
    theirs = denormalise(official["latents"][None], model.vae)
    assert ours.shape == tiny.LATENT_SHAPE
    assert float((ours - theirs).norm() / theirs.norm()) <= 1e-5

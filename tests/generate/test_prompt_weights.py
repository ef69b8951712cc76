"""With prompt_syntax comfy a run weighs its prompts, and only where there are weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.stages import encode_prompts
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.networks.text_encoder import EncodedPrompt
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.request.prompt_weights import PromptSyntax

LONG = "a (red:1.4) ball " + "moves left " * 300
SYNTAXES: tuple[PromptSyntax, ...] = ("plain", "comfy")


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return load_model("toy")


def encoded(model: WanModel, prompt: str, syntax: PromptSyntax) -> EncodedPrompt:
    (found,) = encode_prompts(model, [prompt], DeviceMemory("cpu"), Silent(), syntax)
    return found


@pytest.mark.parametrize("prompt", ["a red ball moves left", "", " two  spaces &amp; more ", "ball " * 600])
def test_a_prompt_without_weights_is_encoded_as_with_plain(prompt: str) -> None:
    plain, comfy = (encoded(load_model("toy"), prompt, syntax) for syntax in SYNTAXES)
    assert torch.equal(plain.embeddings, comfy.embeddings)
    assert (plain.tokens, plain.dropped) == (comfy.tokens, comfy.dropped)


def test_both_ways_of_reading_a_prompt_are_kept_apart(toy: WanModel) -> None:
    plain, comfy = (encoded(toy, "a (red:1.4) ball", syntax).embeddings for syntax in SYNTAXES)
    assert plain.shape == comfy.shape == (1, 512, plain.shape[-1])
    assert not torch.equal(plain, comfy)
    assert torch.equal(encoded(toy, "a (red:1.4) ball", "plain").embeddings, plain)


def image(model: WanModel, out: Path, prompt: str, **local: Any) -> Any:
    values = {"prompt": prompt, "num_inference_steps": 2, "seed": 1, "acceleration": "none", "local": local}
    request = parse("text-to-image", values)
    return run(request, model, out=out, memory=DeviceMemory("cpu"), progress=Silent()).receipt


def test_a_run_weighs_its_prompt_and_cuts_none_that_has_weights(toy: WanModel, tmp_path: Path) -> None:
    long = image(toy, tmp_path / "a.png", LONG, prompt_syntax="comfy")
    (told,) = (item["reason"] for item in long["findings"] if item["field"] == "prompt")
    assert told.endswith("all are used, as in ComfyUI")
    assert long["request"]["local"] == {"prompt_syntax": "comfy"}
    one = image(toy, tmp_path / "b.png", "a (red:0) ball", prompt_syntax="comfy")
    other = image(toy, tmp_path / "c.png", "a (red:1.4) ball", prompt_syntax="comfy")
    assert one["latents_sha256"] != other["latents_sha256"]

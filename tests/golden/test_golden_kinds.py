"""Runs that begin with a picture, the 5B, Wan 2.1 and FastVideo have the numbers of the official code.

The fixture is made by make_official_kinds.py, which says how.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
import tiny_kinds
import torch
from experts import resident
from safetensors.torch import load_file, save_file
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.conditions import image_mask
from wan_duet.pipelines.loading.identify import read_part
from wan_duet.pipelines.networks.clip_vision import image_features
from wan_duet.pipelines.plan.sigmas import SigmaGrid, dmd_grid, unipc_grid
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.loop import denoise
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.sampling.solvers import new_solver
from wan_duet.pipelines.streaming.executor import Executor

HERE = Path(__file__).parent
LoadExpert = Callable[[str], Executor]


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return load_file(HERE / "official_kinds.safetensors")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadExpert]:
    def loaded(name: str) -> Executor:
        """From a file in the original names, as users have it: what it is follows from its tensors."""
        file = tmp_path_factory.mktemp(name) / "model.safetensors"
        save_file(
            {key: tensor.contiguous() for key, tensor in tiny_kinds.KINDS[name].weights().items()}, file
        )
        recipe = read_part(file, "transformer", "model")
        recipes = {"high": recipe}
        return Executor(
            recipes, torch.float32, DeviceMemory("cpu"), lambda: None, residency=resident(recipes)
        )

    with torch.inference_mode():
        yield loaded


def made(experts: Executor, name: str, grid: SigmaGrid, **inputs: Tensor | None) -> Tensor:
    kind = tiny_kinds.KINDS[name]
    prompts = Prompts(*(Condition(padded(text), **inputs) for text in ("positive", "negative")))  # type: ignore[arg-type]
    frames, start = inputs.get("clean_frames"), kind.noise()
    if frames is not None:
        start = torch.where(frames.view(1, 1, -1, 1, 1), kind.given(), start)
    schedule, solver = Schedule.of_grid(grid, None), new_solver("unipc", grid.sigmas)
    with experts:
        return denoise(start, schedule, solver, experts, prompts, {"high": tiny_kinds.GUIDANCE}, Silent())


def padded(name: str) -> Tensor:
    text = tiny.text(name)
    return torch.nn.functional.pad(text, (0, 0, 0, 512 - text.shape[1]))


def channels(name: str, *, last: bool) -> Tensor:
    kind = tiny_kinds.KINDS[name]
    return torch.cat([image_mask(kind.latent, last=last), kind.given()], 1)


def relative_l2(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


GRID = unipc_grid(tiny_kinds.STEPS, tiny_kinds.SHIFT)


@pytest.mark.parametrize("last", [False, True])
def test_image_to_video_equals_the_official_code(
    load: LoadExpert, official: dict[str, Tensor], last: bool
) -> None:
    ours = made(load("i2v-a14b"), "i2v-a14b", GRID, channels=channels("i2v-a14b", last=last))
    assert relative_l2(ours[0], official["i2v-a14b last" if last else "i2v-a14b"]) <= 1e-5


@pytest.mark.parametrize(("name", "last"), [("i2v-2.1", False), ("flf2v-2.1", True)])
def test_image_to_video_of_wan_21_equals_the_official_code(
    load: LoadExpert, official: dict[str, Tensor], name: str, last: bool
) -> None:
    features = official[f"{name} clip"].reshape(1, -1, tiny_kinds.CLIP["dim"])
    ours = made(load(name), name, GRID, channels=channels(name, last=last), clip_features=features)
    assert relative_l2(ours[0], official[name]) <= 1e-5


@pytest.mark.parametrize("name", ["i2v-2.1", "flf2v-2.1"])
def test_clip_reads_pictures_as_the_official_code_does(
    official: dict[str, Tensor], name: str, tmp_path: Path
) -> None:
    tensors = {f"vision_model.{key}": tensor.contiguous() for key, tensor in clip_in_hf_names().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"num_attention_heads": tiny_kinds.CLIP["heads"], "hidden_act": "gelu"})
    )
    recipe = read_part(tmp_path, "image encoder", "image_encoder")
    pictures = [tiny_kinds.picture(), tiny_kinds.second_picture()][: len(official[f"{name} clip"])]
    ours = image_features(recipe, pictures, torch.float32, DeviceMemory("cpu"), Silent())
    assert relative_l2(ours[0], official[f"{name} clip"].flatten(0, 1)) <= 1e-5


def clip_in_hf_names() -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for key, tensor in tiny_kinds.clip_weights().items():
        name = re.sub(r"^transformer\.", "encoder.layers.", key)
        for own, theirs in CLIP_NAMES.items():
            name = name.replace(own, theirs)
        if ".to_qkv." in name:
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                named[name.replace("attn.to_qkv", f"self_attn.{part}_proj")] = third
        elif name == "embeddings.class_embedding":
            named[name] = tensor.flatten()
        elif name == "embeddings.position_embedding.weight":
            named[name] = tensor[0]
        else:
            named[name] = tensor
    return named


CLIP_NAMES = {
    "patch_embedding": "embeddings.patch_embedding",
    "cls_embedding": "embeddings.class_embedding",
    "pos_embedding": "embeddings.position_embedding.weight",
    "pre_norm": "pre_layrnorm",
    "post_norm": "post_layernorm",
    ".norm1": ".layer_norm1",
    ".norm2": ".layer_norm2",
    "attn.proj": "self_attn.out_proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
    "head": "visual_projection.weight",
}


def test_a_picture_on_the_5b_equals_the_official_code(load: LoadExpert, official: dict[str, Tensor]) -> None:
    ours = made(load("ti2v-5b"), "ti2v-5b", GRID, clean_frames=torch.tensor([True, False, False]))
    assert relative_l2(ours[0], official["ti2v-5b"]) <= 1e-5
    assert relative_l2(ours[0, :, 0], official["ti2v-5b"][:, 0]) <= 1e-6


def test_text_on_the_5b_equals_the_official_code(load: LoadExpert, official: dict[str, Tensor]) -> None:
    """With one time for all tokens, where the official code gives each its own."""
    assert relative_l2(made(load("ti2v-5b"), "ti2v-5b", GRID)[0], official["ti2v-5b text"]) <= 1e-5


def test_dmd_walks_like_fastvideo(official: dict[str, Tensor]) -> None:
    kind, grid = tiny_kinds.KINDS["ti2v-5b"], dmd_grid(tiny_kinds.DMD_SHIFT)
    generator = torch.Generator("cpu").manual_seed(kind.seed + 4)

    def draw() -> Tensor:
        return torch.randn(kind.latent, generator=generator)

    latents, solver = draw(), new_solver("dmd", grid.sigmas, draw)
    for index, timestep in enumerate(grid.timesteps):
        latents = solver.step(index, latents, tiny.velocity(latents, timestep))
    assert relative_l2(latents, official["fastvideo"]) <= 1e-5

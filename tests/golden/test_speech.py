"""The speech model equals the official code on equal tiny weights, module by module and over two clips.

The fixture is made by make_speech.py beside this file, which says how.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_files as files
import tiny_speech as tiny
import torch
from experts import resident
from safetensors.torch import load_file, save_file
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.speech_clips import (
    SETTLING_FRAMES,
    ClipSampling,
    SpeechInputs,
    speech_frames,
)
from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.loading.identify import read_part
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.networks.s2v import SpeechTransformer
from wan_duet.pipelines.networks.s2v_features import frame_features
from wan_duet.pipelines.networks.s2v_network_kind import SPEECH_EXPERT, ClipCondition
from wan_duet.pipelines.networks.wav2vec import audio_hidden_states
from wan_duet.pipelines.plan.sigmas import unipc_grid
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.engine import Condition, Engine, Prompts
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.streaming.executor import Executor
from wan_duet.pipelines.weights.recipe import Recipe, materialise

HERE = Path(__file__).parent
EXACT, WHOLE_RUN = 1e-5, 1e-4  # relative L2, float32


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return load_file(HERE / "speech.safetensors")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    file = tmp_path_factory.mktemp("speech") / "wan.safetensors"
    save_file(tiny.weights(), file)
    return read_part(file, "transformer", "model")


@pytest.fixture(scope="module")
def engine(recipe: Recipe) -> Iterator[Engine]:
    with torch.inference_mode(), speaker_of(recipe) as speaker:
        yield speaker.use("high")


def speaker_of(recipe: Recipe) -> Executor:
    return Executor(
        {"high": recipe},
        torch.float32,
        DeviceMemory("cpu"),
        lambda: None,
        residency=resident({"high": recipe}, kind=SPEECH_EXPERT),
        kind=SPEECH_EXPERT,
    )


@pytest.fixture(scope="module")
def inside(recipe: Recipe) -> dict[str, Tensor]:
    """What the parts of the network give during one forward, and the velocity."""
    cpu = torch.device("cpu")
    network = SPEECH_EXPERT.blank(recipe, FloatChoices(), cpu)
    assert isinstance(network, SpeechTransformer)
    materialise(recipe, network, cpu, SPEECH_EXPERT.dtypes(torch.float32), lambda: None)
    seen: dict[str, Tensor] = {}
    parts = {
        "casual_audio_encoder": ("whole", "heard"),
        "frame_packer": ("packed",),
        "blocks.3.audio": ("injected",),
    }
    handles = []
    for name, names in parts.items():

        def hook(module: object, given: object, made: object, names: tuple[str, ...] = names) -> None:
            values = made if isinstance(made, tuple) else (made,)
            seen.update(zip(names, values, strict=False))

        handles.append(network.get_submodule(name).register_forward_hook(hook))
    handles.append(network.blocks[0].register_forward_pre_hook(lambda _, given: seen.update(rotary=given[3])))
    latents = tiny.draw("latents", *tiny.CLIP_SHAPE)
    with torch.inference_mode():
        seen["forward"] = SPEECH_EXPERT.velocity(
            network, latents, 700.0, condition(later=True), torch.float32
        )
    for handle in handles:
        handle.remove()
    return seen


def condition(*, later: bool) -> ClipCondition:
    """As make_speech.py gives it, for a later clip with a pose or for the first without."""
    places = tiny.CLIP_SHAPE[-2:]
    return ClipCondition(
        text=padded("prompt").text,
        audio=tiny.draw("audio", 1, tiny.STATES, tiny.AUDIO_DIM, tiny.CLIP_FRAMES),
        reference=tiny.draw("reference", 1, 16, 1, *places),
        motion=tiny.draw("motion", 1, 16, 19, *places) if later else None,
        pose=tiny.draw("pose", *tiny.CLIP_SHAPE) if later else None,
    )


def off(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("part", ["heard", "whole", "packed", "injected"])
def test_every_part_of_the_network_equals_the_official_one(
    official: dict[str, Tensor], inside: dict[str, Tensor], part: str
) -> None:
    step = {"injected": 64}.get(part, 16)
    wanted, found = official[part], inside[part][..., ::step]
    assert off(found.reshape(wanted.shape), wanted) <= EXACT


def test_tokens_stand_where_the_official_code_puts_them(
    official: dict[str, Tensor], inside: dict[str, Tensor]
) -> None:
    cosines, sines = inside["rotary"]
    found = torch.stack([cosines[0, ::29, 0, ::2], sines[0, ::29, 0, ::2]], dim=-1)
    assert off(found, official["rotary"]) <= EXACT


@pytest.mark.parametrize(("name", "later"), [("forward", True), ("first clip", False)])
def test_a_forward_equals_the_official_one(
    official: dict[str, Tensor], engine: Engine, name: str, later: bool
) -> None:
    velocity = engine.predict(tiny.draw("latents", *tiny.CLIP_SHAPE), 700.0, condition(later=later))
    assert off(velocity[..., ::8], official[name]) <= EXACT


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> WanModel:
    """Of single files, in the names of Wan and of Hugging Face."""
    folder = tmp_path_factory.mktemp("whole")
    text = {
        **files.text_encoder(width=tiny.TEXT_DIM),
        "spiece_model": files.spiece_tensor(files.spiece_model()),
    }
    contents = {
        "model": tiny.weights(),
        "vae": files.wan_vae_names(files.vae("2.1")),
        "text_encoder": text,
        "audio_encoder": tiny.wav2vec()[1],
    }
    saved = {name: files.save(folder / f"{name}.safetensors", tensors) for name, tensors in contents.items()}
    return load_model(
        saved["model"],
        vae=saved["vae"],
        text_encoder=saved["text_encoder"],
        audio_encoder=saved["audio_encoder"],
    )


@pytest.fixture(scope="module")
def features(model: WanModel) -> Tensor:
    assert model.audio_encoder is not None
    states = audio_hidden_states(
        model.audio_encoder, tiny.sound(), torch.float32, DeviceMemory("cpu"), lambda: None
    )
    return frame_features(states, 16, 2 * tiny.CLIP_FRAMES)


def test_a_sound_is_heard_as_by_the_official_code(official: dict[str, Tensor], features: Tensor) -> None:
    assert off(features[:, :, ::32], official["features"]) <= EXACT


def test_two_clips_equal_the_official_run(
    official: dict[str, Tensor], model: WanModel, features: Tensor
) -> None:
    """But for the frames that the first clip does not show: here one is held, so that lips stay in time."""
    grid = unipc_grid(tiny.STEPS, tiny.SHIFT)
    inputs = SpeechInputs(
        model=model,
        memory=DeviceMemory("cpu"),
        progress=Silent(),
        frames=2 * tiny.CLIP_FRAMES,
        clip_frames=tiny.CLIP_FRAMES,
        latent_shape=tiny.CLIP_SHAPE,
        image=torch.from_numpy(tiny.picture()).permute(2, 0, 1).float() / 255 * 2 - 1,
        sampling=ClipSampling(
            speaker=speaker_of(model.experts["high"]),
            sampling=Sampling(Schedule.of_grid(grid, None), "unipc", {"high": tiny.GUIDANCE}),
            seed=tiny.SEED,
            prompts=Prompts(padded("prompt"), padded("negative")),
            features=features,
        ),
    )
    hashes: list[str] = []
    frames = torch.stack(list(speech_frames(inputs, hashes)), 1)
    assert frames.shape == (3, 2 * tiny.CLIP_FRAMES, tiny.HEIGHT, tiny.WIDTH)
    assert len(set(hashes)) == 2
    held = frames[:, : SETTLING_FRAMES + 1]
    assert torch.equal(held, held[:, :1].expand_as(held))
    assert off(frames[:, SETTLING_FRAMES::6, ::8, ::8], official["frames"]) <= WHOLE_RUN


def padded(prompt: str) -> Condition:
    text = torch.zeros(1, 512, tiny.TEXT_DIM)
    text[:, :6] = tiny.text(prompt)
    return Condition(text)

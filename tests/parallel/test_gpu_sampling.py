"""Whole samplings on several ranks: the latents of one device, for every kind of network."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import tiny_kinds
import tiny_speech
import torch
from experts import resident
from ranks_in_threads import in_layout
from safetensors.torch import save_file
from tiny_transformer import own, relative_l2, stock
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.generate.stages import sample
from wan_duet.pipelines.loading.identify import read_part
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.networks.expert import EXPERT, velocity_of
from wan_duet.pipelines.networks.network_kind import NetworkKind
from wan_duet.pipelines.networks.s2v import SpeechTransformer
from wan_duet.pipelines.networks.s2v_network_kind import SPEECH_EXPERT, ClipCondition
from wan_duet.pipelines.parallel.gpu_world import GpuRanks
from wan_duet.pipelines.parallel.guidance_pair import guidance_pair
from wan_duet.pipelines.parallel.rank_group import RankGroup
from wan_duet.pipelines.plan.context_windows import ContextWindows
from wan_duet.pipelines.plan.gpu_layout import GpuLayout
from wan_duet.pipelines.plan.sigmas import unipc_grid
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.loop import denoise
from wan_duet.pipelines.sampling.noise import StartLatents
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.sampling.solvers import new_solver
from wan_duet.pipelines.streaming.executor import Executor

PAIR, SPLIT, BOTH = GpuLayout(True, 1), GpuLayout(False, 2), GpuLayout(True, 2)
GRID = unipc_grid(3, 5.0)
GUIDANCE = {"high": 3.0, "low": 4.0}
WINDOWS = ContextWindows(
    frames=5, length=3, overlap=1, schedule="standard_static", stride=1, closed_loop=False, fuse="pyramid",
    retain_first=False, freenoise=False,
)  # fmt: skip


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def require_equal(shared: list[Tensor], alone: Tensor) -> None:
    assert all(torch.equal(each, shared[0]) for each in shared), "the ranks do not agree"
    assert relative_l2(shared[0], alone) <= 1e-5


@pytest.mark.parametrize("layout", [PAIR, SPLIT, BOTH], ids=GpuLayout.text)
@pytest.mark.parametrize("name", ["toy", "toy-image"])
def test_the_embedded_models_sample_as_on_one_device(name: str, layout: GpuLayout) -> None:
    model = load_model(toy_folder(name))
    shape = (1, 16, 3, 6, 10)  # 45 tokens
    noise = draw(*shape)
    channels = draw(1, 20, *shape[2:]) if name == "toy-image" else None
    prompts = Prompts(*(Condition(draw(1, 20, 128, seed=seed), channels) for seed in (1, 2)))
    sampling = Sampling(Schedule.of_grid(GRID, 0.9), "unipc", GUIDANCE)

    def sampled(ranks: GpuRanks | None) -> Tensor:
        start = StartLatents(
            torch.zeros(shape), noise if ranks is None or ranks.everyone.rank == 0 else noise + 1
        )
        memory = DeviceMemory("cpu")
        return sample(model, sampling, start, prompts, memory, Silent(), check_memory=False, ranks=ranks)

    require_equal(in_layout(layout, sampled), sampled(None))


@pytest.mark.parametrize("windows", [None, WINDOWS], ids=["whole", "windows"])
@pytest.mark.parametrize("layout", [PAIR, SPLIT], ids=GpuLayout.text)
def test_windows_and_texts_of_frames_are_those_of_one_device(
    layout: GpuLayout, windows: ContextWindows | None
) -> None:
    """Without windows the texts are in the way of the split: every rank needs tokens of each frame."""
    model, shape = load_model(toy_folder()), (1, 16, 5, 6, 10)
    seen = ((0, 20), (0, 20), (0, 35), (20, 35), (20, 35))
    prompts = Prompts(Condition(draw(1, 35, 128, seed=1), seen=seen), Condition(draw(1, 20, 128, seed=2)))
    sampling = Sampling(Schedule.of_grid(GRID, 0.9), "unipc", GUIDANCE, windows=windows)
    start = StartLatents(torch.zeros(shape), draw(*shape))

    def sampled(ranks: GpuRanks | None) -> Tensor:
        memory = DeviceMemory("cpu")
        return sample(model, sampling, start, prompts, memory, Silent(), check_memory=False, ranks=ranks)

    require_equal(in_layout(layout, sampled), sampled(None))


@pytest.mark.parametrize("layout", [PAIR, SPLIT], ids=GpuLayout.text)
@pytest.mark.parametrize("picture", [False, True])
def test_the_5b_samples_as_on_one_device(tmp_path: Any, layout: GpuLayout, picture: bool) -> None:
    """With a picture every frame has a time of its own."""
    kind = tiny_kinds.KINDS["ti2v-5b"]
    save_file(
        {key: tensor.contiguous() for key, tensor in kind.weights().items()}, tmp_path / "model.safetensors"
    )
    recipe = read_part(tmp_path / "model.safetensors", "transformer", "model")
    frames = torch.tensor([True, False, False]) if picture else None
    prompts = Prompts(*(Condition(tiny.text(name), clean_frames=frames) for name in ("positive", "negative")))

    def sampled(ranks: GpuRanks | None) -> Tensor:
        return run(recipe, EXPERT, kind.noise(), prompts, ranks)

    require_equal(in_layout(layout, sampled), sampled(None))


def run(recipe: Any, kind: NetworkKind, noise: Tensor, prompts: Prompts, ranks: GpuRanks | None) -> Tensor:
    split = None if ranks is None else ranks.sequence
    both = None if ranks is None or ranks.pair is None else guidance_pair(ranks.pair)
    experts = Executor(
        {"high": recipe},
        torch.float32,
        DeviceMemory("cpu"),
        lambda: None,
        residency=resident({"high": recipe}, kind=kind),
        kind=kind,
        ranks=split,
    )
    schedule, solver = Schedule.of_grid(GRID, None), new_solver("unipc", GRID.sigmas)
    with torch.inference_mode(), experts:
        return denoise(noise, schedule, solver, experts, prompts, {"high": 3.0}, Silent(), both=both)


def test_forty_heads_sample_on_a_pair_of_two() -> None:
    network = own(stock(num_attention_heads=40, attention_head_dim=12))
    prompts = Prompts(*(Condition(draw(1, 20, 16, seed=seed)) for seed in (1, 2)))

    class Experts:
        def __init__(self, ranks: RankGroup | None) -> None:
            self.ranks = ranks

        def use(self, expert: str) -> Experts:
            return self

        def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
            return velocity_of(network, latents, timestep, condition, torch.float32, ranks=self.ranks)

    def sampled(ranks: GpuRanks | None) -> Tensor:
        both = None if ranks is None or ranks.pair is None else guidance_pair(ranks.pair)
        experts, solver = Experts(None if ranks is None else ranks.sequence), new_solver("unipc", GRID.sigmas)
        schedule = Schedule.of_grid(GRID, 0.9)
        noise = draw(1, 16, 3, 6, 10)
        with torch.inference_mode():
            return denoise(noise, schedule, solver, experts, prompts, GUIDANCE, Silent(), both=both)

    require_equal(in_layout(BOTH, sampled), sampled(None))


SPEECH = {
    "num_attention_heads": 4,
    "attention_head_dim": 12,
    "patch_size": (1, 2, 2),
    "freq_dim": 16,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 16,
    "ffn_dim": 64,
    "num_layers": 2,
    "eps": 1e-6,
    "cond_dim": 16,
    "audio_dim": 8,
    "audio_states": 3,
    "audio_tokens": 2,
    "audio_blocks": [1],
}


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_speaker_is_split_with_its_sound_and_its_past(ranks: int, later: bool) -> None:
    torch.manual_seed(0)
    network = SpeechTransformer(SPEECH).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.1)
    shape = (1, 16, 3, 8, 8)  # 16 tokens of a frame
    condition = ClipCondition(
        text=draw(1, 20, 16),
        audio=draw(1, 3, 8, 12),
        reference=draw(1, 16, 1, 8, 8, seed=2),
        motion=draw(1, 16, 19, 8, 8, seed=3) if later else None,
        pose=draw(*shape, seed=4) if later else None,
    )

    def velocity(given: GpuRanks | None) -> Tensor:
        group = None if given is None else given.sequence
        with torch.inference_mode():
            return SPEECH_EXPERT.velocity(
                network, draw(*shape, seed=5), 700.0, condition, torch.float32, ranks=group
            )

    require_equal(in_layout(GpuLayout(False, ranks), velocity), velocity(None))


def test_a_pair_makes_the_clip_of_a_speaker(tmp_path: Any) -> None:
    save_file(tiny_speech.weights(), tmp_path / "wan.safetensors")
    recipe = read_part(tmp_path / "wan.safetensors", "transformer", "model")
    places = tiny_speech.CLIP_SHAPE[-2:]

    def heard(text: int, loud: float) -> ClipCondition:
        audio = loud * draw(1, tiny_speech.STATES, tiny_speech.AUDIO_DIM, tiny_speech.CLIP_FRAMES)
        reference = draw(1, 16, 1, *places, seed=2)
        text_ = draw(1, 20, tiny_speech.TEXT_DIM, seed=text)
        return ClipCondition(text=text_, audio=audio, reference=reference, motion=None, pose=None)

    prompts = Prompts(heard(3, 1.0), heard(4, 0.0))

    def sampled(ranks: GpuRanks | None) -> Tensor:
        noise = draw(*tiny_speech.CLIP_SHAPE, seed=5)
        if ranks is not None:
            return run(recipe, SPEECH_EXPERT, noise, ranks.from_first(prompts), ranks)
        return run(recipe, SPEECH_EXPERT, noise, prompts, None)

    require_equal(in_layout(PAIR, sampled), sampled(None))

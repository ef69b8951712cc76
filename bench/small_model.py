"""Two experts in the real layout: small enough for a CPU, large enough that forwards are most of the time."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.stages import sample
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.networks.expert import expert_dtypes, meta_expert
from wan_duet.pipelines.plan.sigmas import unipc_grid
from wan_duet.pipelines.progress import Progress, Silent
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.loop import denoise
from wan_duet.pipelines.sampling.noise import StartLatents
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.sampling.solvers import SOLVERS
from wan_duet.pipelines.weights.folder import read_component
from wan_duet.pipelines.weights.recipe import materialise

__all__ = [
    "BOUNDARY",
    "CONFIG",
    "GUIDANCE",
    "LATENT_SHAPE",
    "SHIFT",
    "STEPS",
    "Loaded",
    "Setting",
    "inputs",
    "load",
    "make",
    "pipeline",
    "run",
    "sampled",
    "schedule",
    "stock_expert",
]

CONFIG: dict[str, Any] = {
    "_class_name": "WanTransformer3DModel",
    "num_attention_heads": 4,
    "attention_head_dim": 128,
    "ffn_dim": 1408,
    "num_layers": 4,
    "text_dim": 4096,
}
LATENT_SHAPE = (1, 16, 3, 32, 32)  # 768 tokens
STEPS, SHIFT, BOUNDARY = 4, 5.0, 0.875
GUIDANCE = {"high": 3.5, "low": 4.0}


@dataclass(frozen=True)
class Setting:
    """The model, the folder its files are in, and how many pairs a ratio is of."""

    model: WanModel
    folder: Path
    pairs: int


def make(folder: Path) -> WanModel:
    """The embedded model with two random experts in place of its own."""
    experts = {}
    for seed, name in enumerate(("high", "low")):
        torch.manual_seed(seed)
        network = WanTransformer3DModel.from_config(CONFIG)
        for key, parameter in network.named_parameters():
            if parameter.ndim > 1 and "table" not in key:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        (folder / name).mkdir()
        state = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
        save_file(state, folder / name / "diffusion_pytorch_model.safetensors")
        (folder / name / "config.json").write_text(json.dumps(CONFIG))
        experts[name] = read_component(folder / name)
    return replace(load_model("toy"), name=str(folder), experts=MappingProxyType(experts))


def pipeline(folder: Path) -> WanPipeline:
    """diffusers' own, on the same files."""
    high, low = (stock_expert(folder / name) for name in ("high", "low"))
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT, num_train_timesteps=1000
    )
    made = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        scheduler=scheduler,
        transformer=high,
        transformer_2=low,
        boundary_ratio=BOUNDARY,
    )
    made.set_progress_bar_config(disable=True)
    return made


def stock_expert(folder: Path) -> WanTransformer3DModel:
    network = WanTransformer3DModel.from_config(CONFIG)
    network.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return network.eval().requires_grad_(False)


def load(model: WanModel, name: str) -> WanTransformer3DModel:
    """One expert as a run on a CPU has it."""
    recipe = model.experts[name]
    network = meta_expert(recipe)
    materialise(recipe, network, torch.device("cpu"), expert_dtypes(torch.float32), lambda: None)
    return network


class Loaded:
    """Both experts in memory, called with nothing around them."""

    def __init__(self, model: WanModel) -> None:
        self._networks = {name: load(model, name) for name in model.experts}

    def use(self, expert: str) -> _Called:
        return _Called(self._networks[expert])


@dataclass
class _Called:
    network: WanTransformer3DModel

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        moment = torch.tensor([timestep])
        velocity: Tensor = self.network(latents, moment, condition.text, return_dict=False)[0]
        return velocity


def sampled(experts: Loaded, steps: Schedule, solver: str) -> Tensor:
    """The denoise loop with guidance, in the space of the experts."""
    noise, prompts = inputs()
    return denoise(noise, steps, SOLVERS[solver](steps.sigmas), experts, prompts, dict(GUIDANCE), Silent())


def inputs() -> tuple[Tensor, Prompts]:
    """Noise, and two prompts of full length."""
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(LATENT_SHAPE, generator=generator)
    texts = (torch.randn(1, 512, 4096, generator=generator) for _ in range(2))
    return noise, Prompts(*(Condition(text) for text in texts))


def schedule() -> Schedule:
    return Schedule.of_grid(unipc_grid(STEPS, SHIFT), BOUNDARY)


def run(
    model: WanModel, guidance: tuple[float, float] = (3.5, 4.0), progress: Progress | None = None
) -> Tensor:
    """All steps of both experts."""
    noise, prompts = inputs()
    if set(guidance) == {1.0}:
        prompts = Prompts(prompts.positive, None)
    scales = dict(zip(("high", "low"), guidance, strict=True))
    return sample(
        model,
        Sampling(schedule(), "unipc", scales),
        StartLatents(torch.zeros_like(noise), noise),
        prompts,
        DeviceMemory("cpu"),
        progress or Silent(),
    )

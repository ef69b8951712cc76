"""Three LoRAs: a motion for the high expert, a look for the low one, and one for both.

A LoRA here is what it is at inference: a delta added to the weights. The expert runs with the merged
weights, and the gradient reaches the two factors through the sum.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file
from torch import nn
from torch.func import functional_call

from .checkpoint import TrainingState, randomness, torch_randomness
from .flow import draw_sigmas
from .latents import latent_set
from .networks import BOUNDARY
from .padded_text import attend_padded
from .pool import Clip, scene_clips
from .schedule import Figures, Run, train_steps
from .sentences import encode_prompts
from .train_experts import draw_batch, trained_expert, velocity_loss
from .train_text import trained_text_encoder
from .train_vae import folded_vae
from .vocabulary import build_tokenizer

__all__ = ["LORAS", "LoraKind", "LowRank", "lora_clips", "train_lora", "write_lora"]

log = logging.getLogger(__name__)

_RANK = 8
_RATE = 2e-3


@dataclass(frozen=True)
class LoraKind:
    experts: tuple[str, ...]
    motion: str | None
    look: str
    cpu_steps: int = 600


LORAS = {
    "circling": LoraKind(("high",), "circling", "plain", cpu_steps=2400),
    "outlined": LoraKind(("low",), None, "outlined"),
    "hopping_stripes": LoraKind(("high", "low"), "hopping", "striped"),
}


class LowRank(nn.Module):
    """Factors A (rank, in) and B (out, rank) for every matrix of an expert's blocks."""

    def __init__(self, expert: WanTransformer3DModel, rank: int = _RANK, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.targets = [
            name
            for name, module in expert.named_modules()
            if name.startswith("blocks.") and isinstance(module, nn.Linear)
        ]
        shapes = {name: expert.get_submodule(name).weight.shape for name in self.targets}
        self.down = nn.ParameterList(
            [torch.randn(rank, shapes[n][1]) / shapes[n][1] ** 0.5 for n in self.targets]
        )
        self.up = nn.ParameterList([torch.zeros(shapes[n][0], rank) for n in self.targets])

    def merged(self, expert: WanTransformer3DModel, strength: float = 1.0) -> dict[str, torch.Tensor]:
        """The weights that change, with the delta added."""
        factors = zip(self.targets, self.down, self.up, strict=True)
        return {
            f"{n}.weight": expert.get_submodule(n).weight + strength * (up @ down) for n, down, up in factors
        }

    def file_tensors(self) -> dict[str, torch.Tensor]:
        """diffusers' names; without alpha, so the delta is B @ A."""
        tensors = {}
        for name, down, up in zip(self.targets, self.down, self.up, strict=True):
            tensors[f"transformer.{name}.lora_A.weight"] = down.detach().half().cpu().contiguous()
            tensors[f"transformer.{name}.lora_B.weight"] = up.detach().half().cpu().contiguous()
        return tensors


def train_lora(
    name: str, run: Run, steps: int | None = None, batch: int | None = None, clips: int | None = None
) -> bool:
    kind = LORAS[name]
    steps = steps or max(1, int((1500 if run.fast else kind.cpu_steps) * run.scale))
    batch = batch or (128 if run.fast else 16)
    vae = folded_vae(run)
    data = latent_set(f"lora_{name}", lora_clips(name, run, clips), vae, run, conditions=False)
    if data is None:
        return False
    encoder, tokenizer = trained_text_encoder(run), build_tokenizer()
    experts = [attend_padded(trained_expert(expert, run)).requires_grad_(False) for expert in kind.experts]
    lora = LowRank(experts[0]).to(run.device)
    state = TrainingState(
        {"lora": lora}, [torch.optim.AdamW(lora.parameters(), _RATE, (0.9, 0.99), weight_decay=0.0)], 0.99
    )

    def step(index: int) -> tuple[torch.Tensor, Figures]:
        place = index % len(experts)
        expert = experts[place]
        drawn = draw_batch(data, batch, randomness(f"lora/{name}", index), run.device, image=False, still=0.0)
        sigmas = draw_sigmas(kind.experts[place], BOUNDARY, batch, randomness(f"lora/{name}/sigma", index))
        text = encode_prompts(encoder, tokenizer, drawn.prompts)
        merged = lora.merged(expert)

        def adapted(
            x: torch.Tensor, timestep: torch.Tensor, words: torch.Tensor, return_dict: bool
        ) -> tuple[torch.Tensor]:
            velocity: tuple[torch.Tensor] = functional_call(
                expert, merged, (x, timestep, words), {"return_dict": return_dict}
            )
            return velocity

        generator = torch_randomness(f"lora/{name}", index, run.device)
        return velocity_loss(adapted, drawn, text, sigmas, generator, run), {}

    with run.short_attention():
        return train_steps(f"lora_{name}", run, steps, state, step)


def lora_clips(name: str, run: Run, count: int | None = None) -> list[Clip]:
    kind, count = LORAS[name], count or (2048 if run.fast else 384)
    return scene_clips(f"lora/{name}", count, motion=kind.motion, look=kind.look)


def write_lora(name: str, run: Run, path: Path) -> None:
    lora = LowRank(trained_expert(LORAS[name].experts[0], run))
    saved = torch.load(run.checkpoint(f"lora_{name}"), map_location="cpu", weights_only=True)
    lora.load_state_dict(saved["averages"]["lora"])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        lora.file_tensors(), str(path), metadata={"format": "pt", "experts": ",".join(LORAS[name].experts)}
    )

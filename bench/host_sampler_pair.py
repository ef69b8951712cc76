"""The two ways of `host_sampler.py` on the same two MODELs. Runs in ComfyUI's interpreter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.ldm.wan.model
import comfy.ops
import comfy.sample
import comfy.samplers
import comfy.sd
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from torch import Tensor

from wan_duet.nodes.host_model.facts import facts_of
from wan_duet.nodes.host_model.networks import ComfyNetworks
from wan_duet.nodes.host_model.sampling import sample_with_host
from wan_duet.pipelines.loading.host_family import family_of_host
from wan_duet.pipelines.loading.host_model import HostModel
from wan_duet.pipelines.plan.sigmas import from_sigmas
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule

_SMALL = {"dim": 256, "ffn_dim": 1024, "num_heads": 2, "num_layers": 2, "model_type": "t2v", "in_dim": 16}


class Pair:
    """forwards: of each expert so far."""

    def __init__(
        self, shape: Sequence[int], steps: int, shift: float, boundary: float, guidance: float, seed: int
    ) -> None:
        self.shape, self.steps, self.guidance, self.seed = tuple(shape), steps, guidance, seed
        self.forwards: Counter[str] = Counter()
        self.models = {name: self._model(name, number, shift) for number, name in enumerate(("high", "low"))}
        sampling = self.models["high"].get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", steps)
        self.switch = int((sigmas[:-1] >= boundary).sum())
        schedule = Schedule.of_grid(from_sigmas(sigmas.tolist()), boundary)
        self.plan = Sampling(schedule, "euler", {"high": guidance, "low": guidance})
        self.text = [[[_normal((1, 64, 4096), number), {}]] for number in (10, 11)]
        facts = {name: facts_of(model, name) for name, model in self.models.items()}
        family, _ = family_of_host(facts)
        self.host = HostModel("pair", family, family.boundary, ComfyNetworks(self.models), facts=facts)

    def ours(self) -> Tensor:
        material = (*self.text, {"samples": torch.zeros(self.shape)})
        found = sample_with_host(self.host, self.plan, material, self.seed, True, Silent())
        latents: Tensor = found["samples"]
        return latents

    def core(self) -> Tensor:
        empty = torch.zeros(self.shape)
        noise = comfy.sample.prepare_noise(empty, self.seed, None)
        half = self._stage("high", noise, empty, 0, self.switch)
        return self._stage("low", torch.zeros_like(half), half, self.switch, self.steps)

    def _stage(self, name: str, noise: Tensor, latents: Tensor, first: int, last: int) -> Tensor:
        found: Tensor = comfy.sample.sample(
            self.models[name], noise, self.steps, self.guidance, "euler", "simple", *self.text, latents,
            disable_noise=first > 0, start_step=first, last_step=last, disable_pbar=True, seed=self.seed,
            force_full_denoise=last == self.steps,
        )  # fmt: skip
        return found

    def _model(self, name: str, seed: int, shift: float) -> Any:
        made = comfy.ldm.wan.model.WanModel(**_SMALL, operations=comfy.ops.disable_weight_init)
        weights = {
            key: _normal(tuple(tensor.shape), seed) * min(0.05, max(1, tensor[0].numel()) ** -0.5)
            + ("norm" in key and key.endswith("weight"))
            for key, tensor in made.state_dict().items()
        }
        model = comfy.sd.load_diffusion_model_state_dict(weights, model_options={"dtype": torch.float32})
        network = model.model.diffusion_model
        network.register_forward_hook(lambda *_: self.forwards.update([name]))
        return ModelSamplingSD3().patch(model, shift)[0]


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

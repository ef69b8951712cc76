"""Rows that are counted: forwards, memory traffic, kernels, arithmetic. The same on every machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import small_model
import torch
from comfyui_python import in_comfyui
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from experts import recipe_of, write_experts
from rows import Row, at_most
from small_model import Setting
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from traffic import Traffic
from virtual_clock import LAYERS, stall

from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.kernels.fused import triton_installed
from wan_duet.pipelines.kernels.kernel_names import Kernels
from wan_duet.pipelines.kernels.operations import kitchen_operations
from wan_duet.pipelines.networks.block import modulation_rows
from wan_duet.pipelines.networks.expert import expert_dtypes, velocity_of
from wan_duet.pipelines.networks.transformer import replace_transformer_forward
from wan_duet.pipelines.plan.flops import forward_flops, size_of, tokens_of
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.loop import denoise
from wan_duet.pipelines.sampling.solvers import SOLVERS
from wan_duet.pipelines.sampling.step_cache import REGULAR, BlockCache, StepCache
from wan_duet.pipelines.vae.forward import replace_vae_forward
from wan_duet.pipelines.vae.stream import new_cache

CHUNK = 5460  # of 32760 tokens: a sixth, as a run on a small device takes


def forwards(at: Setting) -> list[Row]:
    del at
    noise, prompts = small_model.inputs()
    schedule, rows = small_model.schedule(), []
    for high, low in ((3.5, 3.5), (3.5, 1.0), (1.0, 3.5), (1.0, 1.0)):
        counted, scales = Counted(), {"high": high, "low": low}
        denoise(noise, schedule, SOLVERS["euler"](schedule.sigmas), counted, prompts, scales, Silent())
        needed = sum(1 if scales[name] == 1 else 2 for name in schedule.experts)
        made = len(counted.asked)
        what = f"forwards made / needed, guidance {high:g} and {low:g}"
        rows.append(Row("C6", what, f"{made} / {needed}", "equal", "", made == needed))
    return rows


class Counted:
    """Hands out engines that answer at once, and counts what is asked of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def use(self, expert: str) -> Any:
        return _Answer(self.asked, expert)


@dataclass
class _Answer:
    asked: list[str]
    expert: str

    def predict(self, latents: Tensor, timestep: float, condition: object) -> Tensor:
        del timestep, condition
        self.asked.append(self.expert)
        return latents * 0.1


def block(at: Setting) -> list[Row]:
    del at
    stock, unit = block_traffic(None)
    passes, count = f"{stock.element_wise / unit:.1f}", str(stock.kernel_count)
    rows = []
    limits: list[tuple[Kernels, str, float]] = [
        ("plain", "plain torch", 56),
        ("kitchen", "comfy-kitchen's rope", 34),
        ("triton", "triton", 24),
    ]
    for kernels, name, most in limits:
        what = f"passes of a hidden state per block, {name}"
        found = counted(kernels) or elsewhere(kernels)
        if found is None:
            rows += [Row("C7", what, "not installed here", f"at most {most:g}", passes, None)]
            continue
        rows += [
            at_most("C7", what, found[0], most, passes),
            at_most("C8", f"kernels per block, {name}", found[1], 28, count),
        ]
    return rows


def counted(kernels: Kernels) -> tuple[float, int] | None:
    """Passes over a hidden state, and kernels; None where these are not installed."""
    if (kernels == "kitchen" and kitchen_operations() is None) or (
        kernels == "triton" and not triton_installed()
    ):
        return None
    traffic, unit = block_traffic(kernels)
    return traffic.element_wise / unit, traffic.kernel_count


def elsewhere(kernels: Kernels) -> tuple[float, int] | None:
    """The same in ComfyUI's interpreter, which has packages that this one lacks."""
    code = f"import json, count_rows; print(json.dumps(count_rows.counted({kernels!r})))"
    found = in_comfyui("-c", code)
    return None if found is None else (found[0], found[1])


def block_traffic(kernels: Kernels | None, chunk_tokens: int = 0) -> tuple[Traffic, int]:
    """One block of A14B at 832x480 and 81 frames in bf16, and the bytes of its hidden state."""
    rule, tokens = expert_dtypes(torch.bfloat16), 32760
    with torch.device("meta"):
        network = WanTransformer3DModel(num_layers=1).eval()
        hidden = torch.empty(1, tokens, 5120, dtype=torch.bfloat16)
        text, temb = (torch.empty(1, count, 5120, dtype=torch.bfloat16) for count in (512, 6))
        angles = torch.empty(1, tokens, 1, 128)
        latents = torch.empty(1, 16, 21, 60, 104)
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(rule(name))
    rotary: Any = (angles, angles)
    if kernels is not None:
        replace_transformer_forward(network, FloatChoices(kernels=kernels, chunk_tokens=chunk_tokens))
        network.rope.to("meta")
        rotary, temb = network.rope(latents), modulation_rows(temb)
    with torch.inference_mode(), Traffic() as traffic:
        network.blocks[0](hidden, text, temb, rotary)
    return traffic, hidden.nbytes


def activations(at: Setting) -> list[Row]:
    del at
    stock, unit = block_traffic(None)
    before = f"{1 + stock.peak / unit:.1f}"
    at_once, in_chunks = (1 + block_traffic("plain", count)[0].peak / unit for count in (0, CHUNK))
    what = "hidden states alive in a block"
    return [
        Row("C15", f"{what}, all tokens at once", f"{at_once:.3g}", "", before, None),
        at_most("C15", f"{what}, {CHUNK} tokens at a time", in_chunks, 6, before),
    ]


def lora(at: Setting) -> list[Row]:
    """What a forward does with a LoRA on the model, and without: it is in the weights before."""
    from memory_use import LORA_RANK
    from safetensors.torch import save_file

    config, tensors = small_model.CONFIG, {}
    width = config["num_attention_heads"] * config["attention_head_dim"]
    for layer in range(config["num_layers"]):
        module = f"transformer.blocks.{layer}.attn1.to_q"
        tensors[f"{module}.lora_A.weight"] = torch.randn(LORA_RANK, width)
        tensors[f"{module}.lora_B.weight"] = torch.randn(width, LORA_RANK)
    file = at.folder / "lora.safetensors"
    save_file(tensors, file)
    moved = []
    for model in (at.model, at.model.with_lora(file, 0.7, "both")):
        network, (noise, prompts) = small_model.load(model, "high"), small_model.inputs()
        with torch.inference_mode(), Traffic() as traffic:
            network(noise, torch.tensor([700.0]), prompts.positive.text, return_dict=False)
        moved.append(traffic.element_wise)
    extra = (moved[1] - moved[0]) / moved[0]
    return [
        Row(
            "C9", "memory traffic that a LoRA adds to a step", f"{extra:.0%}", "none", "+68 passes", not extra
        )
    ]


def compiled_with_cache(at: Setting) -> list[Row]:
    """Blocks that the step cache has computed, and how many of them the compiled graph computed."""
    graphs = 0

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        del inputs

        def run(*values: Tensor) -> Any:
            nonlocal graphs
            graphs += 1
            return graph(*values)

        return run

    torch._dynamo.register_backend(counting, name="counting")
    rows = []
    for name, threshold in (("no cache", None), ("a step cache", REGULAR), ("one that skips", 1e9)):
        graphs, blocks = 0, 0
        cache = None if threshold is None else StepCache(threshold)
        network = small_model.load(at.model, "high")
        replace_transformer_forward(network, FloatChoices(compiler="counting"))

        def called(*_: object) -> None:
            nonlocal blocks
            blocks += 1

        for block in network.blocks:
            block.register_forward_hook(called)
        experts = _Engines(network)
        small_model.sampled(
            experts if cache is None else cache.around(experts), small_model.schedule(), "unipc"
        )
        what = f"compiled graphs run / blocks computed, with {name}"
        rows.append(Row("C10", what, f"{graphs} / {blocks}", "equal", "", graphs == blocks > 0))
    return rows


@dataclass
class _Engines:
    """One network for both experts, which a step cache can be put around."""

    network: WanTransformer3DModel

    def use(self, expert: str) -> Any:
        del expert
        return self

    def predict(
        self, latents: Tensor, timestep: float, condition: Any, cache: BlockCache | None = None
    ) -> Tensor:
        return velocity_of(self.network, latents, timestep, condition, torch.float32, cache)


def vae(at: Setting) -> list[Row]:
    del at
    small = {
        "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12,
        "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16,
        "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
    }  # fmt: skip
    rows = []
    for name, config, shape in (("2.1", {}, (1, 16, 1, 60, 104)), ("2.2", small, (1, 48, 1, 44, 80))):
        found = {}
        for whose in ("stock", "own"):
            with torch.device("meta"):
                network = AutoencoderKLWan(**config).eval().to(torch.bfloat16)
                latent = torch.empty(shape, dtype=torch.bfloat16)
            if whose == "own":
                replace_vae_forward(network)
            cache = new_cache(network.decoder)
            with torch.inference_mode():
                for index in range(3):
                    with Traffic() as traffic:
                        network.decoder(latent, feat_cache=cache, feat_idx=[0], first_chunk=index == 0)
            found[whose] = traffic.element_wise / traffic.convolutions
        what = f"traffic beside the convolutions / theirs, decoding with VAE {name}"
        rows.append(at_most("C16", what, found["own"], 4.0, f"{found['stock']:.1f}"))
    return rows


def arithmetic(at: Setting) -> list[Row]:
    del at
    small = {"num_attention_heads": 24, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48}
    rows = []
    for name, config, shape, stretches in (
        ("A14B", {}, (16, 21, 60, 104), 1),
        ("5B, a timestep per frame", small, (48, 31, 44, 80), 31),
    ):
        config = {**config, "num_layers": 2}
        with torch.device("meta"):
            network = WanTransformer3DModel(**config).eval()
            arguments = torch.empty(1, *shape), torch.zeros(1, stretches), torch.empty(1, 512, 4096)
        replace_transformer_forward(network, FloatChoices())
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(*arguments, return_dict=False)
        share = counter.get_total_flops() / forward_flops(size_of(config), tokens_of(shape)).total
        rows.append(
            Row(
                "C18",
                f"arithmetic counted / predicted, {name}",
                f"{share:.4f}",
                "1.000",
                "",
                abs(share - 1) < 1e-3,
            )
        )
    return rows


def streaming(at: Setting) -> list[Row]:
    del at
    with tempfile.TemporaryDirectory() as folder:
        write_experts(Path(folder), LAYERS)
        recipes = {name: recipe_of(Path(folder), name, LAYERS) for name in ("high", "low")}
        return [
            at_most(
                "C19",
                f"waiting / computing with the switch: {residency}, an expert in {share:.0%} of a forward",
                stall(recipes, residency, share),
                0.02,
            )
            for residency, share in (("ring:3", 0.24), ("ring:3", 0.8), ("auto", 0.8))
        ]

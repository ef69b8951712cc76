"""Parts of `gpu_suite`: whole networks of the real sizes, stock and ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from gpu_bench import Bench, best_attention_of, fused_kernels, relative_l2, token_count
from torch import Tensor


def stock_forward(bench: Bench) -> dict[str, Any]:
    """diffusers' own forward at 480p, with torch's default attention and with cuDNN's."""
    network, found = _network(bench), {}
    found["sdpa"], bench.reference = _measured(bench, network, "tokens_480p", 2)
    if bench.cuda:
        network.set_attention_backend("_native_cudnn")
        try:
            found["cudnn"], made = _measured(bench, network, "tokens_480p", 2)
            found["cudnn"]["vs sdpa"] = relative_l2(made, bench.reference)
        finally:
            network.set_attention_backend("native")
    return found


def own_forward(bench: Bench) -> dict[str, Any]:
    return _own(bench, "tokens_480p", 3)


def own_cudnn(bench: Bench) -> dict[str, Any]:
    """Where FlashAttention 3 is not installed."""
    return _own(bench, "tokens_480p", 2, attention="cudnn" if bench.cuda else "sdpa")


def own_plain(bench: Bench) -> dict[str, Any]:
    return _own(bench, "tokens_480p", 2, kernels="plain")


def own_compiled(bench: Bench) -> dict[str, Any]:
    return _own(bench, "tokens_480p", 3, compiler=_compiler(bench))


def own_traced(bench: Bench) -> dict[str, Any]:
    return _own(bench, "tokens_480p", 2, kernels="plain", compiler=_compiler(bench))


def own_lean(bench: Bench) -> dict[str, Any]:
    """In chunks of tokens: less memory, the same numbers but for rounding."""
    return _own(bench, "tokens_480p", 1, chunk_tokens=40 if bench.tiny else 5460)


def own_720p(bench: Bench) -> dict[str, Any]:
    return _own(bench, "tokens_720p", 1)


def _compiler(bench: Bench) -> str:
    return "inductor" if bench.cuda else "eager"


def chunks(bench: Bench) -> dict[str, Any]:
    """Seconds of two blocks, all tokens at once and in so many parts."""
    from wan_duet.pipelines.kernels.choices import FloatChoices
    from wan_duet.pipelines.networks.transformer import replace_transformer_forward

    network, found = _network(bench), {}
    with _two_blocks(network):
        for label in ("tokens_480p", "tokens_720p"):
            inputs, tokens = _inputs(bench, label), token_count(bench.sizes[label])
            for parts in (1, 2, 3, 4, 5, 6, 8, 12, 1):
                chunk = -(-tokens // parts) if parts > 1 else 0
                choices = FloatChoices(best_attention_of(bench), fused_kernels(bench), chunk)  # type: ignore[arg-type]
                replace_transformer_forward(network, choices)
                network(**inputs)
                found[f"{label} {parts} ({len(found)})"] = min(bench.seconds(lambda: network(**inputs), 3))  # noqa: B023
    return found


def kernel_times(bench: Bench) -> dict[str, Any]:
    """Where the time of two blocks goes, by kernel: the longest, in milliseconds."""
    network, inputs = _network(bench), _inputs(bench, "tokens_480p")
    with _two_blocks(network):
        network(**inputs)
        return _kernels(bench, lambda: network(**inputs))


def step_cache(bench: Bench) -> dict[str, Any]:
    """A forward of which the step cache skips the blocks between, beside a whole one and two blocks alone."""
    from wan_duet.pipelines.networks.step_cache_hook import with_step_cache
    from wan_duet.pipelines.sampling.step_cache import FirstBlockCache

    network, inputs = _network(bench), _inputs(bench, "tokens_480p")
    network(**inputs)
    whole, skipping = FirstBlockCache(-1.0), FirstBlockCache(float("inf"))

    def forward(cache: FirstBlockCache) -> None:
        with with_step_cache(network, cache):
            network(**inputs)

    found: dict[str, Any] = {"whole s": min(bench.seconds(lambda: forward(whole), 2))}
    forward(skipping)
    found["skipping s"] = min(bench.seconds(lambda: forward(skipping), 3))
    found["skipped"] = skipping.skipped
    with _two_blocks(network):
        found["two blocks s"] = min(bench.seconds(lambda: network(**inputs), 3))
    found["overhead of a whole one"] = (found["skipping s"] - found["two blocks s"]) / found["whole s"]
    return found


def block_error(bench: Bench) -> dict[str, Any]:
    """One full-size block in half precision against itself in float32: the stock forward, and ours."""
    from diffusers.models.transformers.transformer_wan import WanTransformerBlock

    from wan_duet.pipelines.kernels.choices import FloatChoices
    from wan_duet.pipelines.kernels.fused import triton_installed
    from wan_duet.pipelines.networks.block import replace_block_forward
    from wan_duet.pipelines.networks.expert import expert_dtypes

    network = _network(bench)
    block = network.blocks[0]
    half = torch.bfloat16
    tokens, width = (60 if bench.tiny else 2048), bench.sizes["width"]
    generator = torch.Generator(bench.device).manual_seed(5)
    hidden, text, temb = (
        torch.randn(1, count, width, generator=generator, device=bench.device).to(half)
        for count in (tokens, 512, 6)
    )
    angles = torch.randn(tokens, width // bench.sizes["heads"] // 2, generator=generator, device=bench.device)
    angles = angles.repeat_interleave(2, -1)[None, :, None]
    rotary = angles.cos(), angles.sin()
    rule = expert_dtypes(half)
    state = {name: tensor.float() for name, tensor in block.state_dict().items()}
    with torch.device("meta"):
        fresh = WanTransformerBlock(width, bench.sizes["ffn"], bench.sizes["heads"], cross_attn_norm=True)
    fresh.load_state_dict(state, assign=True)
    exact = fresh(hidden.float(), text.float(), temb.float(), rotary)
    fresh.load_state_dict({name: tensor.to(rule(name)) for name, tensor in state.items()}, assign=True)
    stock = relative_l2(fresh(hidden, text, temb, rotary), exact)
    found: dict[str, Any] = {"stock": stock}
    kinds = ["plain", *(["triton"] if bench.cuda and triton_installed() else [])]
    attention = best_attention_of(bench)
    for kernels_ in kinds:
        replace_block_forward(fresh, FloatChoices(kernels=kernels_, attention=attention))  # type: ignore[arg-type]
        error = relative_l2(fresh(hidden, text, temb, rotary), exact)
        found[kernels_] = {"error": error, "of stock": error / stock}
    return found


def small_forward(bench: Bench) -> dict[str, Any]:
    """TI2V 5B at 1280x704 and 121 frames with a timestep per frame, against diffusers with one per token."""
    from diffusers import WanTransformer3DModel

    from wan_duet.pipelines.kernels.choices import FloatChoices
    from wan_duet.pipelines.networks.expert import expert_dtypes
    from wan_duet.pipelines.networks.transformer import replace_transformer_forward

    bench.network = None
    bench.forget_peak()
    config = {
        "num_attention_heads": 24,
        "ffn_dim": 14336,
        "num_layers": 30,
        "in_channels": 48,
        "out_channels": 48,
    }
    grid = (31, 44, 80)
    if bench.tiny:
        config |= {"num_attention_heads": 2, "ffn_dim": 256, "num_layers": 2}
        grid = (3, 8, 8)
    with torch.device("meta"):
        network = WanTransformer3DModel(**config)
    rule = expert_dtypes(bench.dtype)
    state = {
        name: torch.empty(p.shape, dtype=rule(name), device=bench.device).normal_(0, 0.02)
        for name, p in network.named_parameters()
    }
    network.load_state_dict(state, assign=True)
    network.rope = type(network.rope)(128, (1, 2, 2), 1024).to(bench.device)
    latents = torch.randn(1, 48, *grid, device=bench.device).to(bench.dtype)
    text = torch.randn(1, 512, 4096, device=bench.device).to(bench.dtype)
    per_frame = torch.full((1, grid[0]), 700.0, device=bench.device)
    per_frame[0, 0] = 0
    per_token = per_frame.repeat_interleave(grid[1] * grid[2] // 4, 1)
    found: dict[str, Any] = {}
    expected = network(latents, per_token, text, return_dict=False)[0]
    bench.forget_peak()
    found["diffusers s"] = min(bench.seconds(lambda: network(latents, per_token, text, return_dict=False), 1))
    found["diffusers peak_gib"] = bench.peak_gib()
    replace_transformer_forward(network, FloatChoices(best_attention_of(bench), fused_kernels(bench)))  # type: ignore[arg-type]
    made = network(latents, per_frame, text, return_dict=False)[0]
    bench.forget_peak()
    found["ours s"] = min(bench.seconds(lambda: network(latents, per_frame, text, return_dict=False), 2))
    found["ours peak_gib"] = bench.peak_gib()
    found["vs diffusers"] = relative_l2(made, expected)
    return found


def lora_merge(bench: Bench) -> dict[str, Any]:
    """The arithmetic of adding one LoRA of rank 64 to every linear layer of an expert, block by block."""
    network, rank = _network(bench), 64
    layers = [module for module in network.blocks.modules() if isinstance(module, torch.nn.Linear)]
    pairs: dict[torch.Size, tuple[Tensor, Tensor]] = {}
    for layer in layers:
        outputs, inputs = layer.weight.shape
        pairs.setdefault(
            layer.weight.shape,
            (
                torch.randn(outputs, rank, device=bench.device).to(bench.dtype),
                torch.randn(rank, inputs, device=bench.device).to(bench.dtype),
            ),
        )

    def work() -> None:
        for layer in layers:
            up, down = pairs[layer.weight.shape]
            torch.addmm(layer.weight.float(), up.float(), down.float(), alpha=1e-4).to(layer.weight.dtype)

    work()
    return {"layers": len(layers), "seconds per expert": min(bench.seconds(work, 2))}


def vae(bench: Bench) -> dict[str, Any]:
    """Decoding 832x480, 81 frames, with the VAE of Wan 2.1: diffusers' forward and ours, both streamed."""
    from diffusers import AutoencoderKLWan

    from wan_duet.pipelines.vae.decode import stream_decode
    from wan_duet.pipelines.vae.forward import replace_vae_forward

    bench.network = bench.reference = None
    bench.forget_peak()
    torch.manual_seed(0)
    config = {"base_dim": 8, "num_res_blocks": 1} if bench.tiny else {}
    with torch.device(bench.device):
        network = AutoencoderKLWan(**config).eval().requires_grad_(False)
    network = network.to(bench.dtype)
    frames, rows, columns = bench.sizes["tokens_480p"]
    latents = torch.randn(1, 16, frames, rows, columns, device=bench.device)
    found: dict[str, Any] = {}

    def decode(count: int | None = None) -> Tensor:
        last = latents
        for frame in stream_decode(network, latents, frames=count):
            last = frame
        return last

    def measured() -> tuple[dict[str, Any], Tensor]:
        begun = time.perf_counter()
        decode(9)
        warm_s = time.perf_counter() - begun
        bench.forget_peak()
        before = torch.cuda.memory_allocated() / 2**30 if bench.cuda else 0.0
        kept: list[Tensor] = []
        times = bench.seconds(lambda: kept.__setitem__(slice(None), [decode()]), 2)
        peak = (bench.peak_gib() or 0.0) - before
        return {"seconds": times, "best": min(times), "warm_up_s": warm_s, "working_gib": peak}, kept[
            0
        ].float()

    found["stock"], theirs = measured()
    replace_vae_forward(network)
    found["ours"], ours = measured()
    found["speedup"] = found["stock"]["best"] / found["ours"]["best"]
    found["last frame vs stock"] = relative_l2(ours, theirs)
    found["kernels of 3 latent frames"] = _kernels(bench, lambda: decode(9))
    return found


def _network(bench: Bench) -> Any:
    from diffusers import WanTransformer3DModel

    from wan_duet.pipelines.networks.expert import expert_dtypes

    if bench.network is None:
        small = {"num_attention_heads": 2, "attention_head_dim": 128, "ffn_dim": 512, "num_layers": 4}
        with torch.device("meta"):
            network = WanTransformer3DModel(**(small if bench.tiny else {}))
        rule, generator = expert_dtypes(bench.dtype), torch.Generator(bench.device).manual_seed(0)
        state = {
            name: torch.empty(parameter.shape, dtype=rule(name), device=bench.device).normal_(
                0, 0.02, generator=generator
            )
            for name, parameter in network.named_parameters()
        }
        for name, tensor in state.items():
            if "norm" in name and name.endswith("weight"):
                tensor.add_(1)
        network.load_state_dict(state, assign=True)
        network.rope = type(network.rope)(128, (1, 2, 2), 1024).to(bench.device)
        bench.network = network.requires_grad_(False).eval()
    return bench.network


def _inputs(bench: Bench, label: str) -> dict[str, Any]:
    generator = torch.Generator(bench.device).manual_seed(3)
    shape = (1, 16, *bench.sizes[label])
    latents, text = (
        torch.randn(size, generator=generator, device=bench.device).to(bench.dtype)
        for size in (shape, (1, 512, 4096))
    )
    return {
        "hidden_states": latents,
        "timestep": torch.tensor([700.0], device=bench.device),
        "encoder_hidden_states": text,
        "return_dict": False,
    }


def _measured(bench: Bench, network: Any, label: str, repeats: int) -> tuple[dict[str, Any], Tensor]:
    """Seconds per forward after a warm-up on two blocks, and what came out."""
    inputs = _inputs(bench, label)
    begun = time.perf_counter()
    with _two_blocks(network):
        network(**inputs)
        network(**inputs)
        bench.sync()
    warm_s = time.perf_counter() - begun
    bench.forget_peak()
    before = torch.cuda.memory_allocated() / 2**30 if bench.cuda else 0.0
    made: list[Tensor] = []

    def work() -> None:
        made[:] = [network(**inputs)[0]]

    times = bench.seconds(work, repeats)
    flops = _flops(bench, token_count(bench.sizes[label]))
    found = {
        "seconds": times,
        "best": min(times),
        "TFLOP/s": flops / min(times) / 1e12,
        "warm_up_s": warm_s,
        "activations_gib": (bench.peak_gib() or 0.0) - before,
    }
    return found, made[0].float()


@contextmanager
def _two_blocks(network: Any) -> Iterator[None]:
    blocks = network.blocks
    network.blocks = blocks[:2]
    try:
        yield
    finally:
        network.blocks = blocks


def _own(bench: Bench, label: str, repeats: int, **choices: Any) -> dict[str, Any]:
    """choices: of FloatChoices, where they are not the quickest ones."""
    from wan_duet.pipelines.kernels.choices import FloatChoices
    from wan_duet.pipelines.networks.transformer import replace_transformer_forward

    network = _network(bench)
    quickest = {"attention": best_attention_of(bench), "kernels": fused_kernels(bench)}
    chosen = FloatChoices(**{**quickest, **choices})
    replace_transformer_forward(network, chosen)
    found, made = _measured(bench, network, label, repeats)
    if label == "tokens_480p" and bench.reference is not None:
        found["vs diffusers"] = relative_l2(made, bench.reference)
    found["finite"] = bool(torch.isfinite(made).all())
    return {"choices": chosen.as_dict(), **found}


def _kernels(bench: Bench, work: Callable[[], object]) -> dict[str, Any]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA] if bench.cuda else [ProfilerActivity.CPU]) as profiler:
        work()
        bench.sync()
    events = profiler.key_averages()
    time_of = "self_device_time_total" if bench.cuda else "self_cpu_time_total"
    longest = sorted(events, key=lambda event: getattr(event, time_of), reverse=True)
    return {
        "all ms": sum(getattr(event, time_of) for event in events) / 1000,
        "longest": [[event.key[:80], event.count, getattr(event, time_of) / 1000] for event in longest[:16]],
    }


def _flops(bench: Bench, tokens: int) -> float:
    from wan_duet.pipelines.plan.flops import NetworkSize, forward_flops

    sizes = bench.sizes
    size = NetworkSize(sizes["width"], sizes["ffn"], 4 if bench.tiny else 40, 16, 16)
    return forward_flops(size, tokens).total

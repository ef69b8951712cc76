"""What one GPU does with the real sizes, on random weights: the parts of the benchmark that need no files.

    python bench/gpu_suite.py -o bench/results/gpu-suite.json [--budget-s 170] [--only forward ...]
    python bench/gpu_suite.py --tiny --device cpu     every part on toy sizes, to see that it runs

A14B at 832x480 and 81 frames is 32760 tokens, at 1280x720 it is 75600. Weights are normal numbers times 0.02,
made on the device: zeros would lower its power draw and flatter it. The file is written after every part, a
part that fails leaves its traceback there, and none is begun that would not end within the budget.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

T0 = time.perf_counter()
A14B = {"tokens_480p": (21, 60, 104), "tokens_720p": (21, 90, 160), "width": 5120, "ffn": 13824, "heads": 40}
TINY = {"tokens_480p": (3, 8, 12), "tokens_720p": (3, 8, 16), "width": 256, "ffn": 512, "heads": 2}


@dataclass
class Bench:
    device: torch.device
    tiny: bool
    output: Path | None
    budget_s: float
    results: dict[str, Any] = field(default_factory=dict)
    network: Any = None  # the full-size expert, made once
    reference: Tensor | None = None  # what diffusers' own forward gives on it

    @property
    def sizes(self) -> dict[str, Any]:
        return TINY if self.tiny else A14B

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.cuda else torch.float32

    def put(self, name: str, value: Any) -> None:
        self.results[name] = value
        if self.output is not None:
            self.output.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], repeats: int = 3) -> list[float]:
        times = []
        for _ in range(repeats):
            self.sync()
            begun = time.perf_counter()
            work()
            self.sync()
            times.append(time.perf_counter() - begun)
        return times

    def peak_gib(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 2**30 if self.cuda else None

    def forget_peak(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    parser.add_argument("--budget-s", type=float, default=170.0)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", default=list(PARTS))
    options = parser.parse_args()
    bench = Bench(torch.device(options.device), options.tiny, options.output, options.budget_s)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    for name, (part, about_s) in PARTS.items():
        if name not in options.only:
            continue
        elapsed = time.perf_counter() - T0
        if elapsed + (0 if options.tiny else about_s) > options.budget_s:
            bench.put(name, {"left out": f"{elapsed:.0f} s of {options.budget_s:.0f} s were gone"})
            continue
        bench.forget_peak()
        try:
            with torch.inference_mode():
                found = part(bench)
        except Exception as error:  # a part that fails must not cost the others
            found = {
                "failed": f"{type(error).__name__}: {error}",
                "traceback": traceback.format_exc()[-3000:],
            }
        found["took_s"] = round(time.perf_counter() - T0 - elapsed, 2)
        if bench.cuda:
            found["peak_gib"] = bench.peak_gib()
        bench.put(name, found)
        print(f"[{time.perf_counter() - T0:6.1f} s] {name}: {_short(found)}", flush=True)
    print(json.dumps(bench.results, indent=1))


def _short(found: dict[str, Any]) -> str:
    text = json.dumps({key: value for key, value in found.items() if key != "traceback"})
    return text if len(text) < 1500 else text[:1500] + " ..."


def about(bench: Bench) -> dict[str, Any]:
    import diffusers
    import transformers

    found: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        found["triton"] = None
    if bench.cuda:
        properties = torch.cuda.get_device_properties(bench.device)
        found |= {
            "device": properties.name,
            "memory_gib": properties.total_memory / 2**30,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def kernels(bench: Bench) -> dict[str, Any]:
    """Every fused operation against float64 arithmetic, beside the plain one in the same dtype."""
    from wan_duet.pipelines.kernels.fused import fused_operations, rms_silu
    from wan_duet.pipelines.kernels.operations import Rope, kitchen_operations, plain_operations
    from wan_duet.pipelines.kernels.traceable import traceable_operations

    width, heads = bench.sizes["width"], bench.sizes["heads"]
    tokens = 24 if bench.tiny else 4095
    generator = torch.Generator(bench.device).manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=bench.device)

    hidden, update = normal(1, tokens, width), normal(1, tokens, width)
    angles = normal(tokens, width // heads // 2) * 3
    found: dict[str, Any] = {}
    candidates = [fused_operations(), kitchen_operations(), traceable_operations()]
    for dtype in (torch.float32, bench.dtype):
        x, u, rms_weight = hidden.to(dtype), update.to(dtype), normal(width).to(dtype)
        for rows in (1, 3):
            weight, bias, gate = (normal(1, rows, 6, width)[:, :, index] for index in range(3))
            one, other = weight[:, :1].contiguous(), bias[:, :1].contiguous()

            def each(do: Any, x: Tensor, u: Tensor, w: Tensor) -> dict[str, Tensor]:
                a, b, g, c, d = weight, bias, gate, one, other  # noqa: B023
                cos, sin = angles.cos(), angles.sin()
                rope = Rope(cos, sin, do.table(cos, sin))
                total, normed = do.gated_norm(x, u, g, c, d, 1e-6)
                plain_sum, with_rows = do.gated_norm(x, u, None, a, b, 1e-6)
                return {
                    "norm": do.norm(x, a, b, 1e-6),
                    "gated": do.gated(x, u, g),
                    "gated_norm.sum": total,
                    "gated_norm.norm": normed,
                    "sum": plain_sum,
                    "sum.norm": with_rows,
                    "turned": do.turned(x.clone(), w, 1e-6, heads, rope),
                }

            exact = _exact(x, u, rms_weight, weight, bias, gate, one, other, angles, heads)
            for do in (plain_operations(), *candidates):
                if do is None or (do.name == "triton" and not bench.cuda):
                    continue
                made = each(do, x, u, rms_weight)
                errors = {name: relative_l2(made[name].flatten(), exact[name].flatten()) for name in exact}
                found[f"{do.name} {_name(dtype)} rows {rows}"] = errors
    if bench.cuda:
        for dtype in (torch.float32, torch.bfloat16):
            pixels, gamma = normal(3, 7, 9, 96).to(dtype), normal(96).to(dtype)
            out = torch.empty_like(pixels)
            rms_silu(pixels, gamma, 96**0.5, out)
            exact_pixels = torch.nn.functional.normalize(pixels.double(), dim=-1) * 96**0.5 * gamma.double()
            expected = torch.nn.functional.silu(exact_pixels)
            found[f"rms_silu {_name(dtype)}"] = relative_l2(out, expected)
        from wan_duet.pipelines.kernels.operations import gelu_linear

        x, w, b = normal(4096, 512).bfloat16(), (normal(1024, 512) * 0.05).bfloat16(), normal(1024).bfloat16()
        expected = torch.nn.functional.gelu((x.double() @ w.double().t()) + b.double(), approximate="tanh")
        found["gelu_linear bf16"] = relative_l2(gelu_linear(x, w, b), expected)
    return found


def _exact(
    x: Tensor,
    u: Tensor,
    rms_weight: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate: Tensor,
    one: Tensor,
    other: Tensor,
    angles: Tensor,
    heads: int,
) -> dict[str, Tensor]:
    """The operations by their definitions, in float64; what is stored in between is rounded."""
    stored = x.dtype

    def spread(m: Tensor) -> Tensor:
        return m.double().repeat_interleave(x.shape[1] // m.shape[1], 1)

    def normed(v: Tensor, w: Tensor, b: Tensor) -> Tensor:
        centred = v - v.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * spread(w) + spread(b)

    xs, us = x.double(), u.double()
    summed = xs + us * spread(gate)
    plain = xs + us
    turned = xs / (xs.square().mean(-1, keepdim=True) + 1e-6).sqrt() * rms_weight.double()
    first, second = turned.unflatten(2, (heads, -1, 2)).unbind(-1)
    cos, sin = angles.double().cos().unsqueeze(1), angles.double().sin().unsqueeze(1)
    pairs = torch.stack((first * cos - second * sin, first * sin + second * cos), -1).flatten(-2)
    return {
        "norm": normed(xs, weight, bias),
        "gated": summed,
        "gated_norm.sum": summed,
        "gated_norm.norm": normed(summed.to(stored).double(), one, other),
        "sum": plain,
        "sum.norm": normed(plain.to(stored).double(), weight, bias),
        "turned": pairs,
    }


def ceilings(bench: Bench) -> dict[str, Any]:
    """TFLOP/s of the products of a block, GB/s of copies."""
    sizes, found = bench.sizes, {}
    tokens = _tokens(sizes["tokens_480p"])
    width, ffn = sizes["width"], sizes["ffn"]
    for inputs, outputs in ((width, width), (width, ffn), (ffn, width)):
        a = torch.randn(tokens, inputs, device=bench.device, dtype=bench.dtype)
        b = torch.randn(outputs, inputs, device=bench.device, dtype=bench.dtype) * 0.02
        bias = torch.zeros(outputs, device=bench.device, dtype=bench.dtype)

        def work(a: Tensor = a, b: Tensor = b, bias: Tensor = bias) -> object:
            return [torch.nn.functional.linear(a, b, bias) for _ in range(10)][-1]

        work()
        best = min(bench.seconds(work))
        found[f"gemm {tokens}x{inputs}x{outputs} TFLOP/s"] = 20 * tokens * inputs * outputs / best / 1e12
    count = 2**20 if bench.tiny else 2**30
    source = torch.randn(count, device=bench.device, dtype=bench.dtype)
    target = torch.empty_like(source)
    target.copy_(source)
    copied = 2 * source.nbytes / min(bench.seconds(lambda: target.copy_(source)))
    found["copy GB/s (read + write)"] = copied / 1e9
    if bench.cuda:
        size = 2**30
        pageable = torch.empty(size, dtype=torch.uint8).random_(0, 255)
        pinned = pageable.pin_memory()
        onto = torch.empty(size, dtype=torch.uint8, device=bench.device)
        for name, host in (("pinned", pinned), ("pageable", pageable)):
            found[f"h2d {name} GB/s"] = size / min(bench.seconds(lambda host=host: onto.copy_(host), 2)) / 1e9  # type: ignore[misc]
    return found


def attention(bench: Bench) -> dict[str, Any]:
    """TFLOP/s of every attention kernel that runs, at both sizes."""
    from wan_duet.pipelines.kernels.attention import attend_with, best_attention, usable_attentions

    sizes = bench.sizes
    heads, head_width = sizes["heads"], sizes["width"] // sizes["heads"]
    usable = usable_attentions(bench.device, bench.dtype)
    found: dict[str, Any] = {"usable": usable, "chosen": best_attention(bench.device, bench.dtype)}
    for label in ("tokens_480p", "tokens_720p"):
        tokens = _tokens(sizes[label])
        q, k, v = (
            torch.randn(1, tokens, heads, head_width, device=bench.device, dtype=bench.dtype)
            for _ in range(3)
        )
        first: Tensor | None = None
        for name, reason in usable.items():
            if reason is not None:
                continue
            attend = attend_with(name)  # type: ignore[arg-type]
            made = attend(q, k, v)
            best = min(bench.seconds(lambda attend=attend, given=(q, k, v): attend(*given), 2))  # type: ignore[misc]
            found[f"{name} {tokens} TFLOP/s"] = 4 * tokens**2 * heads * head_width / best / 1e12
            found[f"{name} {tokens} strides"] = list(made.stride())
            if first is None:
                first = made
            else:
                found[f"{name} {tokens} vs first"] = relative_l2(made[:, :2048], first[:, :2048])
    return found


def _network(bench: Bench) -> Any:
    from diffusers import WanTransformer3DModel

    from wan_duet.pipelines.models.expert import expert_dtypes

    if bench.network is None:
        small = {"num_attention_heads": 2, "attention_head_dim": 128, "ffn_dim": 512, "num_layers": 2}
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
    inputs, blocks = _inputs(bench, label), network.blocks
    begun = time.perf_counter()
    network.blocks = blocks[:2]
    try:
        network(**inputs)
        network(**inputs)
        bench.sync()
    finally:
        network.blocks = blocks
    warm_s = time.perf_counter() - begun
    bench.forget_peak()
    before = torch.cuda.memory_allocated() / 2**30 if bench.cuda else 0.0
    made: list[Tensor] = []

    def work() -> None:
        made[:] = [network(**inputs)[0]]

    times = bench.seconds(work, repeats)
    flops = _flops(bench, _tokens(bench.sizes[label]))
    found = {
        "seconds": times,
        "best": min(times),
        "TFLOP/s": flops / min(times) / 1e12,
        "warm_up_s": warm_s,
        "activations_gib": (bench.peak_gib() or 0.0) - before,
    }
    return found, made[0].float()


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


def _own(bench: Bench, label: str, repeats: int, **choices: Any) -> dict[str, Any]:
    from wan_duet.pipelines.kernels.choices import FloatChoices
    from wan_duet.pipelines.models.network import use_own_forward

    network = _network(bench)
    chosen = FloatChoices(**choices)
    use_own_forward(network, chosen)
    found, made = _measured(bench, network, label, repeats)
    if label == "tokens_480p" and bench.reference is not None:
        found["vs diffusers"] = relative_l2(made, bench.reference)
    found["finite"] = bool(torch.isfinite(made).all())
    return {"choices": chosen.as_dict(), **found}


def _best_attention(bench: Bench) -> Any:
    from wan_duet.pipelines.kernels.attention import best_attention

    return best_attention(bench.device, bench.dtype)


def _fused(bench: Bench) -> str:
    return "triton" if bench.cuda else "plain"


def own_forward(bench: Bench) -> dict[str, Any]:
    return _own(bench, "tokens_480p", 3, attention=_best_attention(bench), kernels=_fused(bench))


def own_plain(bench: Bench) -> dict[str, Any]:
    return _own(bench, "tokens_480p", 2, attention=_best_attention(bench))


def own_compiled(bench: Bench) -> dict[str, Any]:
    compiler = "inductor" if bench.cuda else "eager"
    return _own(
        bench, "tokens_480p", 3, attention=_best_attention(bench), kernels=_fused(bench), compiler=compiler
    )


def own_traced(bench: Bench) -> dict[str, Any]:
    compiler = "inductor" if bench.cuda else "eager"
    return _own(bench, "tokens_480p", 2, attention=_best_attention(bench), compiler=compiler)


def own_lean(bench: Bench) -> dict[str, Any]:
    """In chunks of tokens: less memory, the same numbers but for rounding."""
    chunk = 40 if bench.tiny else 8192
    return _own(
        bench, "tokens_480p", 1, attention=_best_attention(bench), kernels=_fused(bench), chunk_tokens=chunk
    )


def own_720p(bench: Bench) -> dict[str, Any]:
    return _own(bench, "tokens_720p", 1, attention=_best_attention(bench), kernels=_fused(bench))


def block_error(bench: Bench) -> dict[str, Any]:
    """One full-size block in half precision against itself in float32: the stock forward, and ours."""
    from diffusers.models.transformers.transformer_wan import WanTransformerBlock

    from wan_duet.pipelines.kernels.choices import FloatChoices
    from wan_duet.pipelines.kernels.fused import triton_works
    from wan_duet.pipelines.models.block import use_own_block
    from wan_duet.pipelines.models.expert import expert_dtypes

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
    kinds = ["plain", *(["triton"] if bench.cuda and triton_works() else [])]
    attention = _best_attention(bench)
    for kernels_ in kinds:
        use_own_block(fresh, FloatChoices(kernels=kernels_, attention=attention))  # type: ignore[arg-type]
        error = relative_l2(fresh(hidden, text, temb, rotary), exact)
        found[kernels_] = {"error": error, "of stock": error / stock}
    return found


def small_forward(bench: Bench) -> dict[str, Any]:
    """TI2V 5B at 1280x704 and 121 frames with a timestep per frame, against diffusers with one per token."""
    from diffusers import WanTransformer3DModel

    from wan_duet.pipelines.kernels.choices import FloatChoices
    from wan_duet.pipelines.models.expert import expert_dtypes
    from wan_duet.pipelines.models.network import use_own_forward

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
    use_own_forward(network, FloatChoices(_best_attention(bench), _fused(bench)))  # type: ignore[arg-type]
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

    from wan_duet.pipelines.media.vae_decode import stream_decode
    from wan_duet.pipelines.models.own_vae import use_own_vae

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
    use_own_vae(network)
    found["ours"], ours = measured()
    found["speedup"] = found["stock"]["best"] / found["ours"]["best"]
    found["last frame vs stock"] = relative_l2(ours, theirs)
    return found


def _tokens(grid: tuple[int, int, int]) -> int:
    frames, rows, columns = grid
    return frames * rows * columns // 4


def _flops(bench: Bench, tokens: int) -> float:
    from wan_duet.pipelines.plan.flops import Size, forward_flops

    sizes = bench.sizes
    size = Size(sizes["width"], sizes["ffn"], 2 if bench.tiny else 40, 16, 16)
    return forward_flops(size, tokens).total


def relative_l2(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


PARTS: dict[str, tuple[Callable[[Bench], dict[str, Any]], float]] = {
    "about": (about, 0),
    "kernels": (kernels, 6),
    "ceilings": (ceilings, 6),
    "attention": (attention, 8),
    "block error": (block_error, 6),
    "stock forward": (stock_forward, 22),  # before ours: it leaves the network as diffusers has it
    "own forward": (own_forward, 12),
    "own plain": (own_plain, 8),
    "own lean": (own_lean, 5),
    "own compiled": (own_compiled, 30),
    "own 720p": (own_720p, 14),
    "lora merge": (lora_merge, 3),
    "own traced": (own_traced, 30),
    "vae": (vae, 15),
    "small forward": (small_forward, 12),
}
"""Each with about how many seconds it takes on an H200."""

if __name__ == "__main__":
    main()

"""Parts of `gpu_suite`: kernels by themselves, their errors and their rates."""

from __future__ import annotations

from typing import Any

import torch
from gpu_bench import Bench, best_attention_of, dtype_name, relative_l2, token_count
from torch import Tensor


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
                    "turned": do.turned(x.clone, w, 1e-6, heads, rope),
                }

            exact = _exact(x, u, rms_weight, weight, bias, gate, one, other, angles, heads)
            for do in (plain_operations(), *candidates):
                if do is None or (do.name == "triton" and not bench.cuda):
                    continue
                made = each(do, x, u, rms_weight)
                errors = {name: relative_l2(made[name].flatten(), exact[name].flatten()) for name in exact}
                found[f"{do.name} {dtype_name(dtype)} rows {rows}"] = errors
    if bench.cuda:
        for dtype in (torch.float32, torch.bfloat16):
            pixels, gamma = normal(3, 7, 9, 96).to(dtype), normal(96).to(dtype)
            out = torch.empty_like(pixels)
            rms_silu(pixels, gamma, 96**0.5, out)
            exact_pixels = torch.nn.functional.normalize(pixels.double(), dim=-1) * 96**0.5 * gamma.double()
            expected = torch.nn.functional.silu(exact_pixels)
            found[f"rms_silu {dtype_name(dtype)}"] = relative_l2(out, expected)
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
    tokens = token_count(sizes["tokens_480p"])
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
    if bench.cuda:
        found["gemm float8 TFLOP/s"] = _float8_product(bench, tokens, width, ffn)
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


def _float8_product(bench: Bench, tokens: int, width: int, ffn: int) -> float:
    """TFLOP/s of a product in float8 with one scale each: what nothing here uses yet could give."""
    a = torch.randn(tokens, width, device=bench.device).to(torch.float8_e4m3fn)
    b = torch.randn(ffn, width, device=bench.device).to(torch.float8_e4m3fn)
    one = torch.ones((), device=bench.device)

    def work() -> object:
        made = [
            torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16) for _ in range(10)
        ]
        return made[-1]

    work()
    return 20 * tokens * width * ffn / min(bench.seconds(work)) / 1e12


def attention(bench: Bench) -> dict[str, Any]:
    """TFLOP/s of every attention kernel that runs, at both sizes."""
    from wan_duet.pipelines.kernels.attention import attend_with, why_not
    from wan_duet.pipelines.kernels.kernel_names import ATTENTIONS

    sizes = bench.sizes
    heads, head_width = sizes["heads"], sizes["width"] // sizes["heads"]
    usable = {name: why_not(name, bench.device, bench.dtype) for name in ATTENTIONS}
    found: dict[str, Any] = {"usable": usable, "chosen": best_attention_of(bench)}
    for label in ("tokens_480p", "tokens_720p"):
        tokens = token_count(sizes[label])
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


def floor(bench: Bench) -> dict[str, Any]:
    """The products of a forward at 480p and nothing else, then its self-attention alone, in seconds.

    As many as in a forward: a GPU that has worked for a second multiplies slower than a fresh one.
    """
    from wan_duet.pipelines.kernels.attention import attend_with

    sizes, layers = bench.sizes, 4 if bench.tiny else 40
    tokens, width = token_count(sizes["tokens_480p"]), sizes["width"]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=bench.device, dtype=bench.dtype)

    given = _products_of_a_block(bench)

    def products() -> None:
        for _ in range(layers):
            for rows, weight in given:
                torch.nn.functional.linear(rows, weight)

    qkv = [normal(1, tokens, sizes["heads"], width // sizes["heads"]) for _ in range(3)]
    attend = attend_with(best_attention_of(bench))

    def attention() -> None:
        for _ in range(layers):
            attend(*qkv)

    found: dict[str, Any] = {"attention by": best_attention_of(bench)}
    flops = {
        "products": 2 * layers * tokens * sum(weight.numel() for _, weight in given),
        "attention": 4 * layers * tokens**2 * width,
    }
    for name, work in (("products", products), ("attention", attention)):
        best = min(bench.seconds(work, 2))
        found[f"{name} s"], found[f"{name} TFLOP/s"] = best, flops[name] / best / 1e12
    return found


def _products_of_a_block(bench: Bench) -> list[tuple[Tensor, Tensor]]:
    """The hidden states and the weight of each product with tokens in a block, at 480p."""
    tokens, width, ffn = token_count(bench.sizes["tokens_480p"]), bench.sizes["width"], bench.sizes["ffn"]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=bench.device, dtype=bench.dtype)

    hidden, wide = normal(tokens, width), normal(tokens, ffn)
    square, widen, narrow = normal(width, width), normal(ffn, width), normal(width, ffn)
    return [(hidden, square)] * 6 + [(hidden, widen), (wide, narrow)]


_PARTS = {
    "fp8": ("weight_e4m3", "row_scale"),
    "int8": ("weight_int8", "row_scale"),
    "mxfp8": ("weight_e4m3", "block_scale"),
    "nvfp4": ("weight_e2m1", "block_scale", "factor"),
}
_RANK = 64  # of the LoRA beside each product


def stored_products(bench: Bench) -> dict[str, Any]:
    """The products of a block as `precision: stored` computes them, relative to those in the plain dtype.

    Quantising the tokens is part of them. The second number has a LoRA of rank 64 beside each; the third is
    the peak memory in GiB.
    """
    from wan_duet.pipelines.kernels.stored_products import choose_way

    given = _products_of_a_block(bench)

    def all_of(multiply: Any, operands: list[Any]) -> float:
        def work() -> None:
            for operand, (tokens, _) in zip(operands, given, strict=True):
                multiply(operand, tokens)

        work()
        return min(bench.seconds(work))

    plain = all_of(lambda weight, tokens: torch.nn.functional.linear(tokens, weight), [w for _, w in given])
    found: dict[str, Any] = {"plain s": plain, "plain dtype": dtype_name(bench.dtype)}
    for product in _PARTS:
        way, reason = choose_way(product, bench.device)  # type: ignore[arg-type]
        if way is None:
            found[product] = reason
            continue
        bench.forget_peak()
        for rank in (0, _RANK):
            layers = [_stored_layer(product, way, weight, rank) for _, weight in given]
            seconds = all_of(lambda layer, tokens: layer(tokens), layers)
            found[f"{product} by {way}{', LoRA' if rank else ''}"] = seconds / plain
        found[f"{product} peak GiB"] = bench.peak_gib()
    return found


def _stored_layer(product: Any, way: str, weight: Tensor, rank: int) -> Any:
    from wan_duet.pipelines.kernels.stored_products import StoredLayer, quantised_matrix
    from wan_duet.pipelines.networks.stored_linear import StoredLinear

    out, into = weight.shape
    parts = dict(zip(_PARTS[product], quantised_matrix(product, weight.float()), strict=True))
    if rank:
        parts |= {"lora_down": weight.new_ones(rank, into), "lora_up": weight.new_ones(out, rank)}
    shapes = tuple((name, tuple(part.shape)) for name, part in parts.items())
    made = StoredLinear(StoredLayer(way, (out, into), shapes, rank=rank), None)
    for name, part in parts.items():
        made.register_parameter(name, torch.nn.Parameter(part, requires_grad=False))
    return made

"""The triton kernels behind `fused`. Imported when the first of them is launched.

One program holds all channels of one token in registers; BLOCK is the next power of two. Each row of the
modulation is for a number of consecutive tokens of a batch entry.
"""

# triton compiles these functions from their source: types, and which names are constants, are its language.
# mypy: ignore-errors
# ruff: noqa: N803
import triton
import triton.language as tl

__all__ = ["norm_kernel", "rms_silu_kernel", "turn_kernel"]


@triton.jit
def norm_kernel(
    hidden,
    update,
    gate,
    weight,
    bias,
    total,
    normed,
    tokens,
    width,
    gate_tokens,
    gate_batch,
    gate_row,
    norm_tokens,
    weight_batch,
    weight_row,
    bias_batch,
    bias_row,
    eps,
    SUMS: tl.constexpr,
    GATES: tl.constexpr,
    NORMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute total = hidden + update * gate, and normed = layer norm of the stored total."""
    token = tl.program_id(0).to(tl.int64)
    batch = token // tokens
    channels = tl.arange(0, BLOCK)
    inside = channels < width
    place = token * width + channels
    numbers = tl.load(hidden + place, mask=inside, other=0.0).to(tl.float32)
    if SUMS:
        added = tl.load(update + place, mask=inside, other=0.0).to(tl.float32)
        if GATES:
            gates = gate + batch * gate_batch + (token % tokens) // gate_tokens * gate_row
            added *= tl.load(gates + channels, mask=inside, other=0.0)
        rounded = (numbers + added).to(total.dtype.element_ty)
        tl.store(total + place, rounded, mask=inside)
        numbers = rounded.to(tl.float32)
    if NORMS:
        mean = tl.sum(numbers, 0) / width
        centred = tl.where(inside, numbers - mean, 0.0)
        scale = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / width + eps)
        row = (token % tokens) // norm_tokens
        times = tl.load(weight + batch * weight_batch + row * weight_row + channels, mask=inside, other=0.0)
        plus = tl.load(bias + batch * bias_batch + row * bias_row + channels, mask=inside, other=0.0)
        answer = centred * scale * times + plus
        tl.store(normed + place, answer.to(normed.dtype.element_ty), mask=inside)


@triton.jit
def turn_kernel(
    projection,
    weight,
    cos,
    sin,
    tokens,
    width,
    pairs_per_head,
    eps,
    BLOCK: tl.constexpr,
):
    """Compute RMS norm over all channels, then rotate every pair of channels by the angle of its position.

    In place.
    """
    token = tl.program_id(0).to(tl.int64)
    channels = tl.arange(0, BLOCK)
    inside = channels < width
    place = projection + token * width + channels
    numbers = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(numbers * numbers, 0) / width + eps)
    numbers *= scale * tl.load(weight + channels, mask=inside, other=0.0).to(tl.float32)
    pairs = tl.arange(0, BLOCK // 2)
    angle = (token % tokens) * pairs_per_head + pairs % pairs_per_head
    pair_inside = pairs < width // 2
    cosine = tl.load(cos + angle, mask=pair_inside, other=0.0)
    sine = tl.load(sin + angle, mask=pair_inside, other=0.0)
    first, second = tl.split(tl.reshape(numbers, (BLOCK // 2, 2)))
    turned = tl.join(first * cosine - second * sine, first * sine + second * cosine)
    tl.store(place, tl.reshape(turned, (BLOCK,)).to(projection.dtype.element_ty), mask=inside)


@triton.jit
def rms_silu_kernel(
    pixels,
    gamma,
    out,
    count,
    width,
    scale,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute silu(x / |x| * scale * gamma) over the contiguous channels of each pixel."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    channels = tl.arange(0, BLOCK)[None, :]
    inside = (rows < count) & (channels < width)
    place = rows * width + channels
    numbers = tl.load(pixels + place, mask=inside, other=0.0).to(tl.float32)
    length = tl.maximum(tl.sqrt(tl.sum(numbers * numbers, 1)), 1e-12)[:, None]
    weights = tl.load(gamma + channels, mask=channels < width, other=0.0).to(tl.float32)
    normed = numbers / length * scale * weights
    answer = normed / (1.0 + tl.exp(-normed))
    tl.store(out + place, answer.to(out.dtype.element_ty), mask=inside)

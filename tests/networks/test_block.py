"""Our forward of the Wan transformer against diffusers' own, on equal weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from tiny_transformer import PLAIN, SHAPE, own, relative_l2, stock
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from traffic import Traffic

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.kernels.attention import attend_with
from wan_duet.pipelines.kernels.choices import FloatChoices, Preferences
from wan_duet.pipelines.kernels.kernel_names import ATTENTIONS
from wan_duet.pipelines.kernels.operations import Rope, plain_operations
from wan_duet.pipelines.networks.block import OwnBlock
from wan_duet.pipelines.networks.expert import expert_dtypes
from wan_duet.pipelines.networks.transformer import replace_transformer_forward


@torch.inference_mode()
def run(network: WanTransformer3DModel, timestep: Tensor | None = None, seed: int = 1, **more: Any) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(SHAPE, generator=generator).to(network.patch_embedding.weight.dtype)
    text = torch.randn(1, 512, 16, generator=generator).to(latents.dtype)
    timestep = torch.tensor([640.0]) if timestep is None else timestep
    return network(latents, timestep, text, return_dict=False, **more)[0].float()


@pytest.mark.parametrize("chunk_tokens", [0, 7, 20, 59])
@pytest.mark.parametrize("compiler", [None, "eager"])
def test_in_float32_it_is_the_stock_block(chunk_tokens: int, compiler: str | None) -> None:
    theirs = stock()
    ours = own(theirs, FloatChoices(chunk_tokens=chunk_tokens, compiler=compiler))
    assert all(isinstance(block, OwnBlock) for block in ours.blocks)
    assert relative_l2(run(ours), run(theirs)) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 3])  # three take the way of devices without a mixed-precision norm
def test_in_half_precision_it_errs_no_more_than_the_stock_block(dtype: torch.dtype, rows: int) -> None:
    exact, theirs = stock(), stock(dtype)
    ours, timestep = own(theirs), torch.full((1, rows), 640.0)
    stock_error, our_error = (
        sum(relative_l2(run(net, step, seed), run(exact, None, seed)) for seed in range(16))
        for net, step in ((theirs, None), (ours, timestep))
    )
    assert our_error <= 1.05 * stock_error


def test_parts_of_a_batch_are_those_of_each_clip() -> None:
    """A part of a batch of two is not memory in one piece."""
    ours = own(stock(), FloatChoices(chunk_tokens=20))
    generator = torch.Generator().manual_seed(4)
    latents, text = (torch.randn(2, *shape, generator=generator) for shape in (SHAPE[1:], (512, 16)))
    both, *each = (
        run_on(ours, latents[chosen], text[chosen]) for chosen in (slice(None), slice(0, 1), slice(1, 2))
    )
    assert relative_l2(both, torch.cat(each)) <= 1e-6


@torch.inference_mode()
def run_on(network: WanTransformer3DModel, latents: Tensor, text: Tensor) -> Tensor:
    timestep = torch.full((len(latents),), 640.0)
    return network(latents, timestep, text, return_dict=False)[0]


@pytest.mark.parametrize("chunk_tokens", [0, 25])
def test_a_timestep_per_frame_is_one_per_token(chunk_tokens: int) -> None:
    theirs, frames = stock(), torch.tensor([[0.0, 640.0, 900.0]])
    ours = own(theirs, FloatChoices(chunk_tokens=chunk_tokens))
    assert relative_l2(run(ours, frames), run(theirs, frames.repeat_interleave(20, 1))) <= 1e-5
    assert relative_l2(run(ours, frames), run(ours)) > 1e-2


def test_one_timestep_for_every_frame_is_one_timestep() -> None:
    ours = own(stock())
    assert relative_l2(run(ours, torch.full((1, 3), 640.0)), run(ours)) <= 1e-5


def test_timesteps_that_do_not_divide_the_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="7 timesteps do not divide 60 tokens"):
        run(own(stock()), torch.ones(1, 7))


def test_the_image_that_wan_2_1_attends_to_is_attended_to() -> None:
    theirs = stock(image_dim=24, added_kv_proj_dim=128)
    image = torch.randn(1, 9, 24, generator=torch.Generator().manual_seed(5))
    with_image = run(own(theirs), encoder_hidden_states_image=image)
    assert relative_l2(with_image, run(theirs, encoder_hidden_states_image=image)) <= 1e-5


def test_blocks_take_the_positions_of_diffusers_too() -> None:
    theirs = stock()
    ours = own(theirs)
    generator = torch.Generator().manual_seed(2)
    hidden, text = (torch.randn(1, count, 128, generator=generator) for count in (60, 512))
    arguments = hidden, text, torch.randn(1, 6, 128, generator=generator), theirs.rope(torch.zeros(SHAPE))
    assert relative_l2(ours.blocks[0](*arguments), theirs.blocks[0](*arguments)) <= 1e-5


def test_the_input_of_a_block_stays_what_it_was() -> None:
    block, rope = own(stock()).blocks[0], stock().rope(torch.zeros(SHAPE))
    hidden = torch.randn(1, 60, 128)
    before = hidden.clone()
    block(hidden, torch.randn(1, 512, 128), torch.randn(1, 6, 128), rope)
    assert torch.equal(hidden, before)


def test_one_compiled_graph_serves_the_blocks_of_both_experts() -> None:
    from wan_duet.pipelines.networks import block as module

    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(module._forward, backend=counter)
    rope = own(stock()).rope(torch.zeros(SHAPE))
    choices = FloatChoices(compiler="eager")  # with the operations that are compiled
    for expert in (own(stock(), choices), own(stock(num_layers=3), choices)):
        for block in expert.blocks:
            with torch.inference_mode():
                compiled(
                    block, torch.randn(1, 60, 128), torch.randn(1, 512, 128), torch.randn(1, 6, 128), rope
                )
    assert counter.frame_count == 1


def test_choices_change_no_switch_of_the_process() -> None:
    switches = (
        "flash_sdp_enabled",
        "mem_efficient_sdp_enabled",
        "math_sdp_enabled",
        "cudnn_sdp_enabled",
    )
    before = [getattr(torch.backends.cuda, name)() for name in switches]
    run(own(stock(), Preferences().resolve(torch.device("cpu"), torch.float32)))
    assert [getattr(torch.backends.cuda, name)() for name in switches] == before


def test_every_kernel_that_runs_here_attends_alike() -> None:
    query, key, value = (torch.randn(1, count, 2, 32) for count in (50, 30, 30))
    expected = torch.softmax(torch.einsum("bnhd,bmhd->bhnm", query, key) / 32**0.5, -1)
    expected = torch.einsum("bhnm,bmhd->bnhd", expected, value)
    assert relative_l2(attend_with("sdpa")(query, key, value), expected) <= 1e-5


def test_what_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="'flash9' is unknown; give one of flash3, cudnn"):
        FloatChoices(attention="flash9")  # type: ignore[arg-type]
    for name in set(ATTENTIONS) - {"sdpa", "cudnn", "flash2"}:
        with pytest.raises(ModelError, match=f"{name} needs a missing package"):
            attend_with(name)


def test_a_wish_that_the_device_cannot_grant_is_refused_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    for wish, says in (
        (Preferences(attention="flash3"), "attention: flash3 does not run on cpu here: .*package"),
        (Preferences(attention="cudnn"), "attention: cudnn does not run on cpu here"),
        (Preferences(compiler="no such thing"), "compile: no such thing does not run on cpu here"),
    ):
        with pytest.raises(ModelError, match=says):
            wish.resolve(cpu, torch.float32)
    assert Preferences(attention="sdpa", compiler="eager").resolve(cpu, torch.float32).compiler == "eager"


class Dtypes(TorchDispatchMode):
    """Notes the dtype of everything that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        made = func(*args, **(kwargs or {}))
        self.seen |= {leaf.dtype for leaf in tree_leaves(made) if isinstance(leaf, Tensor)}
        return made


@pytest.mark.parametrize("choices", [PLAIN, FloatChoices(chunk_tokens=20), FloatChoices(compiler="eager")])
def test_no_complex_number_is_computed(choices: FloatChoices) -> None:
    with Dtypes() as dtypes:
        run(own(stock(torch.bfloat16), choices))
    assert torch.bfloat16 in dtypes.seen
    assert [dtype for dtype in dtypes.seen if dtype.is_complex] == []


def test_only_sage_is_lossy() -> None:
    assert [name for name in ATTENTIONS if replace(PLAIN, attention=name).lossy] == ["sage"]


def full_size(choices: FloatChoices | None) -> tuple[Traffic, int]:
    """What a block of A14B moves at 480p and 81 frames, and the bytes of a hidden state."""
    rule, tokens = expert_dtypes(torch.bfloat16), 32760
    with torch.device("meta"):
        network = WanTransformer3DModel(num_layers=1).eval()
        hidden = torch.empty(1, tokens, 5120, dtype=torch.bfloat16)
        text, temb = (torch.empty(1, count, 5120, dtype=torch.bfloat16) for count in (512, 6))
        angles = torch.empty(1, tokens, 1, 128)
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(rule(name))
    if choices is not None:
        replace_transformer_forward(network, choices)
    with torch.inference_mode(), Traffic() as traffic:
        network.blocks[0](hidden, text, temb, (angles, angles))
    return traffic, hidden.nbytes


def test_the_stock_block_makes_about_125_passes_over_its_hidden_state() -> None:
    traffic, unit = full_size(None)
    assert 120 <= traffic.element_wise / unit <= 132


def test_plain_torch_makes_no_more_than_51_passes() -> None:
    traffic, unit = full_size(FloatChoices())
    assert traffic.element_wise <= 51 * unit
    assert traffic.kernel_count <= 45
    assert traffic.peak + unit <= 7.2 * unit


def test_in_chunks_no_more_than_6_hidden_states_are_alive() -> None:
    traffic, unit = full_size(FloatChoices(chunk_tokens=5460))
    assert traffic.peak + unit <= 6 * unit


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rotation_has_the_bits_of_a_complex_product(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(2, 33, 64, generator=generator).to(dtype)
    angles = torch.randn(33, 8, generator=generator)
    rope = Rope(angles.cos(), angles.sin())
    weight = torch.rand(64, generator=generator).to(dtype)

    turned = plain_operations().turned(lambda: projection, weight, 1e-6, 4, rope)

    normed = torch.nn.functional.rms_norm(projection, (64,), weight, 1e-6).unflatten(2, (4, -1))
    pairs = torch.view_as_complex(normed.float().unflatten(-1, (-1, 2)).contiguous())
    product = pairs * torch.complex(rope.cos, rope.sin).unsqueeze(1)
    assert torch.equal(turned, torch.view_as_real(product).flatten(-2).to(dtype))

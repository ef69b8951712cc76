"""The step cache skips what would change little, per expert and condition, and says how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.hooks import FirstBlockCacheConfig
from torch import Tensor

from wan_duet.pipelines.networks.expert import forward_bytes, token_count
from wan_duet.pipelines.networks.step_cache_hook import with_step_cache
from wan_duet.pipelines.plan.cache_choice import CacheChoice
from wan_duet.pipelines.sampling.cached_forward import BlockCache
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.sampling.first_block_cache import FirstBlockCache
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.sampling.step_cache import CACHED_SHARE, StepCache

POSITIVE, NEGATIVE = Condition(torch.zeros(1, 1, 1)), Condition(torch.ones(1, 1, 1))


@dataclass
class Blocks:
    """An engine of three blocks: the first adds what it is told to, the second 10, the last doubles."""

    first: float = 1.0
    computed: int = 0

    def predict(
        self, latents: Tensor, timestep: float, condition: Condition, cache: BlockCache | None = None
    ) -> Tensor:
        after = latents + self.first
        hidden = None if cache is None else cache.after_first(latents, after)
        if hidden is None:
            self.computed += 1
            hidden = after + 10
            if cache is not None:
                cache.before_last(hidden)
        return hidden * 2


def first_block(threshold: float) -> StepCache:
    return StepCache(CacheChoice("first-block", threshold), Schedule((1.0, 0.0), (900.0,), ("high",)))


@dataclass
class Pair:
    engines: dict[str, Blocks] = field(default_factory=lambda: {"high": Blocks(), "low": Blocks()})

    def use(self, expert: str) -> Blocks:
        return self.engines[expert]


def test_a_forward_whose_first_block_changes_little_is_skipped() -> None:
    pair, cache = Pair(), first_block(0.1)
    experts = cache.around(pair)
    for first, latents, result, computed in (
        (1.0, 0.0, 22.0, 1),  # nothing is known yet
        (1.05, 3.0, 28.1, 1),  # 5 % away: 3 + 1.05 + 10, doubled
        (1.2, 0.0, 22.4, 2),  # 20 % away
        (1.25, 0.0, 22.5, 2),  # near the last one that was computed
    ):
        pair.engines["high"].first = first
        velocity = experts.use("high").predict(torch.full((1, 4, 2), latents), 900.0, POSITIVE)
        assert float(velocity.mean()) == pytest.approx(result)
        assert pair.engines["high"].computed == computed
    counted = cache.as_dict()
    assert (counted["forwards"], counted["skipped"]) == ({"high": 4}, {"high": 2})


def test_small_changes_that_add_up_are_noticed() -> None:
    """Each is compared with the last forward that was computed, not with the one before."""
    pair, cache = Pair(), first_block(0.1)
    engine = cache.around(pair).use("high")
    for step in range(6):
        pair.engines["high"].first = 1.0 + 0.04 * step
        engine.predict(torch.zeros(1, 4, 2), 900.0, POSITIVE)
    assert pair.engines["high"].computed == 2


def test_prompt_and_negative_prompt_remember_their_own() -> None:
    pair, cache = Pair(), first_block(0.1)
    engine = cache.around(pair).use("high")
    for first, condition in ((1.0, POSITIVE), (2.0, NEGATIVE), (1.0, POSITIVE), (2.0, NEGATIVE)):
        pair.engines["high"].first = first
        engine.predict(torch.zeros(1, 4, 2), 900.0, condition)
    assert pair.engines["high"].computed == 2
    assert cache.as_dict()["skipped"] == {"high": 2}


def test_nothing_is_carried_over_the_boundary() -> None:
    pair, cache = Pair(), first_block(0.1)
    experts = cache.around(pair)
    for expert in ("high", "high", "low", "low", "high"):
        experts.use(expert).predict(torch.zeros(1, 4, 2), 900.0, POSITIVE)
    assert (pair.engines["high"].computed, pair.engines["low"].computed) == (2, 1)
    assert cache.as_dict()["skipped"] == {"high": 1, "low": 1}


@pytest.fixture(scope="module")
def network() -> WanTransformer3DModel:
    torch.manual_seed(0)
    return WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8, freq_dim=16,
        ffn_dim=32, num_layers=4, rope_max_seq_len=32,
    ).eval()  # fmt: skip


@torch.inference_mode()
def forward(network: WanTransformer3DModel, seed: int, cache: BlockCache | None = None) -> Tensor:
    latents = torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    text = torch.ones(1, 3, 8)
    with with_step_cache(network, cache):
        return network(latents, torch.tensor([500.0]), text, return_dict=False)[0]


def test_the_network_gives_the_same_bits_while_nothing_is_skipped(network: WanTransformer3DModel) -> None:
    before = network.blocks
    cache = FirstBlockCache(0.0)
    assert torch.equal(forward(network, 0, cache), forward(network, 0))
    assert torch.equal(forward(network, 1, cache), forward(network, 1))
    assert cache.skipped == 0
    assert network.blocks is before


def test_only_the_first_and_the_last_block_work_in_a_skipped_forward(network: WanTransformer3DModel) -> None:
    seen: list[int] = []
    hooks = [
        block.register_forward_hook(lambda *_, number=number: seen.append(number))
        for number, block in enumerate(network.blocks)
    ]
    try:
        cache = FirstBlockCache(1e9)
        first, again = forward(network, 0, cache), forward(network, 0, cache)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == [0, 1, 2, 3, 0, 3]
    torch.testing.assert_close(again, first)
    assert (cache.forwards, cache.skipped) == (2, 1)


def test_a_forward_that_fails_leaves_the_network_as_it_was(network: WanTransformer3DModel) -> None:
    class Broken(FirstBlockCache):
        def before_last(self, hidden: Tensor) -> None:
            raise RuntimeError

    before = network.blocks
    with pytest.raises(RuntimeError):
        forward(network, 0, Broken(0.0))
    assert network.blocks is before


def test_compiled_blocks_stay_compiled(network: WanTransformer3DModel) -> None:
    """What compiling a block sets is what is called in it; hooks of diffusers go around that."""
    called: list[int] = []
    for number, block in enumerate(network.blocks):
        plain = block.forward

        def compiled(*arguments: Tensor, number: int = number, plain: object = plain) -> Tensor:
            called.append(number)
            return plain(*arguments)  # type: ignore[operator]

        block._compiled_call_impl = compiled
    try:
        cache = FirstBlockCache(1e9)
        forward(network, 0, cache)
        forward(network, 0, cache)
    finally:
        for block in network.blocks:
            block._compiled_call_impl = None
    assert called == [0, 1, 2, 3, 0, 3]


@pytest.mark.parametrize("threshold", [0.02, 0.2, 0.6])
def test_it_decides_as_the_first_block_cache_of_diffusers(
    network: WanTransformer3DModel, threshold: float
) -> None:
    """Along a path of small and large steps: the same forwards are skipped."""
    path = [0.0, 0.01, 0.05, 0.2, 0.21, 0.5, 1.0, 1.01]
    one, other = (torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    steps = [one + (other - one) * share for share in path]

    def skipped(run: object) -> list[bool]:
        worked: list[int] = []
        hook = network.blocks[1].ffn.register_forward_hook(lambda *_: worked.append(1))
        decisions = []
        try:
            for step in steps:
                before = len(worked)
                run(step)  # type: ignore[operator]
                decisions.append(len(worked) == before)
        finally:
            hook.remove()
        return decisions

    @torch.inference_mode()
    def plain(step: Tensor) -> None:
        network(step, torch.tensor([500.0]), torch.ones(1, 3, 8), return_dict=False)

    cache = FirstBlockCache(threshold)

    def ours(step: Tensor) -> None:
        with with_step_cache(network, cache):
            plain(step)

    network.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    try:
        with network.cache_context("test"):
            theirs = skipped(plain)
    finally:
        network.disable_cache()
    assert skipped(ours) == theirs
    assert any(theirs)
    assert not all(theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"num_attention_heads": 40, "ffn_dim": 13824}, (16, 21, 60, 104)),
        ({"num_attention_heads": 24, "ffn_dim": 14336}, (48, 31, 44, 80)),
    ],
)
def test_what_a_step_cache_keeps_is_foretold(
    config: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Two hidden states for each of two conditions."""
    hidden = token_count(config, shape) * config["num_attention_heads"] * 128 * dtype.itemsize
    assert 4 * hidden <= CACHED_SHARE * forward_bytes(config, shape, dtype) <= 16 * hidden

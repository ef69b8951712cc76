"""What may come in on a CONDITIONING, and what is refused by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wan_duet.nodes.conditioning import from_conditioning, to_conditioning
from wan_duet.pipelines.errors import SamplingError
from wan_duet.pipelines.models.wan_model import WanModel, load_model

WIDTH = 128


@pytest.fixture(scope="module")
def model() -> WanModel:
    return load_model("toy")


def conditioning(tokens: int = 5, **options: object) -> list[Any]:
    return [[torch.randn(1, tokens, WIDTH, generator=torch.Generator().manual_seed(0)), options]]


@pytest.mark.parametrize("tokens", [1, 5, 512, 700])
def test_any_length_is_padded_with_zeros_to_what_the_expert_knows(model: WanModel, tokens: int) -> None:
    given = conditioning(tokens)
    text = from_conditioning(given, "positive", model).text
    assert text.shape == (1, max(tokens, 512), WIDTH)
    assert torch.equal(text[:, :tokens], given[0][0])
    assert not text[:, tokens:].any()


def test_what_goes_out_comes_in_again_unchanged(model: WanModel) -> None:
    embeddings = torch.randn(1, 512, WIDTH)
    assert torch.equal(from_conditioning(to_conditioning(embeddings), "positive", model).text, embeddings)


def test_half_precision_on_another_node_is_understood(model: WanModel) -> None:
    given = conditioning()
    given[0][0] = given[0][0].half()
    assert from_conditioning(given, "positive", model).text.dtype == torch.float32


@pytest.mark.parametrize(
    "harmless",
    [
        {"pooled_output": None},
        {"pooled_output": torch.ones(1, 8)},
        {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0},
        {"clip_start_percent": 0.0, "clip_end_percent": 1.0},
        {"unclip_conditioning": None, "control": None},
        {"attention_mask": torch.ones(1, 5)},
    ],
)
def test_keys_that_change_nothing_pass(model: WanModel, harmless: dict[str, object]) -> None:
    from_conditioning(conditioning(**harmless), "positive", model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("area", (8, 8, 0, 0)),
        ("mask", torch.ones(1, 8, 8)),
        ("strength", 0.5),
        ("start_percent", 0.1),
        ("end_percent", 0.9),
        ("clip_end_percent", 0.5),
        ("hooks", SimpleNamespace()),
        ("control", SimpleNamespace()),
        ("gligen", ("position", None, [])),
        ("reference_latents", [torch.zeros(1)]),
        ("clip_vision_output", SimpleNamespace()),
        ("concat_latent_image", torch.zeros(1)),
        ("concat_mask", torch.zeros(1)),
        ("time_dim_concat", torch.zeros(1)),
        ("attention_mask", torch.tensor([[1, 1, 1, 0, 0]])),
        ("something_new", 1),
    ],
)
def test_keys_that_would_be_ignored_are_refused_by_name(model: WanModel, key: str, value: object) -> None:
    with pytest.raises(SamplingError, match=f"positive: carries {key},"):
        from_conditioning(conditioning(**{key: value}), "positive", model)


def test_mask_over_padding_passes(model: WanModel) -> None:
    given = conditioning(attention_mask=torch.tensor([[1, 1, 1, 0, 0]]))
    given[0][0][:, 3:] = 0
    from_conditioning(given, "positive", model)


@pytest.mark.parametrize("count", [0, 2])
def test_combined_conditionings_are_refused(model: WanModel, count: int) -> None:
    with pytest.raises(SamplingError, match=f"negative: {count} conditionings"):
        from_conditioning(conditioning() * count, "negative", model)


@pytest.mark.parametrize("shape", [(1, 5, 4096), (2, 5, WIDTH), (5, WIDTH)])
def test_embeddings_of_another_encoder_are_refused(model: WanModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(SamplingError, match="positive: embeddings of shape"):
        from_conditioning([[torch.zeros(shape), {}]], "positive", model)

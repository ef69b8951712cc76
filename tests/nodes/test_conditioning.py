"""What may come in on a CONDITIONING, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wan_duet.nodes.conditioning import from_conditioning, to_conditioning, with_images
from wan_duet.pipelines.errors import SamplingError
from wan_duet.pipelines.generate.conditions import ImageConditions, condition_channels, image_mask
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.plan.families import FAMILIES

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
    with pytest.raises(SamplingError, match=f"positive: has {key},"):
        from_conditioning(conditioning(**{key: value}), "positive", model)


@pytest.fixture
def image_model(model: WanModel) -> WanModel:
    return replace(model, family=FAMILIES["toy-image"])


SHAPE = (1, 16, 3, 4, 6)


def pictures(**more: torch.Tensor) -> ImageConditions:
    latents = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    return ImageConditions(latents=latents, mask=image_mask(SHAPE, last=1), **more)


def test_a_picture_goes_out_and_in_as_core_has_it(image_model: WanModel) -> None:
    given = pictures()
    sent = with_images(conditioning(), given)
    mask = sent[0][1]["concat_mask"]
    assert torch.equal(mask[0, :, 0, 0, 0], torch.zeros(4))  # core: 0 where a frame is given
    assert torch.equal(mask[0, :, -1, 0, 0], torch.tensor([1.0, 1.0, 1.0, 0.0]))
    channels = from_conditioning(sent, "positive", image_model).channels
    assert given.mask is not None
    assert given.latents is not None
    assert channels is not None
    assert torch.equal(channels, condition_channels(given.mask, given.latents, image_model.vae))


def test_cores_one_channel_mask_stands_for_all_four(image_model: WanModel) -> None:
    mask = torch.ones(1, 1, *SHAPE[2:])
    mask[:, :, 0] = 0
    sent = conditioning(concat_latent_image=torch.zeros(SHAPE), concat_mask=mask)
    channels = from_conditioning(sent, "positive", image_model).channels
    assert channels is not None
    assert torch.equal(channels[:, :4], image_mask(SHAPE, last=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concat_mask": torch.ones(1, 1, 3, 4, 6)}, "without concat_latent_image"),
        ({"concat_latent_image": torch.zeros(1, 48, 3, 4, 6)}, r"needs \(1, 16,"),
        (
            {"concat_latent_image": torch.zeros(SHAPE), "concat_mask": torch.ones(1, 1, 2, 4, 6)},
            "concat_mask has shape",
        ),
    ],
)
def test_a_picture_of_another_shape_is_refused(
    image_model: WanModel, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SamplingError, match=message):
        from_conditioning(conditioning(**options), "positive", image_model)


def test_what_clip_saw_is_read_by_wan_21_and_passed_over_by_the_others(image_model: WanModel) -> None:
    sent = with_images(conditioning(), pictures(features=torch.ones(1, 5, 8)))
    reading = replace(image_model, family=replace(image_model.family, uses_clip=True))
    seen = from_conditioning(sent, "positive", reading).clip_features
    assert seen is not None
    assert torch.equal(seen, torch.ones(1, 5, 8))
    assert from_conditioning(sent, "positive", image_model).clip_features is None
    with pytest.raises(SamplingError, match="shorten the prompt"):
        from_conditioning(with_images(conditioning(513), pictures()), "positive", reading)


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

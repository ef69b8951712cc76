"""What may come in on a LATENT, and what is refused by name."""

from __future__ import annotations

import copy

import pytest
import torch

from wan_duet.nodes.latents import from_latent, incoming, latents_to_sample, noise_level, to_latent
from wan_duet.pipelines.errors import SamplingError

VIDEO = torch.randn(1, 16, 5, 8, 14, generator=torch.Generator().manual_seed(0))


def test_what_goes_out_comes_in_again_unchanged() -> None:
    assert torch.equal(from_latent(to_latent(VIDEO)), VIDEO)


def test_half_precision_becomes_float32() -> None:
    assert from_latent({"samples": VIDEO.half()}).dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 16, 5, 8, 14), (1, 16, 8, 14)])
def test_batches_and_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SamplingError, match="latent: shape"):
        from_latent({"samples": torch.zeros(shape)})


def test_noise_mask_is_refused_where_it_would_matter() -> None:
    masked = {"samples": VIDEO, "noise_mask": torch.zeros(1, 1, 8, 14)}
    with pytest.raises(SamplingError, match="noise_mask"):
        latents_to_sample(masked)
    assert torch.equal(from_latent(masked), VIDEO)  # decoding does not look at it
    latents, given = latents_to_sample({**masked, "noise_mask": torch.ones(1, 1, 8, 14)})
    assert torch.equal(latents, VIDEO)
    assert given is None


def test_whole_frames_may_stay_on_a_model_that_can_keep_them() -> None:
    given = torch.tensor([True, False, False, False, True])
    latent = to_latent(VIDEO, given)
    assert torch.equal(latents_to_sample(latent, frames_stay=True)[1], given)
    with pytest.raises(SamplingError, match="cannot keep a part"):
        latents_to_sample(latent)


@pytest.mark.parametrize(
    "mask",
    [torch.zeros(1, 1, 8, 14), torch.full((1, 1, 5, 8, 14), 0.5), torch.eye(14)[:8].expand(1, 1, 5, 8, 14)],
)
def test_parts_of_frames_are_refused_there_too(mask: torch.Tensor) -> None:
    with pytest.raises(SamplingError, match="only whole frames"):
        latents_to_sample({"samples": VIDEO, "noise_mask": mask}, frames_stay=True)


def test_place_in_a_batch_is_refused_where_it_would_change_the_noise() -> None:
    assert torch.equal(latents_to_sample({"samples": VIDEO, "batch_index": [0]})[0], VIDEO)
    with pytest.raises(SamplingError, match="batch_index"):
        latents_to_sample({"samples": VIDEO, "batch_index": [3]})


def test_a_latent_carries_its_noise_level_until_a_node_changes_it() -> None:
    latent = to_latent(VIDEO, level=0.875)
    assert noise_level(latent) == noise_level(dict(latent)) == noise_level(copy.deepcopy(latent)) == 0.875
    changed = {**latent, "samples": VIDEO * 2}
    assert noise_level(changed) is None
    assert incoming(changed).changed
    assert noise_level({"samples": VIDEO}) is None
    assert not incoming({"samples": VIDEO}).changed


def test_only_zeros_are_an_empty_latent() -> None:
    assert incoming({"samples": torch.zeros(1, 16, 1, 2, 2)}).empty
    assert not incoming({"samples": VIDEO}).empty

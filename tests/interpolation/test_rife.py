from __future__ import annotations

from pathlib import Path

import frame_nets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.interpolation.rife import RifeNet, rife_keys, rife_layout

REFERENCE = Path(frame_nets.__file__).with_name("frame_nets.safetensors")


def network(version: str, scale: float = 1.0) -> RifeNet:
    """As a file of that version would make it."""
    named = own_names(frame_nets.weights(frame_nets.RIFE[version].shapes()))
    net = RifeNet(rife_layout({name: tuple(tensor.shape) for name, tensor in named.items()}), scale)
    net.load_state_dict(named)
    return net.eval().requires_grad_(False)


def own_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    names = rife_keys([*tensors])
    return {names[key]: tensor for key, tensor in tensors.items() if key in names}


def drawn(net: RifeNet, a: Tensor, b: Tensor, times: list[float]) -> list[Tensor]:
    return list(net.interpolate(net.prepare(a), net.prepare(b), times))


@pytest.mark.parametrize("version", frame_nets.RIFE)
def test_every_version_draws_what_the_reference_draws(version: str) -> None:
    net = network(version)
    (picture,) = drawn(net, *frame_nets.pictures(*frame_nets.RIFE[version].size), [frame_nets.T])
    expected = load_file(REFERENCE)[f"rife {version}"]
    torch.testing.assert_close(frame_nets.sampled(picture), expected, rtol=0, atol=1e-5)


def test_4_0_starts_again_at_half_the_size_where_motion_is_fast() -> None:
    net = network("4.0")
    net.load_state_dict(own_names(frame_nets.fast(frame_nets.weights(frame_nets.RIFE["4.0"].shapes()))))
    (picture,) = drawn(net, *frame_nets.pictures(*frame_nets.RIFE["4.0"].size), [frame_nets.T])
    expected = load_file(REFERENCE)["rife 4.0, fast motion"]
    # Positions are sums of moves of tens of pixels, so their rounding shows more.
    torch.testing.assert_close(frame_nets.sampled(picture), expected, rtol=0, atol=1e-4)


def test_half_scale_draws_what_the_reference_draws() -> None:
    (picture,) = drawn(network("4.7", 0.5), *frame_nets.pictures(64, 128), [frame_nets.T])
    expected = load_file(REFERENCE)["rife 4.7 at half scale"]
    torch.testing.assert_close(frame_nets.sampled(picture), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("version", "scale", "alignment"),
    [
        ("4.0", 1, 64),
        ("4.2", 1, 32),
        ("4.7", 1, 32),
        ("4.7", 0.5, 64),
        ("4.7", 4, 8),
        ("4.25", 1, 64),
        ("4.25.lite", 1, 128),
        ("4.25", 0.25, 256),
    ],
)
def test_frames_are_padded_for_the_coarsest_block(version: str, scale: float, alignment: int) -> None:
    shapes = own_names({key: torch.empty(shape) for key, shape in frame_nets.RIFE[version].shapes().items()})
    layout = rife_layout({name: tuple(tensor.shape) for name, tensor in shapes.items()})
    assert RifeNet(layout, scale).alignment == alignment


def test_without_motion_a_frame_comes_out_as_it_went_in() -> None:
    net = network("4.15.lite")
    for block in net.blocks:  # the flow of every block is zero, whatever it sees; the mask is not
        block.lastconv[0].weight.zero_()
        block.lastconv[0].bias.zero_()
        block.lastconv[0].bias[16:20] = 0.7
    a, _ = frame_nets.pictures(32, 32)
    for picture in drawn(net, a, a, [0.2, 0.5, 0.8]):
        torch.testing.assert_close(picture, a, rtol=0, atol=1e-5)


def test_motion_is_followed_in_proportion_to_time() -> None:
    """Weights that say: everything moves by eight pixels, and the first frame is right."""
    net = network("4.15.lite")
    for block in net.blocks:
        block.lastconv[0].weight.zero_()
        block.lastconv[0].bias.zero_()
    net.blocks[-1].lastconv[0].bias[0:4] = -2.0  # four places of the pixel shuffle: motion to the right
    net.blocks[-1].lastconv[0].bias[16:20] = 50.0
    a, b = frame_nets.pictures(32, 64)
    (picture,) = drawn(net, a, b, [0.5])
    torch.testing.assert_close(picture[..., 2:], a[..., :-2], rtol=0, atol=1e-4)


def test_half_precision_moves_pixels_by_less_than_a_level() -> None:
    """Only the convolutions are in half precision: the grid, the flow and the frames are not."""
    a, b = frame_nets.pictures(64, 64)
    (exact,) = drawn(network("4.7"), a, b, [0.5])
    (half,) = drawn(network("4.7").to(torch.bfloat16), a, b, [0.5])
    assert half.dtype == torch.float32
    assert float((half - exact).abs().mean()) < 1 / 255


@pytest.mark.parametrize("prefix", ["", "module.", "flownet.", "module.flownet."])
def test_prefixes_and_training_parts_do_not_matter(prefix: str) -> None:
    keys = [key.replace("module.", prefix) for key in frame_nets.RIFE["4.25"].shapes()]
    names = rife_keys([*keys, f"{prefix}teacher.conv0.0.0.weight", f"{prefix}caltime.0.weight"])
    assert [*names] == keys
    assert {*names.values()} == {*rife_keys([*frame_nets.RIFE["4.25"].shapes()]).values()}


@given(st.lists(st.text(max_size=30), max_size=8))
def test_keys_of_any_file_can_be_asked_for(keys: list[str]) -> None:
    assert {*rife_keys(keys)} <= {*keys}


@pytest.mark.parametrize("version", ["4.0", "4.2"])
def test_parts_that_draw_details_in_the_slow_mode_of_their_authors_do_not_matter(version: str) -> None:
    keys = [*frame_nets.RIFE[version].shapes()]
    more = ["contextnet.conv1.conv1.0.weight", "unet.down0.conv1.0.weight", "block_tea.conv0.0.0.weight"]
    assert [*rife_keys([*keys, *(f"module.{key}" for key in more)])] == keys


def test_other_layers_are_refused() -> None:
    shapes = {"blocks.0.conv0.0.0.weight": (96, 7, 3, 3), "blocks.0.conv0.1.0.weight": (192, 96, 3, 3)}
    with pytest.raises(ModelError, match=r"unknown version .*3\.9 and 4\.0 to 4\.26 work"):
        rife_layout(shapes)


def test_an_unknown_number_of_blocks_is_refused() -> None:
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in own_names(
            {key: torch.empty(shape) for key, shape in frame_nets.RIFE["4.25"].shapes().items()}
        ).items()
    }
    three = {name: shape for name, shape in shapes.items() if not name.startswith(("blocks.3", "blocks.4"))}
    with pytest.raises(ModelError, match="3 blocks"):
        rife_layout(three)

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import frame_nets
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.interpolation.film import FilmNet, film_keys, film_layout, is_film

REFERENCE = Path(frame_nets.__file__).with_name("frame_nets.safetensors")


@pytest.fixture
def net() -> FilmNet:
    """As a file with narrow layers would make it."""
    tensors = frame_nets.weights(frame_nets.TINY_FILM)
    names = film_keys([*tensors])
    named = {names[key]: tensor for key, tensor in tensors.items()}
    net = FilmNet(film_layout({name: tuple(tensor.shape) for name, tensor in named.items()}))
    net.load_state_dict(named)
    return net.eval().requires_grad_(False)


def drawn(net: FilmNet, a: Tensor, b: Tensor, times: Sequence[float]) -> list[Tensor]:
    return list(net.interpolate(net.prepare(a), net.prepare(b), times))


@pytest.mark.parametrize("t", [0.5, 0.25])
def test_it_draws_what_the_reference_draws(net: FilmNet, t: float) -> None:
    (picture,) = drawn(net, *frame_nets.pictures(*frame_nets.FILM_SIZE), [t])
    torch.testing.assert_close(
        frame_nets.sampled(picture), load_file(REFERENCE)[f"film {t}"], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("dialect", [".conv.", ".0.", "."])
def test_the_published_file_fits_tensor_by_tensor(dialect: str) -> None:
    shapes = {key.replace(".conv.", dialect): shape for key, shape in frame_nets.film_shapes().items()}
    named = {name: shapes[key] for key, name in film_keys([*shapes]).items()}
    assert is_film([*named])
    with torch.device("meta"):
        net = FilmNet(film_layout(named))
    assert {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} == named
    assert (len(named), sum(tensor.numel() for tensor in net.parameters())) == (82, 34_436_667)


def test_three_frames_are_three_middles(net: FilmNet) -> None:
    a, b = frame_nets.pictures(64, 64)
    first, middle, last = drawn(net, a, b, [0.25, 0.5, 0.75])
    assert torch.equal(middle, drawn(net, a, b, [0.5])[0])
    assert torch.equal(first, drawn(net, a, middle.clamp(0, 1), [0.5])[0])
    assert torch.equal(last, drawn(net, middle.clamp(0, 1), b, [0.5])[0])


def test_other_numbers_of_frames_shorten_the_flow(net: FilmNet) -> None:
    a, b = frame_nets.pictures(64, 64)
    assert torch.equal(drawn(net, a, b, [1 / 3, 2 / 3])[1], drawn(net, a, b, [2 / 3])[0])


def test_without_motion_a_frame_comes_out_as_it_went_in(net: FilmNet) -> None:
    be_still(net)
    pass_the_pictures_on(net)
    a, _ = frame_nets.pictures(64, 64)
    for picture in drawn(net, a, a, [0.25, 0.5, 0.75]):
        torch.testing.assert_close(picture, a, rtol=0, atol=1e-5)


def test_a_fraction_of_the_flow_is_followed_from_either_side(net: FilmNet) -> None:
    """All move by eight pixels to the right: the picture of each frame is fetched from where it was."""
    be_still(net)
    pass_the_pictures_on(net)
    a, b = frame_nets.pictures(64, 64)
    before, after = net.prepare(a), net.prepare(b)
    there = [torch.zeros_like(look[:, :2]) for look in before.images[:5]]
    back = [flow.clone() for flow in there]
    there[0][:, 0], back[0][:, 0] = 8.0, -8.0
    picture = net(before, after, (there, back), 0.25)
    expected = (a[..., 6:-10] + b[..., 14:-2]) / 2
    torch.testing.assert_close(picture[..., 8:-8], expected, rtol=0, atol=1e-4)


def be_still(net: FilmNet) -> None:
    for name, tensor in net.named_parameters():
        if "._convs.4." in name:
            tensor.zero_()


def pass_the_pictures_on(net: FilmNet) -> None:
    """The finest level of the fusion takes the mean of both pictures, and later layers leave it alone."""
    _, join, smooth = net.fuse.convs[3]
    for conv in (join, smooth, net.fuse.output_conv):
        conv.weight.zero_()
        conv.bias.zero_()
    for colour in range(3):
        join.weight[colour, colour, 1, 1] = join.weight[colour, 3 + 4 + colour, 1, 1] = 0.5
        smooth.weight[colour, colour, 1, 1] = net.fuse.output_conv.weight[colour, colour, 0, 0] = 1.0


def test_a_missing_flow_network_is_refused_by_name() -> None:
    named = {name: frame_nets.TINY_FILM[key] for key, name in film_keys([*frame_nets.TINY_FILM]).items()}
    del named["predict_flow._predictors.1._convs.0.weight"]
    with pytest.raises(ModelError, match=r"_predictors\.1\._convs\.0\.weight"):
        film_layout(named)

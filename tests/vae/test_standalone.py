"""A VAE alone, in a file or in somebody else's memory, decodes as it does within its model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.generate.frame_stages import decode
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.vae.latent_space import load_vae
from wan_duet.pipelines.vae.standalone import HasVae, read_vae, vae_of_tensors


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(toy_folder() / "vae" / "diffusion_pytorch_model.safetensors")


def frames(source: HasVae) -> Tensor:
    latents = torch.randn(1, 16, 2, 4, 8, generator=torch.Generator().manual_seed(0))
    return torch.stack(list(decode(source, latents, DeviceMemory("cpu"), Silent())))


def test_it_decodes_as_the_file_does(tensors: dict[str, Tensor]) -> None:
    held = vae_of_tensors(tensors, torch.float32)
    assert torch.equal(frames(held), frames(replace(load_model("toy"), precision="fp32")))


def test_a_file_or_folder_alone_is_enough() -> None:
    folder = toy_folder() / "vae"
    expected = frames(replace(load_model("toy"), precision="fp32"))
    for path in (folder, folder / "diffusion_pytorch_model.safetensors"):
        assert torch.equal(frames(read_vae(path, "fp32")), expected)


def test_another_file_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"diffusion_pytorch_model\.safetensors"):
        read_vae(toy_folder() / "transformer" / "diffusion_pytorch_model.safetensors", "fp32")


def test_the_tensors_are_used_where_they_are(tensors: dict[str, Tensor]) -> None:
    dtype = tensors["decoder.conv_in.weight"].dtype
    network = load_vae(vae_of_tensors(tensors, dtype).vae, dtype, DeviceMemory("cpu"), lambda: None)
    assert network.decoder.conv_in.weight.data_ptr() == tensors["decoder.conv_in.weight"].data_ptr()


def test_another_vae_is_refused(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match="the connected VAE"):
        vae_of_tensors({"decoder.up.0.weight": torch.zeros(1)}, torch.float32)
    with pytest.raises(ModelError, match=r"fp32, bf16 or fp16"):
        vae_of_tensors(tensors, torch.float64)

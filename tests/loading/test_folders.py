"""Loading: what a folder in diffusers layout says about itself, and that its networks compute what they
should.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experts import resident
from safetensors.torch import save_file
from transformers import AutoTokenizer, UMT5EncoderModel

from wan_duet.pipelines.device.memory import DeviceMemory, compute_dtype
from wan_duet.pipelines.device.precision import Part
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.networks.expert import meta_expert
from wan_duet.pipelines.networks.text_encoder import load_text_encoder
from wan_duet.pipelines.networks.tokenizer import clean_prompt
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.streaming.executor import Executor
from wan_duet.pipelines.vae.decode import stream_decode
from wan_duet.pipelines.vae.latent_space import denormalise, load_vae, normalise
from wan_duet.pipelines.weights.recipe import Recipe

CPU = DeviceMemory("cpu")


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return load_model("toy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded model that no longer says it is one."""
    copy = tmp_path / "model"
    shutil.copytree(toy_folder(), copy)
    index = json.loads((copy / "model_index.json").read_text())
    del index["wan_duet"]
    (copy / "model_index.json").write_text(json.dumps(index))
    return copy


def edit_config(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_embedded_model_has_two_experts_and_its_own_family(toy: WanModel) -> None:
    assert toy.family.name == "toy"
    assert set(toy.experts) == {"high", "low"}
    assert toy.boundary == 0.875


def test_a_folder_with_two_sixteen_channel_experts_is_text_to_video_a14b(folder: Path) -> None:
    model = load_model(folder)
    assert model.family.name == "wan2.2-t2v-a14b"
    assert model.boundary == 0.875


def test_a_boundary_in_the_folder_wins_over_the_family(folder: Path) -> None:
    edit_config(folder / "model_index.json", boundary_ratio=0.8)
    assert load_model(folder).boundary == 0.8


def test_a_folder_with_one_expert_is_wan_2_1(folder: Path) -> None:
    shutil.rmtree(folder / "transformer_2")
    model = load_model(folder)
    assert model.family.name == "wan2.1-t2v-1.3b"
    assert model.boundary is None


def test_experts_of_two_models_are_refused(folder: Path) -> None:
    edit_config(folder / "transformer_2" / "config.json", in_channels=36)
    with pytest.raises(ModelError, match="16 and 36 input channels"):
        load_model(folder)


def test_the_vae_of_another_family_is_refused(folder: Path) -> None:
    edit_config(folder / "vae" / "config.json", z_dim=48)
    with pytest.raises(ModelError, match=r"48 latent channels.*needs 16"):
        load_model(folder)


@pytest.mark.parametrize("part", ["model_index.json", "transformer", "vae", "text_encoder"])
def test_a_missing_part_is_named(folder: Path, part: str) -> None:
    target = folder / part
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(ModelError, match=part):
        load_model(folder)


def test_a_model_that_is_not_there_says_what_would_be(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError,
        match=r"'toy' or 'toy-image' or 'toy-speech', a folder in diffusers layout.*https://\S+/diffusion_models",
    ):
        load_model(tmp_path / "nothing")


def test_hashes_name_every_file_by_content(toy: WanModel, folder: Path) -> None:
    hashes = toy.hashes()
    assert hashes == load_model(folder).hashes()
    assert {name.split("/")[0] for name in hashes} == {"high", "low", "vae", "text_encoder"}
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = load_model(folder).hashes()
    assert [name for name in hashes if hashes[name] != changed[name]] == [
        "vae/diffusion_pytorch_model.safetensors"
    ]


@torch.inference_mode()
def test_a_prompt_at_its_true_length_equals_padding_and_masking(toy: WanModel) -> None:
    encoder = load_text_encoder(toy.text_encoder, toy.tokenizer, 512, torch.float32, CPU, lambda: None)
    ours = encoder.encode("a red ball moves left")
    tokenizer = AutoTokenizer.from_pretrained(toy.tokenizer)
    stock = UMT5EncoderModel.from_pretrained(toy_folder() / "text_encoder").float()
    padded = tokenizer("a red ball moves left", padding="max_length", max_length=512, return_tensors="pt")
    theirs = stock(padded.input_ids, attention_mask=padded.attention_mask).last_hidden_state
    length = int(padded.attention_mask.sum())
    assert ours.tokens == length
    assert torch.allclose(ours.embeddings[:, :length], theirs[:, :length], atol=1e-5)
    assert not ours.embeddings[:, length:].any()


@torch.inference_mode()
def test_a_prompt_that_is_too_long_says_how_much_is_not_read(toy: WanModel) -> None:
    encoder = load_text_encoder(toy.text_encoder, toy.tokenizer, 512, torch.float32, CPU, lambda: None)
    encoded = encoder.encode("ball " * 700)
    assert encoded.tokens == 512
    assert encoded.dropped == 189  # 700 words and the end mark


def test_prompts_are_cleaned_as_the_official_tokenizer_does() -> None:
    assert clean_prompt("  a &amp;amp; b\n\n c\t") == "a & b c"


def test_normalising_is_undone_exactly_enough(toy: WanModel) -> None:
    latents = torch.randn(1, 16, 2, 4, 4)
    assert torch.allclose(denormalise(normalise(latents, toy.vae), toy.vae), latents, atol=1e-5)


@torch.inference_mode()
def test_the_vae_turns_five_latent_frames_into_seventeen(toy: WanModel) -> None:
    vae = load_vae(toy.vae, torch.float32, CPU, lambda: None)
    frames = list(stream_decode(vae, torch.zeros(1, 16, 5, 8, 8)))
    assert [frame.shape for frame in frames] == [(3, 64, 64)] * 17


def test_precision_auto_is_exact_on_a_cpu() -> None:
    assert compute_dtype("auto", CPU, "transformer") == torch.float32
    assert compute_dtype("bf16", CPU, "transformer") == torch.bfloat16


class Elsewhere:
    """A Memory on a device that is not the CPU and holds no data: enough to see what was left behind."""

    device = torch.device("meta")

    def auto_dtype(self, part: Part) -> torch.dtype:
        return torch.float32

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None: ...

    def release(self) -> None: ...

    def free_bytes(self) -> None: ...

    def take(self, working_bytes: int = 0) -> None: ...

    def keep(self, resident: object) -> None: ...


@torch.inference_mode()
@pytest.mark.parametrize("name", ["vae", "text_encoder"])
def test_everything_a_network_needs_is_on_the_device(toy: WanModel, name: str) -> None:
    if name == "vae":
        network = load_vae(toy.vae, torch.bfloat16, Elsewhere(), lambda: None)
    else:
        network = load_text_encoder(
            toy.text_encoder, toy.tokenizer, 512, torch.bfloat16, Elsewhere(), lambda: None
        )._network
    left = [
        item for item, tensor in network.state_dict(keep_vars=True).items() if tensor.device.type != "meta"
    ]
    left += [item for item, tensor in network.named_buffers() if tensor.device.type != "meta"]
    assert left == []


@torch.inference_mode()
def test_an_expert_runs_on_another_device(toy: WanModel) -> None:
    latents = torch.zeros(1, 16, 2, 4, 4, device="meta")
    text = torch.zeros(1, 512, 128, device="meta")
    residency = resident(toy.experts, torch.bfloat16)
    with Executor(toy.experts, torch.bfloat16, Elsewhere(), lambda: None, residency=residency) as experts:
        velocity = experts.use("high").predict(latents, 900.0, Condition(text))
    assert (velocity.shape, velocity.dtype) == (latents.shape, torch.float32)


def test_t5_keeps_what_overflows_in_half_precision(toy: WanModel) -> None:
    encoder = load_text_encoder(toy.text_encoder, toy.tokenizer, 512, torch.float16, CPU, lambda: None)
    feed_forward = encoder._network.encoder.block[0].layer[-1].DenseReluDense
    assert (feed_forward.wo.weight.dtype, feed_forward.wi_0.weight.dtype) == (torch.float32, torch.float16)


def test_a_toy_without_its_second_expert_is_refused(folder: Path) -> None:
    edit_config(folder / "model_index.json", wan_duet={"family": "toy"})
    shutil.rmtree(folder / "transformer_2")
    with pytest.raises(ModelError, match="has 1 transformers, but toy needs 2"):
        load_model(folder)


def test_two_loras_of_one_name_have_two_hashes(toy: WanModel, tmp_path: Path) -> None:
    shape = toy.experts["high"].tensors["blocks.0.attn1.to_q.weight"].shape
    for index, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        parts = {"A": torch.full((1, shape[1]), float(index)), "B": torch.ones(shape[0], 1)}
        weights = {f"blocks.0.attn1.to_q.lora_{side}.weight": tensor for side, tensor in parts.items()}
        save_file(weights, tmp_path / name / "l.safetensors")
    model = toy.with_lora(tmp_path / "one" / "l.safetensors", 1.0, "high")
    hashes = model.with_lora(tmp_path / "two" / "l.safetensors", 1.0, "low").hashes()
    assert hashes["loras[0]/l.safetensors"] != hashes["loras[1]/l.safetensors"]


def test_a_configuration_of_another_network_names_its_file_and_what_is_wrong(toy: WanModel) -> None:
    def stated(recipe: Recipe, **changes: object) -> Recipe:
        return replace(recipe, config={**recipe.config, **changes})

    with pytest.raises(ModelError, match=r"vae.config\.json: not a Wan VAE: attn_scales is \[0\.5\]"):
        load_vae(stated(toy.vae, attn_scales=[0.5]), torch.float32, CPU, lambda: None)
    with pytest.raises(ModelError, match=r"transformer.config\.json: not a Wan transformer: "):
        meta_expert(stated(toy.experts["high"], num_layers="two"))
    nameless = replace(toy.text_encoder, config={"d_model": 8})
    with pytest.raises(ModelError, match=r"text_encoder.config\.json: not a UMT5 encoder: no 'vocab_size'"):
        load_text_encoder(nameless, toy.tokenizer, 512, torch.float32, CPU, lambda: None)


def test_a_configuration_of_absurd_size_is_refused_unread(folder: Path) -> None:
    (folder / "model_index.json").write_bytes(b" " * (2**24 + 1))
    with pytest.raises(ModelError, match=r"model_index\.json: over 16777216 bytes"):
        load_model(folder)

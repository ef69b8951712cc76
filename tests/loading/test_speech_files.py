"""Weight files of the speech model: recognised, mapped to the last tensor, in every form, with LoRAs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_files as files
import tiny_speech as tiny
import torch
import transformers
from experts import resident
from packaging.version import Version
from safetensors.torch import load_file
from torch import Tensor

from tools.train_embedded.speech_networks import AUDIO_ENCODER, TRANSFORMER, new_audio_encoder
from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import EMBEDDED
from wan_duet.pipelines.errors import LoraError, ModelError
from wan_duet.pipelines.loading.identify import identify, read_part
from wan_duet.pipelines.loading.s2v_layout import audio_blocks, speech_name
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.loading.wav2vec_layout import audio_encoder_recipe
from wan_duet.pipelines.networks.s2v import SpeechTransformer
from wan_duet.pipelines.networks.s2v_network_kind import SPEECH_EXPERT, ClipCondition
from wan_duet.pipelines.streaming.executor import Executor
from wan_duet.pipelines.weights.lora.attach import attach_lora
from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.module_names import to_diffusers
from wan_duet.pipelines.weights.recipe import Recipe

CPU = DeviceMemory("cpu")


def recipe_of(file: Path) -> Recipe:
    return read_part(file, "transformer", "model")


def velocity(recipe: Recipe) -> Tensor:
    places = tiny.CLIP_SHAPE[-2:]
    condition = ClipCondition(
        text=tiny.draw("text", 1, 512, tiny.TEXT_DIM),
        audio=tiny.draw("audio", 1, tiny.STATES, tiny.AUDIO_DIM, tiny.CLIP_FRAMES),
        reference=tiny.draw("reference", 1, 16, 1, *places),
        motion=tiny.draw("motion", 1, 16, 19, *places),
        pose=None,
    )
    speaker = Executor(
        {"high": recipe},
        torch.float32,
        CPU,
        lambda: None,
        residency=resident({"high": recipe}, kind=SPEECH_EXPERT),
        kind=SPEECH_EXPERT,
    )
    with torch.inference_mode(), speaker:
        return speaker.use("high").predict(tiny.draw("latents", *tiny.CLIP_SHAPE), 500.0, condition)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files.save(tmp_path_factory.mktemp("speech") / "a.safetensors", tiny.weights())


def released_names() -> list[str]:
    """Every name in the released file: 40 blocks, 12 injectors. Spelled out by hand."""
    linear = ("weight", "bias")
    attention = [f"{part}.{leaf}" for part in "qkvo" for leaf in linear] + ["norm_q.weight", "norm_k.weight"]
    block = [f"{kind}.{name}" for kind in ("self_attn", "cross_attn") for name in attention]
    block += [f"{part}.{leaf}" for part in ("ffn.0", "ffn.2", "norm3") for leaf in linear] + ["modulation"]
    names = [f"blocks.{index}.{name}" for index in range(40) for name in block]
    injector = [f"injector.{{}}.{name}" for name in attention]
    injector += [f"injector_adain_layers.{{}}.linear.{leaf}" for leaf in linear]
    names += [f"audio_injector.{name.format(index)}" for index in range(12) for name in injector]
    encoder = ("conv1_local.conv", "conv1_global.conv", "conv2.conv", "conv3.conv", "final_linear")
    names += [f"casual_audio_encoder.encoder.{part}.{leaf}" for part in encoder for leaf in linear]
    names += ["casual_audio_encoder.encoder.padding_tokens", "casual_audio_encoder.weights"]
    layers = ["frame_packer.proj", "frame_packer.proj_2x", "frame_packer.proj_4x", "cond_encoder"]
    layers += ["patch_embedding", "text_embedding.0", "text_embedding.2", "time_embedding.0"]
    layers += ["time_embedding.2", "time_projection.1", "head.head"]
    names += [f"{layer}.{leaf}" for layer in layers for leaf in linear]
    return [*names, "head.modulation", "trainable_cond_mask.weight"]


def test_all_1260_tensors_of_the_released_file_have_a_place_of_their_own() -> None:
    names = released_names()
    assert len(names) == 1260
    config = {
        "patch_size": (1, 2, 2), "num_attention_heads": 1, "attention_head_dim": 12, "in_channels": 16,
        "out_channels": 16, "text_dim": 8, "freq_dim": 8, "ffn_dim": 8, "num_layers": 40, "eps": 1e-6,
        "audio_dim": 8, "audio_states": 25, "audio_tokens": 4, "cond_dim": 16,
        "audio_blocks": (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
    }  # fmt: skip
    with torch.device("meta"):
        wanted = set(SpeechTransformer(config).state_dict())
    own = speech_name(names)

    def found(name: str) -> str | None:
        module, _, leaf = name.rpartition(".")
        if name.endswith("modulation"):
            return to_diffusers(name)
        known = to_diffusers(module)
        return f"{known}.{leaf}" if known else own(name)

    assert {found(name) for name in names} == wanted
    assert len(wanted) == 1260


def test_blocks_that_hear_are_those_of_the_official_configuration() -> None:
    assert audio_blocks(40, 12) == (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)
    assert audio_blocks(tiny.LAYERS, 2) == tiny.HEARING


def test_a_file_says_that_it_is_the_speech_model(plain: Path) -> None:
    found = identify(plain)
    assert (found.kind, found.families, found.problem) == ("transformer", ("wan2.2-s2v-14b",), "")
    config = recipe_of(plain).config
    assert (config["audio_dim"], config["audio_states"], config["audio_tokens"]) == (64, 3, 4)
    assert tuple(config["audio_blocks"]) == tiny.HEARING


def test_an_injector_comes_and_goes_with_its_block(plain: Path) -> None:
    recipe = recipe_of(plain)
    assert recipe.units == ("head", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "tail")
    assert "blocks.3.audio.attn.to_q.weight" in recipe.tensors


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model."])
def test_a_prefix_changes_nothing(plain: Path, tmp_path: Path, prefix: str) -> None:
    named = {prefix + name: tensor for name, tensor in tiny.weights().items()}
    other = recipe_of(files.save(tmp_path / "a.safetensors", named))
    assert torch.equal(velocity(other), velocity(recipe_of(plain)))


@pytest.mark.parametrize("spelling", ["scale_weight", "weight_scale"])
def test_scaled_fp8_means_numbers_times_scales(tmp_path: Path, spelling: str) -> None:
    held, meant = files.scaled(tiny.weights(), spelling)
    compressed = recipe_of(files.save(tmp_path / "fp8.safetensors", held))
    whole = recipe_of(files.save(tmp_path / "whole.safetensors", meant))
    assert held["blocks.0.ffn.0.weight"].dtype == torch.float8_e4m3fn
    assert torch.equal(velocity(compressed), velocity(whole))


def test_a_damaged_file_names_what_is_missing(tmp_path: Path) -> None:
    weights = tiny.weights()
    del weights["audio_injector.injector.1.norm_k.weight"]
    with pytest.raises(ModelError, match=r"has no tensor for blocks\.3\.audio\.attn\.norm_k\.weight"):
        recipe_of(files.save(tmp_path / "a.safetensors", weights))


@pytest.mark.parametrize("naming", ["diffusion_model.blocks.2.self_attn.q", "lora_unet_blocks_2_self_attn_q"])
def test_a_lora_for_text_to_video_fits_the_blocks(plain: Path, tmp_path: Path, naming: str) -> None:
    generator = torch.Generator().manual_seed(7)
    down = torch.randn(2, tiny.DIM, generator=generator)
    up = torch.randn(tiny.DIM, 2, generator=generator) * 0.01
    parts = {f"{naming}.lora_down.weight": down, f"{naming}.lora_up.weight": up}
    lora = read_lora(files.save(tmp_path / "lora.safetensors", parts))
    changed, report = attach_lora(recipe_of(plain), lora, 1.0, "high")
    assert report.coverage.share == 1
    weights = tiny.weights()
    weights["blocks.2.self_attn.q.weight"] += up @ down
    merged = recipe_of(files.save(tmp_path / "merged.safetensors", weights))
    torch.testing.assert_close(velocity(changed), velocity(merged), rtol=1e-5, atol=1e-5)


def test_a_lora_of_another_size_is_refused(plain: Path, tmp_path: Path) -> None:
    name = "diffusion_model.blocks.0.self_attn.q"
    parts = {f"{name}.lora_A.weight": torch.ones(2, 99), f"{name}.lora_B.weight": torch.ones(99, 2)}
    with pytest.raises(LoraError):
        attach_lora(recipe_of(plain), read_lora(files.save(tmp_path / "l.safetensors", parts)), 1.0, "high")


@pytest.fixture(scope="module")
def parts(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The other files that the speech model needs, as ComfyUI's folders have them."""
    folder = tmp_path_factory.mktemp("parts")
    pieces = files.spiece_tensor(files.spiece_model())
    contents = {
        "vae": files.wan_vae_names(files.vae("2.1")),
        "text_encoder": {**files.text_encoder(width=tiny.TEXT_DIM), "spiece_model": pieces},
        "audio_encoder": tiny.wav2vec()[1],
        "strange": {"weight": torch.ones(2, 2)},
    }
    saved = {name: files.save(folder / f"{name}.safetensors", tensors) for name, tensors in contents.items()}
    return {"source": plain, **saved}


def test_single_files_make_the_speech_model(parts: dict[str, Path]) -> None:
    given = {name: parts[name] for name in ("source", "vae", "text_encoder", "audio_encoder")}
    made = load_model(**given)
    assert made.family.name == "wan2.2-s2v-14b"
    assert {name.split("/")[0] for name in made.hashes()} == {"high", "vae", "text_encoder", "audio_encoder"}
    listed = load_model(
        **{**given, "audio_encoder": [parts["strange"], parts["vae"], parts["audio_encoder"]]}
    )
    assert listed.audio_encoder == made.audio_encoder


@pytest.mark.parametrize("given", [None, []])
def test_a_missing_audio_encoder_is_named_with_its_folder_and_source(
    parts: dict[str, Path], given: list[Path] | None
) -> None:
    with pytest.raises(
        ModelError, match=r"audio_encoder: .*put wav2vec2_large_english_fp16\.safetensors into"
    ) as e:
        load_model(parts["source"], vae=parts["vae"], text_encoder=parts["text_encoder"], audio_encoder=given)
    assert "models/audio_encoders" in str(e.value)


def test_what_is_no_audio_encoder_is_refused(parts: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"audio_encoder: .*vae\.safetensors is not a wav2vec 2\.0"):
        audio_encoder_recipe(parts["vae"])


def test_an_audio_encoder_of_another_size_is_refused(parts: dict[str, Path]) -> None:
    given = {name: parts[name] for name in ("source", "vae", "text_encoder")}
    small = EMBEDDED["toy-speech"] / "audio_encoder"
    with pytest.raises(
        ModelError, match=r"outputs 3 layers of width 32, but wan2\.2-s2v-14b needs 3 of width 64"
    ):
        load_model(**given, audio_encoder=small)


def test_older_names_of_weight_norm_and_a_folder_mean_the_same(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    newer = audio_encoder_recipe(parts["audio_encoder"])
    older = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in tiny.wav2vec()[1].items()
    }
    files.save(tmp_path / "model.safetensors", older)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    found = audio_encoder_recipe(tmp_path)
    assert found.tensors.keys() == newer.tensors.keys()
    assert found.config == {**newer.config, "do_normalize": False}


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.24"), reason="older transformers draw in another order"
)
def test_the_embedded_speech_model_is_what_its_maker_makes() -> None:
    shipped = EMBEDDED["toy-speech"]
    for part, made in (("transformer", TRANSFORMER), ("audio_encoder", AUDIO_ENCODER)):
        assert json.loads((shipped / part / "config.json").read_text(encoding="utf-8")) == made
    encoder = load_file(shipped / "audio_encoder" / "model.safetensors")
    for name, value in new_audio_encoder().state_dict().items():
        assert torch.equal(encoder[name], value.half()), name  # it is frozen as it was drawn
    assert sum(path.stat().st_size for path in shipped.rglob("*") if path.is_file()) < 4 * 2**20

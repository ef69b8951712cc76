"""A model put together from single files: each part in every layout, found, told apart and held together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_files as tiny
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import UMT5EncoderModel

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.loading.compatibility import expert_in_name
from wan_duet.pipelines.loading.identify import choose, identify, read_part
from wan_duet.pipelines.loading.wan_model import WanModel, load_model, read_experts
from wan_duet.pipelines.networks.text_encoder import load_text_encoder
from wan_duet.pipelines.networks.tokenizer import clean_prompt, read_tokenizer
from wan_duet.pipelines.vae.decode import stream_decode
from wan_duet.pipelines.vae.encode import stream_encode
from wan_duet.pipelines.vae.latent_space import load_vae

CPU = DeviceMemory("cpu")
Files = dict[str, Path]


@pytest.fixture(scope="module")
def pieces() -> bytes:
    return tiny.spiece_model()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, pieces: bytes) -> Files:
    """One file of every kind that a ComfyUI folder has, under names that say nothing."""
    root = tmp_path_factory.mktemp("models")
    text = {**tiny.text_encoder(), "spiece_model": tiny.spiece_tensor(pieces)}
    wide = {**tiny.text_encoder(width=64), "spiece_model": tiny.spiece_tensor(pieces)}
    lora = {f"diffusion_model.blocks.0.self_attn.q.lora_{side}.weight": torch.ones(1, 1) for side in "AB"}
    wan = tiny.wan_transformer_names
    contents = {
        "t2v_a": wan(tiny.transformer(1)),
        "t2v_b": wan(tiny.transformer(2), "model.diffusion_model."),
        "t2v_deeper": wan(tiny.transformer(2, num_layers=3)),
        "i2v_a": wan(tiny.transformer(1, channels=36)),
        "i2v_b": wan(tiny.transformer(2, channels=36)),
        "i2v_21": wan(tiny.transformer(1, channels=36, image=96)),
        "five": wan(tiny.transformer(1, channels=48, out=48)),
        "fun": wan(tiny.transformer(1, channels=52)),
        "control": wan(tiny.transformer(1, channels=48)),
        "vae_21": tiny.wan_vae_names(tiny.vae("2.1")),
        "vae_22": tiny.wan_vae_names(tiny.vae("2.2")),
        "text": text,
        "text_wide": wide,
        "lora": lora,
        "picture_vae": {"decoder.conv_in.weight": torch.ones(4, 4, 3, 3)},
    }
    return {name: tiny.save(root / f"{name}.safetensors", weights) for name, weights in contents.items()}


def loaded(
    files: Files, model: str, low: str | None = None, vae: str = "vae_21", text: str = "text"
) -> WanModel:
    return load_model(
        files[model], low=None if low is None else files[low], vae=files[vae], text_encoder=files[text]
    )


@pytest.mark.parametrize(
    ("model", "low", "vae", "family", "boundary"),
    [
        ("t2v_a", "t2v_b", "vae_21", "wan2.2-t2v-a14b", 0.875),
        ("t2v_a", None, "vae_21", "wan2.1-t2v-1.3b", None),
        ("i2v_a", "i2v_b", "vae_21", "wan2.2-i2v-a14b", 0.9),
        ("i2v_21", None, "vae_21", "wan2.1-i2v-14b", None),
        ("five", None, "vae_22", "wan2.2-ti2v-5b", None),
    ],
)
def test_files_make_the_model_that_their_tensors_say(
    files: Files, model: str, low: str | None, vae: str, family: str, boundary: float | None
) -> None:
    made = loaded(files, model, low, vae)
    assert (made.family.name, made.boundary) == (family, boundary)
    assert list(made.experts) == (["high", "low"] if low else ["high"])
    assert {name.split("/")[0] for name in made.hashes()} == {*made.experts, "vae", "text_encoder"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "t2v_a", "low": "t2v_a"}, "low_model: .* is the same as the high-noise expert"),
        ({"model": "t2v_a", "low": "i2v_a"}, "low_model: .* does not fit .* 16 and 36 input channels"),
        ({"model": "t2v_a", "low": "t2v_deeper"}, r"differ in num_layers \(2 and 3\)"),
        ({"model": "i2v_21", "low": "i2v_21"}, "is the same as|has a single transformer"),
        ({"model": "five", "low": "t2v_a", "vae": "vae_22"}, "48 and 16 input channels"),
        ({"model": "fun"}, "unsupported Wan transformer with 52 input and 16 output channels"),
        ({"model": "control"}, "48 input and 16 output channels"),
        ({"model": "t2v_a", "vae": "vae_22"}, r"48 latent channels, but wan2\.1-t2v-1\.3b needs 16"),
        ({"model": "five"}, "16 latent channels, .* needs 48"),
        ({"model": "t2v_a", "text": "text_wide"}, "outputs width 64, but .* needs 128"),
        ({"model": "lora"}, "model: .*lora.safetensors is a LoRA; a transformer is needed"),
        ({"model": "vae_21"}, "is a VAE; a transformer is needed"),
        ({"model": "t2v_a", "vae": "t2v_b"}, "vae: .* is a transformer; a VAE is needed"),
        ({"model": "t2v_a", "text": "vae_21"}, "text_encoder: .* is a VAE; a text encoder is needed"),
        ({"model": "t2v_a", "low": "text"}, "low_model: .* is a text encoder; a transformer is needed"),
        ({"model": "t2v_a", "vae": "picture_vae"}, "vae: .*not a part of a Wan model"),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else "",
)
def test_parts_that_do_not_belong_together_are_refused(
    files: Files, given: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        loaded(files, **given)


def test_one_file_of_image_to_video_is_a_merge_of_both_experts(files: Files) -> None:
    made = loaded(files, "i2v_a")
    assert (made.family.name, made.family.experts, made.boundary) == ("wan2.2-i2v-a14b", 1, None)
    (note,) = made.notes
    assert "runs every step, as a merge of the two experts of wan2.2-i2v-a14b" in note


@pytest.mark.parametrize("name", ["wan2.2_i2v_high_noise_14B.safetensors", "i2v_LN.safetensors"])
def test_one_expert_of_image_to_video_by_its_name_needs_the_other(
    files: Files, tmp_path: Path, name: str
) -> None:
    copy = shutil.copy(files["i2v_a"], tmp_path / name)
    message = r"low_model: wan2\.2-i2v-a14b also needs its low-noise expert; put wan2\.2_i2v_low_noise"
    with pytest.raises(ModelError, match=message):
        load_model(copy, vae=files["vae_21"], text_encoder=files["text"])


def test_the_same_expert_under_two_names_is_found_out(files: Files, tmp_path: Path) -> None:
    copy = shutil.copy(files["t2v_a"], tmp_path / "wan_low_noise.safetensors")
    with pytest.raises(ModelError, match="is the same as the high-noise expert"):
        load_model(files["t2v_a"], low=copy, vae=files["vae_21"], text_encoder=files["text"])


@pytest.mark.parametrize(
    ("model", "slot", "message"),
    [
        ("t2v_a", "vae", r"models/vae .*Wan_2\.2_ComfyUI_Repackaged"),
        ("five", "vae", r"wan2\.2_vae\.safetensors"),
        ("t2v_a", "text_encoder", r"umt5_xxl\S+ into models/text_encoders .*Wan_2\.1_ComfyUI_repackaged"),
    ],
)
def test_a_missing_part_is_named_with_its_folder_and_its_source(
    files: Files, model: str, slot: str, message: str
) -> None:
    parts = {
        "vae": files["vae_22" if model == "five" else "vae_21"],
        "text_encoder": files["text"],
        slot: None,
    }
    with pytest.raises(ModelError, match=message):
        load_model(files[model], **parts)


@pytest.mark.parametrize(
    ("slot", "page"), [("low", "diffusion_models"), ("vae", "vae"), ("text_encoder", "text")]
)
def test_a_file_that_is_not_there_is_named_with_a_public_source(files: Files, slot: str, page: str) -> None:
    parts = {"low": files["t2v_b"], "vae": files["vae_21"], "text_encoder": files["text"]}
    name = "low_model" if slot == "low" else slot
    with pytest.raises(ModelError, match=rf"{name}: gone\.safetensors not found.*https://\S+/{page}"):
        load_model(files["t2v_a"], **{**parts, slot: "gone.safetensors"})


def test_a_name_that_contradicts_its_slot_is_only_a_warning(files: Files, tmp_path: Path) -> None:
    low, high = tmp_path / "wan2.2_t2v_low_noise_14B.safetensors", tmp_path / "Wan-HighNoise.safetensors"
    low.symlink_to(files["t2v_a"])
    high.symlink_to(files["t2v_b"])
    parts = {"vae": files["vae_21"], "text_encoder": files["text"]}
    assert load_model(low, low=high, **parts).notes == (
        f"{low.name} is used as the high-noise expert; its name says low",
        f"{high.name} is used as the low-noise expert; its name says high",
    )
    assert load_model(high, low=low, **parts).notes == ()


def test_a_list_stands_for_the_one_file_that_fits(files: Files) -> None:
    every = list(files.values())
    model = load_model(files["five"], vae=every, text_encoder=files["text"])
    assert model.vae.files == (files["vae_22"],)
    with pytest.raises(
        ModelError, match=r"2 files fit .*: text\.safetensors, text_wide\.safetensors; choose"
    ):
        load_model(files["five"], vae=every, text_encoder=every)
    with pytest.raises(
        ModelError, match=r"put wan_2\.1_vae.*None of these files fits: vae_22\.safetensors, lora"
    ):
        choose([files["vae_22"], files["lora"]], "VAE", "wan2.2-t2v-a14b", "vae")
    with pytest.raises(ModelError, match="also needs its VAE; put"):
        load_model(files["t2v_a"], vae=[], text_encoder=files["text"])


@pytest.mark.parametrize(
    ("name", "kind", "families"),
    [
        ("t2v_a", "transformer", ("wan2.2-t2v-a14b", "wan2.1-t2v-1.3b")),
        ("five", "transformer", ("wan2.2-ti2v-5b",)),
        ("fun", "transformer", ()),
        ("vae_22", "VAE", ("wan2.2-ti2v-5b",)),
        ("lora", "LoRA", ()),
        ("picture_vae", "unknown", ()),
    ],
)
def test_a_file_says_what_it_is(files: Files, name: str, kind: str, families: tuple[str, ...]) -> None:
    found = identify(files[name])
    assert (found.kind, found.families) == (kind, families)


def test_what_cannot_be_used_says_why_and_raises_nothing(tmp_path: Path) -> None:
    vace = tiny.wan_transformer_names(tiny.transformer()) | {"vace_blocks.x": torch.ones(1)}
    assert "is VACE" in identify(tiny.save(tmp_path / "vace.safetensors", vace)).problem
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 100)
    assert "not a readable safetensors" in identify(tmp_path / "cut.safetensors").problem
    assert "pickle" in identify(tmp_path / "x.pth").problem
    gguf_file, _ = tiny.save_gguf(
        tmp_path / "flux.gguf", {"double_blocks.0.w": torch.ones(2)}, "F32", architecture="flux"
    )
    assert "a GGUF file of flux" in identify(gguf_file).problem


@pytest.mark.parametrize("version", ["2.1", "2.2"])
@pytest.mark.parametrize("wan_names", [True, False])
@torch.inference_mode()
def test_a_vae_file_decodes_and_encodes_as_diffusers_does(
    tmp_path: Path, version: str, wan_names: bool
) -> None:
    weights = tiny.vae(version)
    file = tiny.save(tmp_path / "v.safetensors", tiny.wan_vae_names(weights) if wan_names else weights)
    recipe = read_part(file, "VAE", "vae")
    ours = load_vae(recipe, torch.float32, CPU, lambda: None)
    theirs = AutoencoderKLWan.from_config(tiny.VAES[version])
    theirs.load_state_dict(weights)
    for name, value in tiny.VAES[version].items():
        if not name.startswith("latents_"):
            assert getattr(ours.config, name) == value, name
    latents, video = torch.randn(1, recipe.config["z_dim"], 2, 2, 2), torch.randn(1, 3, 5, 32, 32)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in ours.state_dict().items())
    decoded = torch.stack(list(stream_decode(ours, latents)), 1)
    encoded = torch.stack(list(stream_encode(ours, iter(video[0].unbind(1)))), 1)
    assert torch.allclose(decoded, theirs.decode(latents).sample[0], atol=1e-5)
    assert torch.allclose(encoded, theirs.encode(video).latent_dist.mean[0], atol=1e-5)


def test_each_vae_has_the_statistics_of_its_latent_space(files: Files) -> None:
    means = {
        name: read_part(files[name], "VAE", "vae").config["latents_mean"] for name in ("vae_21", "vae_22")
    }
    assert (len(means["vae_21"]), means["vae_21"][0], means["vae_21"][-1]) == (16, -0.7571, -0.2921)
    assert (len(means["vae_22"]), means["vae_22"][0], means["vae_22"][-1]) == (48, -0.2289, -0.0667)


def test_an_incomplete_vae_is_found_before_anything_runs(tmp_path: Path) -> None:
    weights = tiny.wan_vae_names(tiny.vae("2.2"))
    del weights["decoder.upsamples.1.upsamples.0.residual.2.bias"]
    file = tiny.save(tmp_path / "v.safetensors", weights)
    with pytest.raises(ModelError, match=r"no tensor for decoder\.up_blocks\.1\.resnets\.0\.conv1\.bias"):
        read_part(file, "VAE", "vae")


ROWS = tiny.text_config().vocab_size
PROMPT = "the red ball moves left over the sea"


def embeddings(file: Path, tokenizer: Path) -> Tensor:
    recipe = read_part(file, "text encoder", "text_encoder")
    with torch.inference_mode():
        encoder = load_text_encoder(recipe, tokenizer, 32, torch.float32, CPU, lambda: None)
        return encoder.encode(PROMPT).embeddings


@torch.inference_mode()
def expected_embeddings(weights: tiny.Weights, ids: list[int]) -> Tensor:
    network = UMT5EncoderModel(tiny.text_config()).eval()
    network.load_state_dict({**weights, "encoder.embed_tokens.weight": weights["shared.weight"]})
    padded = torch.zeros(1, 32, tiny.TEXT)
    padded[:, : len(ids)] = network(torch.tensor([ids])).last_hidden_state
    return padded


def llama_names(weights: tiny.Weights) -> tiny.Weights:
    """As llama.cpp calls the tensors of a T5 encoder."""
    parts = {
        "shared": "token_embd",
        "encoder.final_layer_norm": "enc.output_norm",
        "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
        **{f"layer.0.SelfAttention.{part}": f"attn_{part}" for part in "qkvo"},
        "layer.0.layer_norm": "attn_norm",
        "layer.1.DenseReluDense.wi_0": "ffn_gate",
        "layer.1.DenseReluDense.wi_1": "ffn_up",
        "layer.1.DenseReluDense.wo": "ffn_down",
        "layer.1.layer_norm": "ffn_norm",
        "encoder.block": "enc.blk",
    }
    renamed = {}
    for name, tensor in weights.items():
        for theirs, own in parts.items():
            name = name.replace(theirs, own)
        renamed[name] = tensor
    return renamed


@pytest.mark.parametrize("layout", ["comfyui", "wan", "both names of the table", "llama.cpp"])
def test_a_text_encoder_reads_alike_in_every_layout(tmp_path: Path, pieces: bytes, layout: str) -> None:
    weights = tiny.text_encoder()
    (tmp_path / "spiece.model").write_bytes(pieces)
    file = tmp_path / "t.safetensors"
    if layout == "llama.cpp":
        file, _ = tiny.save_gguf(tmp_path / "t.gguf", llama_names(weights), "F32", architecture="t5encoder")
    elif layout == "wan":
        tiny.save(file, tiny.wan_text_names(weights))
    elif layout == "comfyui":
        tiny.save(file, weights)
    else:
        tiny.save(file, {**weights, "encoder.embed_tokens.weight": weights["shared.weight"].clone()})
    ids = read_tokenizer(tmp_path, ROWS)(PROMPT)
    assert torch.allclose(embeddings(file, tmp_path), expected_embeddings(weights, ids), atol=1e-5)


@pytest.mark.parametrize("spelling", ["scale_weight", "weight_scale"])
def test_a_scaled_text_encoder_means_numbers_times_scales(
    tmp_path: Path, pieces: bytes, spelling: str
) -> None:
    held, meant = tiny.scaled(tiny.text_encoder(), spelling)
    held["spiece_model"] = tiny.spiece_tensor(pieces)
    file = tiny.save(tmp_path / "t.safetensors", held)
    ids = read_tokenizer(file, ROWS)(PROMPT)
    assert torch.allclose(embeddings(file, file), expected_embeddings(meant, ids), atol=1e-5)


def test_a_t5_of_another_model_is_told_from_umt5(tmp_path: Path) -> None:
    weights = {
        name: tensor
        for name, tensor in tiny.text_encoder().items()
        if "block.1" not in name or "bias" not in name
    }
    file = tiny.save(tmp_path / "t5xxl.safetensors", weights)
    with pytest.raises(ModelError, match="is a T5 encoder, as Flux and SD3 use it"):
        read_part(file, "text encoder", "text_encoder")


def rust_tokenizer(pieces: bytes) -> Tokenizer:
    """The same vocabulary in Hugging Face's library, put together as its T5 converter does."""
    model = SentencePieceProcessor(model_proto=pieces)
    vocabulary = [
        (model.id_to_piece(index), model.get_score(index)) for index in range(model.get_piece_size())
    ]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=model.unk_id()))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


PROMPTS = ["", PROMPT, "red  ball\tmoves", "a bläue ball, 42 times!", "the sea the sea", "夜の海"]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_form_of_a_vocabulary_gives_the_same_tokens(tmp_path: Path, pieces: bytes, prompt: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "spiece.model").write_bytes(pieces)
    rust_tokenizer(pieces).save(str(tmp_path / "tokenizer.json"))
    embedded = tiny.save(tmp_path / "t.safetensors", {"spiece_model": tiny.spiece_tensor(pieces)})
    forms = [tmp_path / "a", tmp_path / "a" / "spiece.model", tmp_path / "tokenizer.json", tmp_path, embedded]
    ids = [read_tokenizer(form, ROWS)(clean_prompt(prompt)) for form in forms]
    assert all(found == ids[0] for found in ids)
    assert ids[0][-1] == 1  # the end mark, once
    assert ids[0].count(1) == 1


@pytest.mark.parametrize(
    "place", ["tokenizer/tokenizer.json", "google/umt5-xxl/spiece.model", "tokenizer.json"]
)
def test_a_vocabulary_beside_the_weights_is_found(
    tmp_path: Path, files: Files, pieces: bytes, place: str
) -> None:
    file = tiny.save(tmp_path / "umt5-xxl-enc-bf16.safetensors", tiny.wan_text_names(tiny.text_encoder()))
    with pytest.raises(ModelError, match=r"tokenizer: .*umt5-xxl-enc-bf16\.safetensors contains none"):
        load_model(files["t2v_a"], vae=files["vae_21"], text_encoder=file)
    target = tmp_path / place
    target.parent.mkdir(parents=True, exist_ok=True)
    if place.endswith("json"):
        rust_tokenizer(pieces).save(str(target))
    else:
        target.write_bytes(pieces)
    model = load_model(files["t2v_a"], vae=files["vae_21"], text_encoder=file)
    assert model.tokenizer == target.parent
    elsewhere = load_model(files["t2v_a"], vae=files["vae_21"], text_encoder=file, tokenizer=files["text"])
    assert elsewhere.tokenizer == files["text"]


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"no model"])
def test_a_damaged_vocabulary_is_named(tmp_path: Path, content: bytes) -> None:
    for name in ("spiece.model", "tokenizer.json"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=name):
            read_tokenizer(tmp_path / name, ROWS)


@pytest.mark.parametrize("rows", [20, 4000])
def test_the_vocabulary_of_another_encoder_is_refused(tmp_path: Path, pieces: bytes, rows: int) -> None:
    (tmp_path / "spiece.model").write_bytes(pieces)
    with pytest.raises(ModelError, match=rf"spiece\.model: a vocabulary of \d+ pieces .* that has {rows}"):
        read_tokenizer(tmp_path, rows)


def test_the_embedded_model_in_single_files_is_the_same_model(tmp_path: Path) -> None:
    """Split into files as ComfyUI users have them, in the names of Wan, it has the same numbers."""
    toy = toy_folder()
    stem = "diffusion_pytorch_model.safetensors"
    renamed: dict[str, Callable[[tiny.Weights], tiny.Weights]] = {
        f"transformer/{stem}": tiny.wan_transformer_names,
        f"transformer_2/{stem}": tiny.wan_transformer_names,
        f"vae/{stem}": tiny.wan_vae_names,
        "text_encoder/model.safetensors": tiny.wan_text_names,
    }
    paths = [
        tiny.save(tmp_path / f"{index}.safetensors", rename(load_file(toy / name)))
        for index, (name, rename) in enumerate(renamed.items())
    ]
    split = load_model(
        paths[0], low=paths[1], vae=paths[2], text_encoder=paths[3], tokenizer=toy / "tokenizer"
    )
    whole = load_model("toy")
    for name in ("high", "low"):
        one, other = split.experts[name], whole.experts[name]
        assert one.tensors.keys() == other.tensors.keys()
        assert {key: one.config[key] for key in one.config} == {key: other.config[key] for key in one.config}
    assert split.vae.tensors.keys() == whole.vae.tensors.keys()
    assert split.text_encoder.tensors.keys() == whole.text_encoder.tensors.keys()
    ours, theirs = (
        load_text_encoder(model.text_encoder, model.tokenizer, 64, torch.float32, CPU, lambda: None).encode(
            "a red ball"
        )
        for model in (split, whole)
    )
    assert torch.equal(ours.embeddings, theirs.embeddings)


def test_a_part_replaces_the_one_of_a_folder(tmp_path: Path) -> None:
    copy = shutil.copy(
        toy_folder() / "vae" / "diffusion_pytorch_model.safetensors", tmp_path / "v.safetensors"
    )
    assert load_model("toy", vae=copy).vae.files == (tmp_path / "v.safetensors",)


def test_a_folder_of_shards_is_a_part(tmp_path: Path, files: Files) -> None:
    names = load_file(files["t2v_a"])
    shards = {f"diffusion_pytorch_model-0000{n}-of-00002.safetensors": n for n in (1, 2)}
    keys = list(names)
    where = {key: list(shards)[index % 2] for index, key in enumerate(keys)}
    for shard in shards:
        save_file({key: names[key] for key in keys if where[key] == shard}, tmp_path / shard)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": where})
    )
    model = load_model(tmp_path, low=files["t2v_b"], vae=files["vae_21"], text_encoder=files["text"])
    assert model.family.name == "wan2.2-t2v-a14b"
    assert len(model.experts["high"].files) == 2


@pytest.mark.parametrize(
    "names", [["encoder.embed_tokens.weight"], ["encoder.embed_tokens.weight", "shared.weight"]]
)
def test_a_folder_may_hold_the_table_of_umt5_under_either_name(tmp_path: Path, names: list[str]) -> None:
    copy = tmp_path / "model"
    shutil.copytree(toy_folder(), copy)
    file = copy / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    table = weights.pop("shared.weight")
    save_file({**weights, **{name: table.clone() for name in names}}, file)
    model = load_model(copy)
    assert model.text_encoder.tensors.keys() == load_model("toy").text_encoder.tensors.keys()


def test_the_experts_of_a_lone_file_can_be_had_without_its_other_parts(files: Files) -> None:
    assert list(read_experts(files["t2v_a"])) == ["high"]
    assert list(read_experts("toy")) == list(read_experts(files["t2v_a"], files["t2v_b"])) == ["high", "low"]
    with pytest.raises(ModelError, match="is a VAE; a transformer is needed"):
        read_experts(files["vae_21"])


@pytest.mark.parametrize(
    ("name", "expert"),
    [
        ("wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "high"),
        ("Wan2.2-I2V-A14B-LowNoise-Q4_K_M.gguf", "low"),
        ("style\\My-LOW.safetensors", "low"),
        ("high_noise/model.safetensors", None),
        ("high_low_merged.safetensors", None),
        ("slow_highway.safetensors", None),
        ("toy", None),
    ],
)
def test_the_name_of_a_file_hints_at_its_expert(name: str, expert: str | None) -> None:
    assert expert_in_name(name) == expert


def test_the_wrong_input_is_named_for_a_file_that_cannot_be_read(files: Files, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a header")
    with pytest.raises(ModelError, match=r"low_model: .*broken\.safetensors"):
        load_model(files["t2v_a"], low=broken, vae=files["vae_21"], text_encoder=files["text"])

"""Where the weights of a part may lie: any suffix, variants, shards without an index, one file for all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import pytest
import tiny_files as tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sentencepiece import SentencePieceProcessor
from tiny_models import make_model

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.loading.all_in_one import parts_of
from wan_duet.pipelines.loading.identify import choose, identify, read_part
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.networks.tokenizer import find_tokenizer, read_tokenizer
from wan_duet.pipelines.request.lora_weight import place_of
from wan_duet.pipelines.weights.checkpoint import read_checkpoint
from wan_duet.pipelines.weights.folder import read_component, weight_files
from wan_duet.pipelines.weights.lora.lora_file import read_lora
from wan_duet.pipelines.weights.recipe import Recipe
from wan_duet.pipelines.weights.stored_tensors import Files

CPU = torch.device("cpu")
STEM = "diffusion_pytorch_model"
ROWS = tiny.text_config().vocab_size
TEXTS = ["the red ball moves left over the sea", "", "night  slowly", "xyz blue", " green\tcube "]


@pytest.fixture(scope="module")
def transformer() -> tiny.Weights:
    return tiny.wan_transformer_names(tiny.transformer(channels=48, out=48))


@pytest.fixture(scope="module")
def pieces() -> bytes:
    return tiny.spiece_model()


def holds(recipe: Recipe, weights: tiny.Weights) -> bool:
    with Files(CPU) as files:
        found = [tensor.compute(files) for tensor in recipe.tensors.values()]
    return len(found) == len(weights) and all(
        any(torch.equal(one, other) for other in weights.values()) for one in found
    )


@pytest.mark.parametrize("name", ["m.sft", "m.SAFETENSORS", "m.Sft", "m.safetensors"])
def test_any_spelling_of_the_suffix_is_read(tmp_path: Path, transformer: tiny.Weights, name: str) -> None:
    file = tiny.save(tmp_path / name, transformer)
    assert identify(file).kind == "transformer"
    assert holds(read_part(file, "transformer", "model"), transformer)


@pytest.mark.parametrize("name", ["LORA.SAFETENSORS", "l.sft"])
def test_a_lora_may_be_spelled_so_too(tmp_path: Path, name: str) -> None:
    sides = {f"diffusion_model.blocks.0.self_attn.q.lora_{side}.weight": torch.ones(1, 1) for side in "AB"}
    assert len(read_lora(tiny.save(tmp_path / name, sides)).changes) == 1
    assert place_of(f"styles/{name}") == "file"


def halves(weights: tiny.Weights) -> list[tiny.Weights]:
    return [dict(list(weights.items())[part::2]) for part in (0, 1)]


@pytest.mark.parametrize("stem", [STEM, f"{STEM}.fp16", "wan2.2_high_noise"])
def test_shards_need_no_index(tmp_path: Path, transformer: tiny.Weights, stem: str) -> None:
    for number, half in enumerate(halves(transformer), 1):
        tiny.save(tmp_path / f"{stem}-0000{number}-of-00002.safetensors", half)
    assert holds(read_part(tmp_path, "transformer", "model"), transformer)


@pytest.mark.parametrize("name", ["M-0000{}-OF-00002.SAFETENSORS", "m_0000{}_of_00002.sft"])
def test_shards_may_be_spelled_otherwise(tmp_path: Path, transformer: tiny.Weights, name: str) -> None:
    for number, half in enumerate(halves(transformer), 1):
        tiny.save(tmp_path / name.format(number), half)
    assert holds(read_part(tmp_path, "transformer", "model"), transformer)


def test_shards_may_be_counted_from_0(tmp_path: Path, transformer: tiny.Weights) -> None:
    for number, half in enumerate(halves(transformer)):
        tiny.save(tmp_path / f"{STEM}-0000{number}-of-00002.safetensors", half)
    assert holds(read_part(tmp_path, "transformer", "model"), transformer)


def test_a_shard_stands_for_all_and_the_first_for_them_in_a_list(
    tmp_path: Path, transformer: tiny.Weights
) -> None:
    """ComfyUI's lists have files, not folders."""
    files = [tmp_path / f"wan-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for file, half in zip(files, halves(transformer), strict=True):
        tiny.save(file, half)
    tiny.save(tmp_path / "other.safetensors", {"a": torch.ones(1)})
    for file in files:
        recipe = read_part(file, "transformer", "model")
        assert holds(recipe, transformer)
        assert set(recipe.files) == set(files)
    text = [tmp_path / f"umt5-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for file, half in zip(text, halves(tiny.text_encoder()), strict=True):
        tiny.save(file, half)
    assert choose(text, "text encoder", "wan2.2-t2v-a14b", "text_encoder") == text[0]
    files[0].unlink()
    with pytest.raises(ModelError, match="has 1 of 2 shards of wan; number 1 is missing"):
        read_part(files[1], "transformer", "model")


def test_the_index_of_shards_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is the index of shards; give their folder"):
        read_checkpoint(tmp_path / f"{STEM}.safetensors.index.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a pointer of Git LFS"),
        ("<!DOCTYPE html><html>Access denied</html>", "a web page; download"),
    ],
)
def test_what_a_failed_download_left_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "m.safetensors").write_text(content)
    with pytest.raises(ModelError, match=message):
        read_checkpoint(tmp_path / "m.safetensors")


def test_a_missing_shard_is_named_without_an_index_too(tmp_path: Path, transformer: tiny.Weights) -> None:
    tiny.save(tmp_path / f"{STEM}-00002-of-00003.safetensors", transformer)
    with pytest.raises(ModelError, match=rf"1 of 3 shards of {STEM}; number 1 is missing"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    "name", [f"{STEM}.fp16.safetensors", "model.bf16.sft", f"{STEM}.SAFETENSORS", "x.fp16.safetensors"]
)
def test_a_variant_is_read_where_it_is_the_only_one(tmp_path: Path, name: str) -> None:
    tiny.save(tmp_path / name, {"a": torch.ones(2)})
    (tmp_path / "config.json").write_text("{}")
    assert list(read_component(tmp_path).tensors) == ["a"]


def test_what_macos_leaves_beside_a_copied_file_is_no_weights(tmp_path: Path) -> None:
    tiny.save(tmp_path / "wan.safetensors", {"a": torch.ones(2)})
    (tmp_path / "._wan.safetensors").write_bytes(b"\x00\x05\x16\x07")
    assert weight_files(tmp_path) == [tmp_path / "wan.safetensors"]


def test_the_plain_file_wins_over_a_variant(tmp_path: Path) -> None:
    for name in (f"{STEM}.fp16.safetensors", f"{STEM}.safetensors"):
        tiny.save(tmp_path / name, {"a": torch.ones(2)})
    assert weight_files(tmp_path) == [tmp_path / f"{STEM}.safetensors"]


def test_of_two_variants_none_is_guessed(tmp_path: Path) -> None:
    for name in ("fp16", "bf16"):
        tiny.save(tmp_path / f"{STEM}.{name}.safetensors", {"a": torch.ones(2)})
    with pytest.raises(ModelError, match=r"several files .*\.bf16\.safetensors, .*\.fp16\.safetensors"):
        weight_files(tmp_path)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, transformer: tiny.Weights, pieces: bytes) -> Path:
    """The parts of a 5B model in files of their own."""
    folder = tmp_path_factory.mktemp("parts")
    tiny.save(folder / "model.safetensors", transformer)
    tiny.save(folder / "vae.safetensors", tiny.wan_vae_names(tiny.vae("2.2")))
    tiny.save(
        folder / "text.safetensors", {**tiny.text_encoder(), "spiece_model": tiny.spiece_tensor(pieces)}
    )
    return folder


@pytest.fixture(scope="module")
def all_in_one(tmp_path_factory: pytest.TempPathFactory, transformer: tiny.Weights, pieces: bytes) -> Path:
    """The same in one file, as ComfyUI's Save Checkpoint writes it."""
    text = {f"text_encoders.umt5xxl.transformer.{name}": t for name, t in tiny.text_encoder().items()}
    held = {
        **{f"model.diffusion_model.{name}": tensor for name, tensor in transformer.items()},
        **{f"vae.{name}": tensor for name, tensor in tiny.wan_vae_names(tiny.vae("2.2")).items()},
        **text,
        "text_encoders.spiece_model": tiny.spiece_tensor(pieces),
        "text_encoders.umt5xxl.logit_scale": torch.ones(()),
    }
    return tiny.save(tmp_path_factory.mktemp("one") / "all.safetensors", held)


def same_numbers(one: WanModel, other: WanModel) -> bool:
    pairs = [
        (ours, other.components[part].tensors[name])
        for part, recipe in one.components.items()
        for name, ours in recipe.tensors.items()
    ]
    with Files(CPU) as files:
        return all(torch.equal(ours.compute(files), theirs.compute(files)) for ours, theirs in pairs)


@pytest.mark.parametrize(
    ("model", "vae", "text"),
    [
        ("diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."),
        ("transformer.", "vae.", "text_encoder."),
    ],
)
def test_an_all_in_one_file_may_name_its_parts_otherwise(
    tmp_path: Path, transformer: tiny.Weights, model: str, vae: str, text: str
) -> None:
    names = (transformer, tiny.wan_vae_names(tiny.vae("2.2")), tiny.text_encoder())
    held = {
        f"{prefix}{name}": tensor
        for prefix, tensors in zip((model, vae, text), names, strict=True)
        for name, tensor in tensors.items()
    }
    parts = parts_of(read_checkpoint(tiny.save(tmp_path / "all.safetensors", held)))
    assert {kind: len(part.tensors) for kind, part in parts.items()} == {
        kind: len(tensors)
        for kind, tensors in zip(("transformer", "VAE", "text encoder"), names, strict=True)
    }


@pytest.mark.parametrize("auto", [None, "all that might fit"])
def test_each_part_is_taken_from_an_all_in_one_file(parts: Path, all_in_one: Path, auto: str | None) -> None:
    files = None if auto is None else [parts / "vae.safetensors", parts / "text.safetensors"]
    model = load_model(all_in_one, vae=files, text_encoder=files)
    assert {file for recipe in model.components.values() for file in recipe.files} == {all_in_one}
    apart = load_model(
        parts / "model.safetensors", vae=parts / "vae.safetensors", text_encoder=parts / "text.safetensors"
    )
    assert model.components.keys() == apart.components.keys()
    assert same_numbers(model, apart)
    assert model.tokenizer == all_in_one
    tokenize = read_tokenizer(apart.tokenizer, ROWS)
    assert [read_tokenizer(model.tokenizer, ROWS)(text) for text in TEXTS] == [
        tokenize(text) for text in TEXTS
    ]


def test_a_named_file_replaces_a_part_of_an_all_in_one(parts: Path, all_in_one: Path) -> None:
    model = load_model(all_in_one, vae=parts / "vae.safetensors")
    assert model.vae.files == (parts / "vae.safetensors",)
    assert model.text_encoder.files == (all_in_one,)


def test_an_all_in_one_file_is_a_transformer_in_a_list_and_a_part_where_one_is_asked(
    all_in_one: Path,
) -> None:
    assert (identify(all_in_one).kind, identify(all_in_one).families) == ("transformer", ("wan2.2-ti2v-5b",))
    assert holds(read_part(all_in_one, "VAE", "vae"), tiny.vae("2.2"))


@pytest.mark.parametrize("prefix", ["vae.", "first_stage_model.", "module.", "model.", "_orig_mod.module."])
def test_a_vae_alone_may_have_a_prefix(tmp_path: Path, prefix: str) -> None:
    weights = tiny.wan_vae_names(tiny.vae("2.1"))
    file = tiny.save(tmp_path / "v.safetensors", {f"{prefix}{name}": one for name, one in weights.items()})
    assert identify(file).kind == "VAE"
    assert holds(read_part(file, "VAE", "vae"), weights)


@pytest.mark.parametrize(
    "prefix",
    ["text_encoders.umt5xxl.transformer.", "cond_stage_model.transformer.", "text_encoder.", "module."],
)
def test_a_text_encoder_alone_may_have_a_prefix(tmp_path: Path, pieces: bytes, prefix: str) -> None:
    held = {f"{prefix}{name}": one for name, one in tiny.text_encoder().items()}
    spiece = "text_encoders.spiece_model" if prefix.startswith("text_encoders") else "spiece_model"
    file = tiny.save(tmp_path / "t.safetensors", {**held, spiece: tiny.spiece_tensor(pieces)})
    assert identify(file).kind == "text encoder"
    assert holds(read_part(file, "text encoder", "text_encoder"), tiny.text_encoder())
    assert find_tokenizer(file) == file


def test_the_decoder_of_a_whole_umt5_is_left_out_and_told(tmp_path: Path) -> None:
    decoder = {f"decoder.block.0.layer.{part}.wo.weight": torch.ones(2, 2) for part in range(3)}
    file = tiny.save(
        tmp_path / "t.safetensors", {**tiny.text_encoder(), **decoder, "lm_head.weight": torch.ones(64, 128)}
    )
    recipe = read_part(file, "text encoder", "text_encoder")
    assert holds(recipe, tiny.text_encoder())
    assert recipe.notes == ("4 tensors of UMT5's decoder are left out: Wan reads the encoder alone",)


@pytest.mark.parametrize("prefix", ["", "clip_vision."])
def test_an_all_in_one_file_may_hold_the_image_encoder_too(tmp_path: Path, prefix: str) -> None:
    """ComfyUI's Image Only Checkpoint Save writes it without a prefix for Wan."""
    apart = make_model("wan2.1-i2v-14b", tmp_path)
    parts = {"model.diffusion_model.": "model_high", "vae.": "vae", prefix: "image_encoder/model"}
    held = {f"{prefix}visual_projection.weight": torch.ones(2, 2)}
    for start, name in parts.items():
        held |= {f"{start}{key}": one for key, one in load_file(tmp_path / f"{name}.safetensors").items()}
    file = tiny.save(tmp_path / "all.safetensors", held)
    model = load_model(file, text_encoder=tmp_path / "text.safetensors")
    assert model.image_encoder is not None
    assert apart.image_encoder is not None
    assert model.image_encoder.files == (file,)
    assert model.image_encoder.tensors.keys() == apart.image_encoder.tensors.keys()
    assert model.vae.files == (file,)


def test_a_vae_that_enlarges_the_picture_is_refused_before_anything_runs(tmp_path: Path) -> None:
    weights = tiny.vae("2.1")
    wide = weights["decoder.conv_out.weight"].repeat(4, 1, 1, 1, 1)
    held = {**weights, "decoder.conv_out.weight": wide, "decoder.conv_out.bias": torch.zeros(12)}
    file = tiny.save(tmp_path / "upscale2x.safetensors", tiny.wan_vae_names(held))
    with pytest.raises(ModelError, match="decodes to 12 channels what was encoded from 3"):
        read_part(file, "VAE", "vae")
    assert "12 channels" in identify(file).problem


def test_such_a_vae_in_a_folder_is_refused_too(tmp_path: Path) -> None:
    from wan_duet.pipelines.embedded.toy_model import toy_folder

    shutil.copytree(toy_folder("toy"), tmp_path / "toy")
    for folder in ("vae", "transformer"):
        assert (tmp_path / "toy" / folder).is_dir()
    config = tmp_path / "toy" / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "out_channels": 12}))
    with pytest.raises(ModelError, match="decodes to 12 channels what was encoded from 3"):
        load_model(tmp_path / "toy")


def vocabulary_gguf(file: Path, model: bytes, *, scores: bool = True, types: bool = True) -> Path:
    """A GGUF text encoder as llama.cpp's converter writes it, with the vocabulary in its metadata."""
    processor = SentencePieceProcessor(model_proto=model)
    numbers = range(processor.get_piece_size())
    writer = gguf.GGUFWriter(file, "t5encoder")
    writer.add_tokenizer_model("t5")
    writer.add_token_list([processor.id_to_piece(number) for number in numbers])
    if scores:
        writer.add_token_scores([processor.get_score(number) for number in numbers])
    if types:
        writer.add_token_types([kind_of(processor, number) for number in numbers])
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    charsmap = normaliser_of(model)
    if charsmap:
        writer.add_precompiled_charsmap(charsmap)
    for name in ("unk", "bos", "eos", "pad"):
        getattr(writer, f"add_{name}_token_id")(getattr(processor, f"{name}_id")())
    writer.add_tensor("token_embd.weight", tiny.text_encoder()["shared.weight"].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def kind_of(processor: SentencePieceProcessor, number: int) -> int:
    """The type of a piece in llama.cpp: normal, unknown, control, unused, byte."""
    checks = {2: processor.is_unknown, 3: processor.is_control, 5: processor.is_unused, 6: processor.is_byte}
    return next((kind for kind, check in checks.items() if check(number)), 1)


def normaliser_of(model: bytes) -> bytes:
    """The rules for letters in a SentencePiece model: field 2 of field 3 of the message."""
    return field_of(field_of(model, 3), 2)


def field_of(message: bytes, wanted: int) -> bytes:
    at, found = 0, b""
    while at < len(message):
        tag, at = varint(message, at)
        if tag & 7 == 2:
            size, at = varint(message, at)
            found = message[at : at + size] if tag >> 3 == wanted else found
            at += size
        elif tag & 7 == 5:
            at += 4
        else:
            _, at = varint(message, at)
    return found


def varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


@pytest.mark.parametrize("types", [True, False])
def test_a_gguf_text_encoder_brings_its_own_vocabulary(tmp_path: Path, pieces: bytes, types: bool) -> None:
    file = vocabulary_gguf(tmp_path / "umt5.gguf", pieces, types=types)
    assert find_tokenizer(file) == file
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "spiece.model").write_bytes(pieces)
    expected, found = (read_tokenizer(place, ROWS) for place in (tmp_path / "other", file))
    assert [found(text) for text in TEXTS] == [expected(text) for text in TEXTS]
    assert len({tuple(expected(text)) for text in TEXTS}) == len(TEXTS)


def test_a_gguf_without_scores_brings_none(tmp_path: Path, pieces: bytes) -> None:
    file = vocabulary_gguf(tmp_path / "umt5.gguf", pieces, scores=False)
    assert find_tokenizer(file) is None
    with pytest.raises(ModelError, match=r"umt5\.gguf: has no tokenizer\.ggml\.tokens with"):
        read_tokenizer(file, ROWS)


SHORT = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@SHORT
@given(
    tokens=st.lists(st.text(max_size=4), min_size=1, max_size=4),
    scores=st.lists(st.floats(width=32) | st.integers(-9, 9), min_size=1, max_size=4),
    types=st.lists(st.integers(-2, 9), min_size=1, max_size=4),
    ids=st.integers(-3, 9),
)
def test_any_vocabulary_is_read_or_refused_by_name(
    tmp_path: Path, tokens: list[str], scores: list[float], types: list[int], ids: int
) -> None:
    file = tmp_path / "v.gguf"
    writer = gguf.GGUFWriter(file, "t5encoder")
    for key, values in (
        ("tokens", tokens),
        ("scores", [float(one) for one in scores]),
        ("token_type", types),
    ):
        writer.add_array(f"tokenizer.ggml.{key}", values)
    writer.add_string("tokenizer.ggml.precompiled_charsmap", "no list")
    writer.add_int32("tokenizer.ggml.eos_token_id", ids)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    problem = ""
    try:
        assert read_tokenizer(file, len(tokens))("red ball")
    except ModelError as error:
        problem = str(error)
    assert not problem or "v.gguf" in problem


def test_a_damaged_vocabulary_is_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "t5encoder")
    writer.add_token_list(["a", "b"])
    writer.add_token_scores([0.5])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"t\.gguf: its vocabulary has 2 pieces, 1 scores and 2 types"):
        read_tokenizer(tmp_path / "t.gguf", ROWS)


def test_a_moved_file_is_found_below_its_folder(tmp_path: Path, transformer: tiny.Weights) -> None:
    new = tiny.save(tmp_path / "wan" / "22" / "m.safetensors", transformer)
    with pytest.raises(ModelError, match="no such model") as caught:
        load_model(tmp_path / "m.safetensors")
    assert f"A file of that name is at {new}" in str(caught.value)
    with pytest.raises(ModelError, match="not found") as caught:
        load_model(new, vae=tmp_path / "m.safetensors")
    assert f"A file of that name is at {new}" in str(caught.value)
    with pytest.raises(ModelError, match="no such model") as caught:
        load_model(tmp_path / "other.safetensors")
    assert "of that name" not in str(caught.value)


def test_keys_of_no_part_are_still_refused(tmp_path: Path, all_in_one: Path) -> None:
    held = {**load_file(all_in_one), "model.diffusion_model.strange.weight": torch.ones(1)}
    with pytest.raises(ModelError, match="no Wan transformer has"):
        read_part(tiny.save(tmp_path / "m.safetensors", held), "transformer", "model")
    assert read_checkpoint(tmp_path / "m.safetensors").tensors

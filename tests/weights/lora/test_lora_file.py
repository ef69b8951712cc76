"""Reading LoRA files: alphas counted once, from where they stand, and damage told in words."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.errors import LoraError
from wan_duet.pipelines.weights.lora.lora_file import LoraFile, read_lora

MODULE = "transformer.blocks.0.attn1.to_q"
OTHER = "transformer.blocks.0.attn2.to_k"


def pair(module: str = MODULE, *, rank: int = 4) -> dict[str, Tensor]:
    return {
        f"{module}.lora_A.weight": torch.ones(rank, 6),
        f"{module}.lora_B.weight": torch.ones(6, rank),
    }


def read(folder: Path, weights: dict[str, Tensor], metadata: dict[str, str] | None = None) -> LoraFile:
    file = folder / "a.safetensors"
    save_file(weights, file, metadata=metadata)
    return read_lora(file)


def scales(lora: LoraFile) -> dict[str, float]:
    return {change.name: change.scale for change in lora.changes}


def test_without_an_alpha_the_scale_is_one(tmp_path: Path) -> None:
    assert scales(read(tmp_path, pair())) == {"blocks.0.attn1.to_q.weight": 1.0}


@pytest.mark.parametrize(
    "alpha", [torch.tensor(2.0), torch.tensor([2.0]), torch.tensor(2, dtype=torch.int64)]
)
def test_an_alpha_counts_once_over_the_rank(tmp_path: Path, alpha: Tensor) -> None:
    (change,) = read(tmp_path, {**pair(), f"{MODULE}.alpha": alpha}).changes
    assert (change.rank, change.alpha, change.scale) == (4, 2.0, 0.5)


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_alphas_in_the_header_count_where_the_module_has_none(tmp_path: Path, prefix: str) -> None:
    config = {f"{prefix}lora_alpha": 8, f"{prefix}r": 4, f"{prefix}alpha_pattern": {r"^attn2\.to_k$": 1}}
    metadata = {"lora_adapter_metadata": json.dumps(config)}
    weights = {**pair(), **pair(OTHER), **pair("transformer.proj_out")}
    weights["transformer.proj_out.alpha"] = torch.tensor(4.0)
    assert scales(read(tmp_path, weights, metadata)) == {
        "blocks.0.attn1.to_q.weight": 2.0,
        "blocks.0.attn2.to_k.weight": 0.25,
        "proj_out.weight": 1.0,
    }


def test_a_rank_stabilised_adapter_is_scaled_by_the_root_of_the_rank(tmp_path: Path) -> None:
    config = json.dumps({"transformer.lora_alpha": 8, "transformer.use_rslora": True})
    assert list(scales(read(tmp_path, pair(), {"lora_adapter_metadata": config})).values()) == [4.0]


def test_each_expert_has_its_own_alpha_in_the_header(tmp_path: Path) -> None:
    config = json.dumps({"transformer.lora_alpha": 8, "transformer_2.lora_alpha": 1})
    weights = {**pair(), **pair(MODULE.replace("transformer.", "transformer_2."))}
    lora = read(tmp_path, weights, {"lora_adapter_metadata": config})
    assert [change.scale for change in lora.changes_of("high")] == [2.0]
    assert [change.scale for change in lora.changes_of("low")] == [0.25]


def peft_folder(folder: Path, config: object, weights: dict[str, Tensor]) -> Path:
    """As PEFT saves an adapter; `config` may be a text that is no JSON."""
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "adapter_config.json").write_text(text)
    return folder / "adapter_model.safetensors"


PEFT = {"peft_type": "LORA", "r": 4, "lora_alpha": 16}


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        (PEFT, 4.0),
        ({**PEFT, "use_rslora": True}, 8.0),
        ({**PEFT, "alpha_pattern": {"attn1.to_q": 2}}, 0.5),
        ({**PEFT, "alpha_pattern": {"^transformer\\.blocks\\.0\\.attn1\\.to_q$": 2}}, 0.5),
        ({**PEFT, "alpha_pattern": {"attn2.to_q": 2}}, 4.0),
        ({**PEFT, "r": 8, "rank_pattern": {"to_q": 4}}, 4.0),
        ({"peft_type": "LOHA", "r": 4, "alpha": 2}, 0.5),
    ],
)
def test_an_adapter_of_peft_is_scaled_by_the_configuration_beside_it(
    tmp_path: Path, config: object, scale: float
) -> None:
    assert list(scales(read_lora(peft_folder(tmp_path / "style", config, pair()))).values()) == [scale]


def test_lokr_of_whole_factors_is_scaled_by_peft_and_not_by_lycoris(tmp_path: Path) -> None:
    """peft/tuners/lokr/layer.py multiplies by alpha / r, LyCORIS ignores an alpha without a rank."""
    weights = {f"{MODULE}.lokr_w1": torch.ones(2, 2), f"{MODULE}.lokr_w2": torch.ones(12, 12)}
    config = {"peft_type": "LOKR", "r": 16, "alpha": 4}
    assert list(scales(read_lora(peft_folder(tmp_path / "a", config, weights))).values()) == [0.25]
    weights[f"{MODULE}.alpha"] = torch.tensor(4.0)
    save_file(weights, tmp_path / "b.safetensors")
    assert list(scales(read_lora(tmp_path / "b.safetensors")).values()) == [1.0]


def test_a_pattern_may_name_a_module_as_wan_does(tmp_path: Path) -> None:
    config = {**PEFT, "alpha_pattern": {"self_attn.q": 2}}
    file = peft_folder(tmp_path / "style", config, pair("base_model.model.blocks.0.self_attn.q"))
    assert scales(read_lora(file)) == {"blocks.0.attn1.to_q.weight": 0.5}


def test_a_configuration_is_for_the_only_lora_of_its_folder(tmp_path: Path) -> None:
    file = peft_folder(tmp_path / "style", PEFT, pair())
    file = file.rename(file.with_name("style.safetensors"))
    assert list(scales(read_lora(file)).values()) == [4.0]
    save_file(pair(), file.with_name("other.safetensors"))
    assert list(scales(read_lora(file)).values()) == [1.0]


def test_what_a_file_says_itself_counts_before_the_configuration_beside_it(tmp_path: Path) -> None:
    weights = {**pair(), f"{MODULE}.alpha": torch.tensor(2.0)}
    assert list(scales(read_lora(peft_folder(tmp_path / "style", PEFT, weights))).values()) == [0.5]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("not json", "is not readable as JSON"),
        ([], "holds a list"),
        ({"r": 4}, "states no lora_alpha"),
        ({**PEFT, "lora_alpha": None}, "lora_alpha is None"),
        ({**PEFT, "alpha_pattern": {".*to_q": 2}}, "names no module"),
        ({**PEFT, "rank_pattern": []}, ""),
        ({**PEFT, "rank_pattern": [1]}, "rank_pattern is no object"),
        ({**PEFT, "init_lora_weights": "pissa_niter_4"}, "states init_lora_weights pissa_niter_4: it was"),
        ({**PEFT, "r": 8}, "has rank 4, but style/adapter_config.json states 8"),
        (json.dumps(PEFT) + " " * 2**20, "is larger than"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(tmp_path: Path, config: object, message: str) -> None:
    file = peft_folder(tmp_path / "style", config, pair())
    if not message:
        assert list(scales(read_lora(file)).values()) == [4.0]
        return
    with pytest.raises(LoraError, match=message) as error:
        read_lora(file)
    assert "adapter_config.json" in str(error.value)


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "not json",
        "[1]",
        "[" * 100_000,
        '{"transformer.lora_alpha": "8"}',
        '{"transformer.lora_alpha": true}',
        '{"transformer.lora_alpha": NaN}',
        '{"transformer.lora_alpha": 1e999}',
        '{"transformer.lora_alpha": null}',
        '{"transformer.lora_alpha": 1' + "0" * 400 + "}",
        '{"transformer.lora_alpha": 8, "transformer.alpha_pattern": [1]}',
        '{"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"(a+)+$": 1}}',
    ],
)
def test_a_header_whose_alpha_cannot_be_known_is_refused(tmp_path: Path, metadata: str) -> None:
    with pytest.raises(LoraError, match=r"a\.safetensors: .*in its header"):
        read(tmp_path, pair(), {"lora_adapter_metadata": metadata})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop(f"{MODULE}.lora_B.weight"), "has no lora_B"),
        (lambda w: w.pop(f"{MODULE}.lora_A.weight"), "has no lora_A"),
        (
            lambda w: w.update({f"{MODULE}.lora_B.weight": torch.ones(6, 3)}),
            r"rank 4 in .*lora_A\.weight and 3",
        ),
        (lambda w: w.update({f"{MODULE}.lora_A.weight": torch.ones(4)}), "instead of a matrix"),
        (lambda w: w.update({f"{MODULE}.lora_A.weight": torch.ones(0, 6)}), "an empty"),
        (lambda w: w.update({f"{MODULE}.lora_A.weight": torch.ones(4, 6, dtype=torch.int8)}), "as I8"),
        (lambda w: w.update({f"{MODULE}.alpha": torch.tensor(float("nan"))}), "has alpha nan"),
        (lambda w: w.update({f"{MODULE}.alpha": torch.tensor(float("inf"))}), "has alpha inf"),
        (lambda w: w.update({f"{MODULE}.alpha": torch.ones(2)}), "instead of a single number"),
        (lambda w: w.update({f"{MODULE}.alpha": torch.ones(0)}), "an empty"),
        (
            lambda w: w.update(pair("diffusion_model.blocks.0.self_attn.q")),
            "has both diffusion_model.* and transformer",
        ),
        (
            lambda w: w.update({f"{MODULE}.lora_A.second.weight": torch.ones(4, 6)}),
            "one LoRA per file",
        ),
        (lambda w: w.update({f"{MODULE}.scale_weight": torch.ones(1)}), r"is quantised .*scale_weight"),
        (lambda w: w.update({f"{OTHER}.hada_w1_a": torch.ones(6, 2)}), "has no hada_w1_b"),
        (lambda w: w.update({f"{OTHER}.lokr_w1": torch.ones(6, 2)}), "has no lokr_w2_a"),
        (lambda w: w.update({f"{MODULE}.dora_scale": torch.ones(5, 1)}), "5x1 on a 6x6 change"),
        (
            lambda w: w.update(
                {
                    f"{OTHER}.hada_{part}": torch.ones(shape)
                    for part, shape in {
                        "w1_a": (6, 2),
                        "w1_b": (2, 6),
                        "w2_a": (6, 2),
                        "w2_b": (2, 5),
                    }.items()
                }
            ),
            "LoHa factors of different shapes, 6x6 and 6x5",
        ),
        (
            lambda w: w.update(
                {
                    f"{OTHER}.lokr_{part}": torch.ones(shape)
                    for part, shape in {
                        "w1_a": (2, 1),
                        "w1_b": (1, 2),
                        "w2_a": (3, 2),
                        "w2_b": (2, 3),
                    }.items()
                }
            ),
            "ranks 1 and 2",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused_by_name(
    tmp_path: Path, spoil: object, message: str
) -> None:
    weights = pair()
    spoil(weights)  # type: ignore[operator]
    with pytest.raises(LoraError, match=rf"a\.safetensors: .*{message}"):
        read(tmp_path, weights)


def test_what_has_no_use_is_counted_and_not_fatal(tmp_path: Path) -> None:
    lora = read(tmp_path, {**pair(), f"{OTHER}.alpha": torch.tensor(1.0), "text_model.x": torch.ones(1)})
    assert lora.unknown_keys == ("text_model.x", f"{OTHER}.alpha")


def test_keys_of_strangers_are_made_fit_to_be_shown(tmp_path: Path) -> None:
    """And are looked at once: a long row of prefixes costs no more than any other key."""
    keys = ("\x1b[2Jclear", "transformer." * 50_000, "a." * 50_000)
    lora = read(tmp_path, {**pair(), **{key: torch.ones(1) for key in keys}})
    assert lora.unknown_keys[0] == "?[2Jclear"
    assert max(map(len, lora.unknown_keys)) == 120


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 64,
        struct.pack("<Q", 2**40) + b"{}",  # a header of a terabyte
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}     ',
    ],
    ids=["empty", "noise", "huge header", "no object", "data missing"],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    with pytest.raises(LoraError, match=r"a\.safetensors: not a readable safetensors"):
        read_lora(file)


@pytest.mark.parametrize(
    ("part", "form"),
    [
        ("vera_lambda_b", "VeRA"),
        ("ia3_l", "IA3"),
        ("on_input", "IA3"),
        ("hra_u", "HRA"),
        ("fourierft_n", "FourierFT"),
        ("lora_E", "AdaLoRA"),
        ("lora_E.default", "AdaLoRA"),
        ("miss_block", "MiSS"),
        ("randlora_lambda", "RandLoRA"),
        ("glora_A.Xd", "GLoRA"),
    ],
)
def test_a_form_that_is_not_read_is_named(tmp_path: Path, part: str, form: str) -> None:
    file = tmp_path / "a.safetensors"
    save_file({f"base_model.model.blocks.0.self_attn.q.{part}": torch.ones(4)}, file)
    with pytest.raises(LoraError, match=rf"a\.safetensors: is an adapter of the form {form}, which is not"):
        read_lora(file)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    read(tmp_path, pair())
    file = tmp_path / "a.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(LoraError, match=r"a\.safetensors"):
        read_lora(file)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_the_header_is_an_error_of_ours_or_none(tmp_path: Path, data: st.DataObject) -> None:
    weights = {**pair(rank=1), f"{MODULE}.alpha": torch.tensor(1.0), f"{OTHER}.diff": torch.ones(6, 6)}
    config = json.dumps({"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"attn2.to_k": 1}})
    read(tmp_path, weights, {"lora_adapter_metadata": config})
    file = tmp_path / "a.safetensors"
    content = bytearray(file.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, header - 1))
        content[at] = data.draw(st.sampled_from(b'0123456789-e.,:"[]{}AB_\xff\x00'))
    (tmp_path / "b.safetensors").write_bytes(content)
    with contextlib.suppress(LoraError):
        read_lora(tmp_path / "b.safetensors")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1)}, file)
    with pytest.raises(LoraError, match=r"not a \.safetensors"):
        read_lora(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoraError, match=r"nowhere\.safetensors"):
        read_lora(tmp_path / "nowhere.safetensors")

"""Files that are damaged or made to do harm: a clear error that names the file, and nothing else happens."""

from __future__ import annotations

import json
import resource
import struct
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_files as tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.loading.identify import identify, read_part
from wan_duet.pipelines.weights.checkpoint import read_checkpoint
from wan_duet.pipelines.weights.stored_tensors import Files

SLOW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
MOST_BYTES = 64 * 2**20  # what reading any tiny file may take on the way


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A whole transformer in both containers, as bytes."""
    folder = tmp_path_factory.mktemp("sound")
    names = tiny.wan_transformer_names(tiny.cast(tiny.transformer(), torch.float16))
    small = {name: tensor for name, tensor in names.items() if tensor.dim() < 2 or "modulation" in name}
    return {
        ".safetensors": tiny.save(folder / "m.safetensors", small).read_bytes(),
        ".gguf": tiny.save_gguf(folder / "m.gguf", small, "F16")[0].read_bytes(),
    }


def refused(file: Path, content: bytes) -> str:
    """The message that reading `content` ends with; it takes little memory and names the file."""
    file.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ModelError) as caught:
            read_checkpoint(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES
    assert file.name in str(caught.value)
    return str(caught.value)


def header(content: object, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(
    dtype: str = "F32", shape: tuple[int, ...] = (1,), start: int = 0, end: int = 4
) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


EMPTY = json.dumps(tensor(shape=(0,), start=0, end=0)).encode()
SAFETENSORS = {
    "empty": b"",
    "nothing but a length": struct.pack("<Q", 8),
    "a huge header": struct.pack("<Q", 2**63) + b"{}",
    "a header larger than the file": struct.pack("<Q", 10**6) + b"{}",
    "no JSON": header(b"{" * 50_000),
    "deep JSON": header(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "a list": header([1, 2]),
    "data cut short": header({"a": tensor(shape=(4,), end=16)}, bytes(8)),
    "a tensor of exabytes": header({"a": tensor(shape=(2**40, 2**40), end=2**62)}, bytes(4)),
    "a shape that overflows": header({"a": tensor(shape=(2**63, 4), end=4)}, bytes(4)),
    "a shape that is not its bytes": header({"a": tensor(shape=(9,), end=4)}, bytes(4)),
    "overlapping tensors": header({"a": tensor(), "b": tensor(start=2, end=6)}, bytes(8)),
    "a hole between tensors": header({"a": tensor(), "b": tensor(start=8, end=12)}, bytes(12)),
    "offsets backwards": header({"a": tensor(start=4, end=0)}, bytes(4)),
    "an unknown dtype": header({"a": tensor("Q7")}, bytes(4)),
    "a dtype of another size": header({"a": tensor("F64")}, bytes(4)),
    "too many tensors": header(b"{" + b",".join(b'"t%d":%b' % (i, EMPTY) for i in range(300_000)) + b"}"),
    "a zip": b"PK\x03\x04" + bytes(400),
}  # fmt: skip


@pytest.mark.parametrize("what", SAFETENSORS)
def test_a_damaged_safetensors_file_is_named(tmp_path: Path, what: str) -> None:
    assert "not a readable safetensors file" in refused(tmp_path / "m.safetensors", SAFETENSORS[what])


@pytest.mark.parametrize("second", [tensor(end=2**40), tensor(shape=(9,)), tensor("F64"), {"dtype": 3}, 7])
def test_a_tensor_described_twice_is_refused(tmp_path: Path, second: object) -> None:
    """safetensors may have looked at the one description, and we at the other."""
    for pair in ((tensor(), second), (second, tensor())):
        both = ",".join(f'"a":{json.dumps(one)}' for one in pair)
        file = tmp_path / "m.safetensors"
        file.write_bytes(header(f"{{{both}}}".encode(), bytes(4)))
        assert not (problem := problem_of(file)) or file.name in problem


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def info(key: str = "t", dims: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(key) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def gguf_file(
    entries: list[bytes] | None = None,
    infos: list[bytes] | None = None,
    *,
    counts: tuple[int, int] | None = None,
    version: int = 3,
    data: bytes = bytes(256),
) -> bytes:
    entries, infos = entries or [], [info()] if infos is None else infos
    head = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(infos), len(entries))))
    head += b"".join(entries) + b"".join(infos)
    return head + bytes(-len(head) % 32) + data


GGUF = {
    "empty": (b"", "cannot be read"),
    "not GGUF": (b"GGML" + bytes(60), "does not start with the bytes GGUF"),
    "another version": (gguf_file(version=9), "version 9"),
    "of another byte order": (b"GGUF" + struct.pack(">I", 3) + bytes(60), "version 50331648"),
    "a header cut short": (gguf_file()[:40], "its header needs"),
    "2^60 tensors": (gguf_file(counts=(2**60, 0)), "1152921504606846976 tensors"),
    "2^60 entries": (gguf_file(counts=(1, 2**60)), "announces"),
    "more tensors than there are": (gguf_file(counts=(60_000, 0)), "GGUF"),
    "a name of exabytes": (gguf_file([struct.pack("<Q", 2**62)]), "a string has"),
    "a text of exabytes": (gguf_file([entry("k", 8, struct.pack("<Q", 2**62))]), "a string has"),
    "a list of exabytes": (gguf_file([entry("k", 9, struct.pack("<IQ", 10, 2**61))]), "its header needs"),
    "a list of exabytes of text": (gguf_file([entry("k", 9, struct.pack("<IQ", 8, 2**61))]), "header needs"),
    "a list of lists": (gguf_file([entry("k", 9, struct.pack("<IQ", 9, 1))]), "unknown type 9"),
    "an unknown kind of entry": (gguf_file([entry("k", 77, b"")]), "unknown type 77"),
    "a name that is no text": (gguf_file([struct.pack("<Q", 2) + b"\xff\xfe"]), "damaged"),
    "a thousand dimensions": (gguf_file(infos=[text("t") + struct.pack("<I", 1000)]), "1000 dimensions"),
    "a tensor of exabytes": (gguf_file(infos=[info(dims=(2**40, 2**40))]), "truncated"),
    "data cut short": (gguf_file(data=bytes(64)), "truncated: t ends at byte"),
    "an empty side": (gguf_file(infos=[info(dims=(0, 4))]), "rows of 0|t .F32"),
    "half a block": (gguf_file(infos=[info(dims=(40,), kind=8)]), "rows of 40 values, not a multiple of 32"),
    "an unknown type": (gguf_file(infos=[info(kind=999)]), "type 999"),
    "two of a name": (gguf_file(infos=[info(), info(offset=128)]), "occurs twice"),
    "overlapping tensors": (gguf_file(infos=[info("a"), info("b", offset=64)]), "overlaps another tensor"),
    "an odd offset": (gguf_file(infos=[info(offset=3)]), "overlaps another tensor"),
    "an offset beyond": (gguf_file(infos=[info(offset=2**62)]), "truncated"),
    "no alignment": (gguf_file([entry("general.alignment", 4, struct.pack("<I", 0))]), "aligned to 0"),
    "an odd alignment": (gguf_file([entry("general.alignment", 4, struct.pack("<I", 33))]), "aligned to 33"),
    "an alignment in words": (gguf_file([entry("general.alignment", 8, text("x"))]), "aligned to x"),
    "folded from another size": (
        gguf_file([entry("comfy.gguf.orig_shape.t", 9, struct.pack("<IQ2i", 5, 2, 4, 9))]),
        r"noted shape \[4, 9\]",
    ),
    "folded from less than nothing": (
        gguf_file([entry("comfy.gguf.orig_shape.t", 9, struct.pack("<IQ2i", 5, 2, -4, -8))]),
        r"noted shape \[-4, -8\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", GGUF)
def test_a_damaged_gguf_file_is_named_with_what_is_wrong(tmp_path: Path, what: str) -> None:
    content, message = GGUF[what]
    found = refused(tmp_path / "m.gguf", content)
    assert any(part in found or part.replace("\\", "") in found for part in message.split("|"))


def test_a_sound_file_made_by_the_same_hands_is_read(tmp_path: Path) -> None:
    """Else the refusals above would prove nothing."""
    (tmp_path / "m.gguf").write_bytes(gguf_file([entry("general.architecture", 8, text("wan"))]))
    (tmp_path / "m.safetensors").write_bytes(header({"t": tensor(shape=(32,), end=128)}, bytes(128)))
    for name in ("m.gguf", "m.safetensors"):
        (source,) = read_checkpoint(tmp_path / name).tensors.values()
        assert source.shape == (32,)


def problem_of(file: Path) -> str:
    """What is wrong with a file, as far as a loader ever goes: header, kind, the numbers of every tensor."""
    identify(file)
    try:
        checkpoint = read_checkpoint(file)
        with Files(torch.device("cpu")) as files:
            for source in checkpoint.tensors.values():
                assert source.read(files).shape == source.shape
    except ModelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
@SLOW
@given(data=st.data())
def test_any_spoiled_file_is_read_or_refused(
    tmp_path: Path, sound: dict[str, bytes], suffix: str, data: st.DataObject
) -> None:
    content = bytearray(sound[suffix])
    end = struct.unpack("<Q", content[:8])[0] + 8 if suffix == ".safetensors" else 8000
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(end, len(content)) - 8))
        patch = data.draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 8, bytes(8)]))
        content[at : at + len(patch)] = patch
    content = content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))]
    file = tmp_path / f"m{suffix}"
    file.write_bytes(content)
    assert not (problem := problem_of(file)) or file.name in problem


KNOWN_KEYS = [
    *("patch_embedding.weight", "head.head.weight", "blocks.0.ffn.0.weight", "lora_unet_x.lora_up.weight"),
    *("decoder.conv1.weight", "encoder.conv1.weight", "conv2.weight", "shared.weight", "spiece_model"),
    *("vae.decoder.conv1.weight", "text_encoders.umt5xxl.transformer.shared.weight", "vae.conv2.weight"),
    *("text_encoders.spiece_model", "model.diffusion_model.patch_embedding.weight", "a.comfy_quant.weight"),
    *("scaled_fp8", "a.weight", "a.scale_weight", "a.weight_scale", "a.comfy_quant", ".weight", ""),
]
ROWS = ["blocks", "encoder.block", "decoder.upsamples", "encoder.downsamples"]
LEAVES = ["attn.q.weight", "resample.1.weight", "upsamples.0.shortcut.bias", "modulation", ""]
ODD_KEYS = st.dictionaries(
    st.sampled_from(KNOWN_KEYS)
    | st.builds("{}.{}.{}".format, st.sampled_from(ROWS), st.integers(0, 10**30), st.sampled_from(LEAVES)),
    st.lists(st.integers(0, 3), max_size=5),
    max_size=12,
)


@SLOW
@given(keys=ODD_KEYS, dtype=st.sampled_from([torch.float32, torch.uint8, torch.float8_e4m3fn, torch.int8]))
def test_any_set_of_keys_is_identified_without_a_crash(
    tmp_path: Path, keys: dict[str, list[int]], dtype: torch.dtype
) -> None:
    file = tiny.save(
        tmp_path / "k.safetensors", {key: torch.zeros(shape).to(dtype) for key, shape in keys.items()}
    )
    found = identify(file)
    assert found.problem or found.kind == "LoRA"


@SLOW
@given(
    hint=st.none()
    | st.text(max_size=9)
    | st.lists(st.integers(), max_size=3)
    | st.dictionaries(st.sampled_from(["format", "convrot"]), st.text(max_size=9) | st.booleans())
)
def test_any_hint_about_compression_is_understood_or_refused(tmp_path: Path, hint: object) -> None:
    weights = {"a.weight": torch.zeros(2, 2).to(torch.float8_e4m3fn), "a.weight_scale": torch.ones(1)}
    said = json.dumps({"layers": {"a": hint}})
    file = tiny.save(tmp_path / "h.safetensors", weights, _quantization_metadata=said)
    with pytest.raises(ModelError, match=r"a is quantised as|not readable as JSON"):
        read_checkpoint(file)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_promise_of_terabytes_is_refused_without_memory_for_it(tmp_path: Path) -> None:
    """A sparse file may really be that long: its header is all that may be read."""
    content = gguf_file(infos=[info(dims=(2**38,))], data=b"")
    file = tmp_path / "m.gguf"
    file.write_bytes(content)
    with file.open("r+b") as stream:
        stream.truncate(len(content) + 2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert identify(file).kind == "unknown"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


@pytest.mark.parametrize(
    "weights",
    [
        lambda w: w | {f"blocks.{10**9}.self_attn.q.weight": torch.ones(1)},
        lambda w: w | {f"blocks.{'9' * 4000}.self_attn.q.weight": torch.ones(1)},
        lambda w: w | {"blocks.7.self_attn.q.weight": torch.ones(256, 256)},
    ],
)
def test_block_numbers_out_of_all_proportion_are_refused(
    tmp_path: Path, weights: Callable[[tiny.Weights], tiny.Weights]
) -> None:
    names = tiny.wan_transformer_names(tiny.transformer())
    with pytest.raises(ModelError):
        read_part(tiny.save(tmp_path / "m.safetensors", weights(names)), "transformer", "model")


def test_a_folder_whose_index_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../secret.safetensors"}})
    )
    with pytest.raises(ModelError, match="must lie in the folder itself"):
        read_checkpoint(tmp_path)

"""`check` and `plan` open the files of a request: the headers of LoRAs, and pictures, clips and sound."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.video.encode_video import encode_video

Findings = list[dict[str, Any]]


def lora(file: Path, **modules: int) -> str:
    """Write a LoRA of these modules, each with its width."""
    weights = {}
    for module, width in modules.items():
        weights[f"diffusion_model.{module}.lora_A.weight"] = torch.ones(2, width)
        weights[f"diffusion_model.{module}.lora_B.weight"] = torch.ones(width, 2)
    save_file(weights, file)
    return str(file)


def checked(
    capsys: pytest.CaptureFixture[str], *arguments: str, loras: list[dict[str, Any]] | None = None
) -> tuple[int, Findings]:
    given = [] if loras is None else ["--loras", json.dumps(loras)]
    code = main(["check", *arguments, *given, "--prompt", "a red ball", "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    return code, [finding for finding in findings if finding["status"] in ("impossible", "warning")]


ON_TOY = ["--kind", "text-to-video-lora", "--model", "toy"]


@pytest.mark.parametrize("on", ["local", "fal"])
def test_a_lora_that_is_not_there_is_a_finding(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, on: str
) -> None:
    gone = str(tmp_path / "gone.safetensors")
    code, found = checked(capsys, *ON_TOY, "--on", on, loras=[{"path": gone}])
    (said,) = (one for one in found if one["field"] == "loras[0].path")
    assert (code, said["status"]) == (2, "impossible")
    assert "not found here" in said["reason"]


@pytest.mark.parametrize("command", ["plan", "generate"])
def test_plan_and_generate_refuse_a_missing_lora(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    gone = json.dumps([{"path": str(tmp_path / "gone.safetensors")}])
    out = ["-o", str(tmp_path / "a.mp4")] if command == "generate" else []
    assert main([command, *ON_TOY, *out, "--prompt", "a red ball", "--loras", gone]) != 0
    assert "gone.safetensors" in capsys.readouterr().err


def test_a_damaged_lora_is_a_finding(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 9)
    code, found = checked(capsys, *ON_TOY, loras=[{"path": str(tmp_path / "a.safetensors")}])
    assert code == 2
    assert "not a readable safetensors file" in found[0]["reason"]


def test_a_lora_of_another_model_is_a_finding_with_the_model_and_without(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = lora(tmp_path / "a.safetensors", **{"blocks.0.self_attn.q": 5120})
    code, (said,) = checked(capsys, *ON_TOY, loras=[{"path": file}])
    assert (code, said["status"], said["field"]) == (2, "impossible", "loras[0].path")
    assert "It seems to be made for Wan 14B" in said["reason"]
    small = lora(tmp_path / "b.safetensors", **{"blocks.0.self_attn.q": 1536})
    code, found = checked(capsys, "--kind", "text-to-video-lora", loras=[{"path": small}, {"path": file}])
    assert code == 0
    assert [(one["field"], one["reason"]) for one in found] == [
        ("loras[0].path", "seems to be made for Wan 2.1 1.3B; wan2.2-t2v-a14b has width 5120")
    ]


def test_keys_without_effect_are_a_finding_of_check_and_of_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    modules = {f"blocks.{index}.self_attn.{part}": 256 for index in range(3) for part in "qkv"}
    file = lora(
        tmp_path / "a.safetensors", **modules, **{"blocks.9.self_attn.q": 256, "vace_blocks.0.ffn.0": 256}
    )
    wanted = [{"path": file, "transformer": "both"}]
    code, (said,) = checked(capsys, *ON_TOY, loras=wanted)
    assert (code, said["status"]) == (0, "warning")
    assert said["reason"] == (
        "on the high and the low-noise expert: 2 keys not in this model, such as "
        "diffusion_model.blocks.9.self_attn.q.lora_A.weight; 2 keys of VACE, which have no effect here, such "
        "as diffusion_model.vace_blocks.0.ffn.0.lora_A.weight"
    )
    out = tmp_path / "a.jpg"
    quick = ["--num-inference-steps", "2", "--acceleration", "none", "-o", str(out)]
    request = ["--kind", "text-to-image-lora", "--model", "toy", "--prompt", "a red ball"]
    assert main(["generate", *request, "--loras", json.dumps(wanted), *quick]) == 0
    assert said["reason"] in capsys.readouterr().err
    assert said["reason"] in json.dumps(json.loads(out.with_suffix(".json").read_text())["findings"])


def test_an_adapter_of_peft_without_its_configuration_is_a_finding(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_file(load_file(embedded_loras()["toy/circling"]), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 4}')
    _, found = checked(capsys, *ON_TOY, loras=[{"path": str(tmp_path)}])
    assert found == []
    (tmp_path / "adapter_config.json").unlink()
    _, found = checked(capsys, *ON_TOY, loras=[{"path": str(tmp_path)}])
    assert ["its alpha is unknown" in one["reason"] for one in found] == [True]


def picture(file: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    Image.fromarray(noise).save(file)
    return file


def cut(file: Path, share: float) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    return file


def media_of_check(capsys: pytest.CaptureFixture[str], kind: str, field: str, value: str) -> tuple[int, str]:
    flag = f"--{field.replace('_', '-')}"
    code, found = checked(capsys, "--kind", kind, flag, value)
    return code, "; ".join(one["reason"] for one in found if one["field"] == field)


def test_a_whole_picture_is_nothing_to_tell(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = picture(tmp_path / "a.jpg")
    assert media_of_check(capsys, "image-to-video", "image_url", str(file)) == (0, "")


@pytest.mark.parametrize("field", ["image_url", "end_image_url"])
def test_a_picture_that_is_missing_or_damaged_is_a_finding(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, field: str
) -> None:
    others = [] if field == "image_url" else ["--image-url", str(picture(tmp_path / "b.png"))]
    not_a_picture = tmp_path / "c.heic"
    not_a_picture.write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    for file in (tmp_path / "gone.png", cut(picture(tmp_path / "a.jpg"), 0.5), not_a_picture):
        flag = f"--{field.replace('_', '-')}"
        code, found = checked(capsys, "--kind", "image-to-video", *others, flag, str(file))
        assert (code, [one["field"] for one in found if one["status"] == "impossible"]) == (2, [field])
        assert file.name in found[0]["reason"] or "picture" in found[0]["reason"]


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        ("image-to-video", "--image-url"),
        ("video-to-video", "--video-url"),
        ("image-to-image", "--image-url"),
        ("speech-to-video", "--audio-url"),
    ],
)
def test_a_missing_file_is_no_reason_to_give_what_this_machine_does_not_take(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str, flag: str
) -> None:
    others = ["--image-url", str(picture(tmp_path / "a.png"))] if kind == "speech-to-video" else []
    gone = str(tmp_path / "gone.bin")
    _, found = checked(capsys, "--kind", kind, *others, flag, gone)
    (said,) = (one["reason"] for one in found if one["asked"] == gone)
    assert "give a file that can be read" in said
    assert "address" not in said


def test_where_no_files_are_taken_a_missing_one_is_not_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone.png")
    _, found = checked(capsys, "--kind", "image-to-video", "--on", "novita", "--image-url", gone)
    assert [one["reason"] for one in found] == ["Novita accepts no image files; give an https address"]
    loras = [{"path": str(tmp_path / "gone.safetensors")}]
    _, found = checked(capsys, "--kind", "text-to-video-lora", "--on", "novita", loras=loras)
    assert not [one for one in found if ".safetensors file" in one["reason"]]


def test_addresses_are_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    address = "https://files.example/a.png"
    code, found = checked(capsys, "--kind", "image-to-video", "--on", "fal", "--image-url", address)
    assert (code, found) == (0, [])


def clip(file: Path) -> Path:
    frames = iter(np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), np.uint8))
    encode_video(frames, file, width=64, height=64, fps=Fraction(16), frame_count=30, write_mode="fast")
    return file


def in_front(file: Path) -> Path:
    """Move the index of an MP4 to its front, where a broken download keeps it."""
    to = file.with_name(f"front_{file.name}")
    with av.open(str(file)) as source, av.open(str(to), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return to


@pytest.mark.parametrize(
    ("share", "told"),
    [(1.0, ""), (0.5, "is cut off after"), (0.99, "is cut off after")],
)
def test_a_video_that_is_cut_off_is_a_finding(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, share: float, told: str
) -> None:
    file = cut(in_front(clip(tmp_path / "a.mp4")), share)
    code, said = media_of_check(capsys, "video-to-video", "video_url", str(file))
    assert (code, told in said, bool(said)) == (2 if told else 0, True, bool(told))


@pytest.mark.parametrize("content", [b"RIFF", b"no sound at all" * 9])
def test_sound_that_cannot_be_read_is_a_finding(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    speech = [
        "--kind",
        "speech-to-video",
        "--model",
        "toy-speech",
        "--image-url",
        str(picture(tmp_path / "b.png")),
    ]
    code, found = checked(capsys, *speech, "--audio-url", str(tmp_path / "a.wav"))
    assert (code, [one["field"] for one in found if one["status"] == "impossible"]) == (2, ["audio_url"])


def test_check_counts_the_formats_of_each_expert(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check", "--model", "toy", "--prompt", "a red ball"]
    assert main([*arguments, "--json"]) == 0
    stored = json.loads(capsys.readouterr().out)["stored_as"]
    assert [*stored] == ["high", "low"]
    (kind, count), *_ = stored["high"].items()
    assert main(arguments) == 0
    assert f"stored as: high: {count} {kind}" in capsys.readouterr().out

"""The command line: answers on stdout, everything else on stderr, and exit codes that scripts can rely on."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_files
from PIL import Image
from quantised_files import quantised
from safetensors.torch import load_file
from tiny_models import make_model

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.plan.expectation import Rates, write_rates
from wan_duet.pipelines.request import KINDS
from wan_duet.pipelines.video.probe import probe

from ..video import clips
from .forked import running

REQUEST = {
    "prompt": "a red ball moves left",
    "num_frames": 17,
    "num_inference_steps": 2,
    "seed": 7,
    "interpolator_model": "none",
}
SMALL = {"local": {"width": 32, "height": 32}}  # for runs: most of their time goes by the area

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_request(**changes: object) -> str:
        file = tmp_path / "request.json"
        file.write_text(json.dumps({**REQUEST, **changes}), encoding="utf-8")
        return str(file)

    return write_request


@pytest.fixture(scope="module")
def receipt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The receipt of a run, to be changed in a copy."""
    folder = tmp_path_factory.mktemp("receipt")
    asked, out = folder / "request.json", folder / "a.mp4"
    asked.write_text(json.dumps({**REQUEST, **SMALL}), encoding="utf-8")
    assert main(["generate", str(asked), "--model", "toy", "-o", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    return found


def test_generate_writes_the_video_and_ends_with_its_path(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out.mp4"
    assert (
        main(["generate", write(interpolator_model="film", **SMALL), "--model", "toy", "-o", str(out)]) == 0
    )
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [str(out)]
    assert "sampling: 2 steps" in shown.err
    assert "adjusted interpolator_model" in shown.err
    assert probe(out).frames == 33
    assert json.loads(out.with_suffix(".json").read_text())["seed"] == 7


def test_the_file_is_stored_as_its_name_and_its_flags_say(write: Write, tmp_path: Path) -> None:
    out = tmp_path / "a.mov"
    assert main(["generate", write(**SMALL), "--model", "toy", "-o", str(out), "--codec", "h265"]) == 0
    assert probe(out).codec == "hevc"


def test_how_a_file_is_stored_is_refused_where_a_provider_is_asked(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag, value in {"--codec": "h265", "--bit-depth": "10", "--scene-threshold": "1"}.items():
        assert main(["check", write(), "--on", "fal", flag, value]) == 2
        assert f"local.{flag[2:].replace('-', '_')}" in (said := capsys.readouterr().out)
        assert "only this machine has it" in said
    assert main(["generate", write(), "--on", "fal", "-o", str(tmp_path / "a.mov")]) == 2
    assert "give a name that ends in .mp4, .png, .jpg, .jpeg" in capsys.readouterr().err


def test_generate_repeats_a_receipt(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    assert main(["generate", write(**SMALL), "--model", "toy", "-o", str(first)]) == 0
    assert main(["generate", "--from-receipt", str(tmp_path / "a.json"), "-o", str(second)]) == 0
    latents = [
        json.loads(file.with_suffix(".json").read_text())["latents_sha256"] for file in (first, second)
    ]
    assert latents[0] == latents[1]


def test_another_residency_is_said_and_changes_no_bit(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", write(**SMALL), "--model", "toy", "-o", str(tmp_path / "a.mp4")]
    told = []
    for residency, words in (("auto", "one expert resident"), ("ring:2", "2 slots stream the others")):
        assert main([*command, "--residency", residency]) == 0
        assert words in capsys.readouterr().err
        receipt = json.loads((tmp_path / "a.json").read_text())
        assert receipt["memory"]["residency"]["slots"] == (2 if residency == "ring:2" else 4)
        told.append(receipt["latents_sha256"])
    assert told[0] == told[1]
    assert main([*command, "--residency", "some"]) == 2
    assert "give auto, resident, ring, or ring:N" in capsys.readouterr().err


def test_how_the_experts_compute_is_chosen_said_and_recorded(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.mp4"
    command = ["generate", write(**SMALL), "--model", "toy", "-o", str(out)]
    assert main([*command, "--attention", "sdpa"]) == 0
    assert "sdpa attention, plain kernels" in capsys.readouterr().err
    assert json.loads((tmp_path / "a.json").read_text())["model"]["choices"]["attention"] == "sdpa"
    assert json.loads((tmp_path / "a.json").read_text())["model"]["kernels_refused"] == {}
    out.unlink()
    assert main([*command, "--kernels", "kitchen", "--device", "cpu"]) != 0
    assert "kernels: kitchen does not run on cpu here: not installed" in capsys.readouterr().err
    assert main([*command, "--attention", "flash3", "--device", "cpu"]) != 0
    assert "attention: flash3 does not run on cpu here" in capsys.readouterr().err
    assert not out.exists()
    again = ["generate", "--from-receipt", str(tmp_path / "a.json"), "-o", str(out), "--compile"]
    assert main(again) == 2
    assert "--compile: given together with --from-receipt" in capsys.readouterr().err
    assert main([*again[:-1], "--kernels", "plain"]) == 2
    assert "--kernels: given together with --from-receipt" in capsys.readouterr().err


def test_generate_reads_stdin_a_folder_and_answers_with_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps({**REQUEST, **SMALL}).encode())))
    out = tmp_path / "out.mp4"
    assert main(["generate", "-", "--model", str(toy_folder()), "-o", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["video"] == str(out)
    assert answer["seed"] == 7
    assert answer["prompt"] == REQUEST["prompt"]
    assert answer["receipt"]["plan"]["forwards"] == 4


def test_check_says_what_happens_to_each_field(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(), "--on", "local", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert {finding["field"] for finding in report["findings"]} >= set(REQUEST)
    assert main(["check", write(interpolator_model="rife")]) == 2
    assert "impossible: interpolator_model" in capsys.readouterr().out


def test_plan_prints_the_numbers_of_the_default_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.json"
    file.write_text('{"prompt": "a"}')
    assert main(["plan", str(file)]) == 0
    assert capsys.readouterr().out.strip() == (
        "high: 12 steps (sigma 1.000-0.879), low: 15 steps, 54 forwards, 81 frames at 16 fps -> 161 at 32 fps"
    )
    assert main(["plan", str(file), "--json", "--model", "toy"]) == 0
    answer = json.loads(capsys.readouterr().out)
    plan = answer["plan"]
    assert (plan["width"], plan["height"], plan["frames_generated"]) == (112, 64, 17)
    assert answer["memory"]["stages"][0]["name"] == "text encoder"
    assert main(["plan", str(file), "--model", "toy"]) == 0
    assert "GiB" in capsys.readouterr().out


def test_kinds_names_kind_and_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kinds", "--json"]) == 0
    kinds = json.loads(capsys.readouterr().out)
    assert [kind["kind"] for kind in kinds] == [*KINDS, "shots"]
    assert len(kinds) == 38
    assert kinds[0]["contract"] == "WanT2VRequest"
    assert main(["kinds"]) == 0
    assert "text-to-video " in capsys.readouterr().out


def test_schema_prints_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "text-to-video"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["required"] == ["prompt"]
    assert schema["properties"]["num_frames"]["minimum"] == 1
    assert main(["schema", "text-to-video", "--on", "fal"]) == 0
    stated = json.loads(capsys.readouterr().out)
    assert stated["properties"]["num_frames"]["maximum"] == 161
    assert "local" not in stated["properties"]
    assert main(["schema", "text-to-video", "--on", "novita"]) == 2


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("not json", "request"),
        ('{"prompt": ""}', "prompt"),
        ('{"prompt": "a", "num_frames": 0}', "num_frames"),
        ('{"prompt": "a", "num_framse": 17}', "num_framse"),
        ('{"prompt": "a", "interpolator_model": "rife"}', "interpolator_model"),
    ],
)
def test_a_bad_request_is_exit_code_2_and_names_the_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, field: str
) -> None:
    file, out = tmp_path / "r.json", tmp_path / "out.mp4"
    file.write_text(content)
    assert main(["generate", str(file), "--model", "toy", "-o", str(out), "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [problem["field"] for problem in json.loads(shown.err)["problems"]] == [field]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["generate", "nowhere.json", "--model", "toy", "-o", "a.mp4"], "nowhere.json"),
        (["generate", "nowhere.json", "-o", "a.avi", "--model", "toy"], ".mp4"),
        (["generate", "-o", "a.mp4", "--model", "toy"], "REQUEST.json"),
        (["generate", "a.json", "--from-receipt", "b.json", "-o", "a.mp4"], "give one of the two"),
    ],
)
def test_a_wrong_command_is_exit_code_2_and_says_what_would_work(
    capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    assert main(arguments) == 2
    assert word in capsys.readouterr().err


def test_a_model_that_is_missing_is_exit_code_1(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["generate", write(), "--model", str(tmp_path / "none"), "-o", str(tmp_path / "a.mp4")])
    assert code == 1
    assert "no such model" in capsys.readouterr().err


def test_generate_without_a_model_says_which_there_are(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", write(), "-o", str(tmp_path / "a.mp4")]) == 2
    assert "give toy, a folder" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["quantum", "cuda:99"])
def test_a_device_that_is_not_there_is_exit_code_2(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    out = str(tmp_path / "a.mp4")
    assert main(["generate", write(), "--model", "toy", "-o", out, "--device", device]) == 2
    assert f"device: {device}" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="there a kill cannot be caught")
def test_a_kill_in_the_middle_leaves_nothing_behind(write: Write, tmp_path: Path) -> None:
    out = tmp_path / "out" / "a.mp4"
    with running("generate", write(aspect_ratio="16:9"), "--model", "toy", "-o", str(out)) as process:
        for line in process.stderr:
            if line.startswith("video: "):
                os.kill(process.pid, signal.SIGTERM)
                break
        assert "Stopped." in process.stderr.read()
        assert process.code() == 130
    assert not out.parent.exists()


def test_flags_make_a_request_and_win_over_the_file(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--prompt", "a", "--num-frames", "33", "--json", "--model", "toy"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["frames_delivered"] == 33
    assert main(["plan", write(num_frames=41), "--num-frames", "33", "--shift", "3", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["frames_delivered"], plan["shift"], plan["seed"]) == (33, 3, 7)


@pytest.mark.parametrize(
    ("kind", "flags", "field", "value"),
    [
        ("text-to-video", ["--adjust-fps-for-interpolation", "no"], "adjust_fps_for_interpolation", False),
        ("text-to-video-lora", ["--loras", '[{"path": "a"}]'], "loras", [{"path": "a", "weight_name": None,
          "scale": 1.0, "transformer": "high"}]),
        ("text-to-image", ["--image-size", "512x768"], "image_size", {"width": 512, "height": 768}),
        ("text-to-image", ["--image-size", "square"], "image_size", "square"),
        ("image-to-video", ["--image-url", "100%.png"], "image_url", "100%.png"),
    ],
)  # fmt: skip
def test_every_type_of_field_has_a_flag(
    capsys: pytest.CaptureFixture[str], kind: str, flags: list[str], field: str, value: object
) -> None:
    main(["check", "--kind", kind, "--prompt", "a", *flags, "--on", "fal", "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert next(finding["asked"] for finding in findings if finding["field"] == field) == value


@pytest.mark.parametrize(
    "flag", ["--num-frames", "--shift", "--loras", "--enable-safety-checker", "--resolution"]
)
def test_a_wrong_flag_is_refused_like_the_same_field_in_a_file(
    capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert main(["check", "--kind", "text-to-video-lora", "--prompt", "a", flag, "often"]) == 2
    assert f"{flag[2:].replace('-', '_')}: got 'often'" in capsys.readouterr().err


def test_help_of_a_kind_shows_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["generate", "--kind=speech-to-video", "--help"])
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert "fields of speech-to-video" in shown
    assert "from 40 to 120 in multiples of 4" in " ".join(shown.split())
    assert "--guidance-scale-2" not in shown


def test_unknown_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", "--kind", "text-to-music", "--prompt", "a"])
    assert caught.value.code == 2


def test_a_name_that_a_kind_had_still_means_it(capsys: pytest.CaptureFixture[str]) -> None:
    for name, kind in (
        ("text-to-video-lora-161", "text-to-video-lora"),
        ("image-to-video-121", "image-to-video"),
    ):
        given = ["--image-url", "a.png"] if kind == "image-to-video" else ["--num-frames", "161"]
        assert main(["plan", "--kind", name, "--prompt", "a", *given, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["plan"]["kind"] == kind
        assert main(["schema", name]) == 0
        assert json.loads(capsys.readouterr().out)["title"] == KINDS[kind].__name__


@pytest.mark.parametrize("kind", KINDS)
def test_schema_of_every_kind(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert main(["schema", kind]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == KINDS[kind].__name__


def test_check_lays_runners_side_by_side(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", write(), "--on", "local,novita"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["local", "novita"]
    assert shown[1].split() == ["can", "run", "yes", "no"]
    assert main(["check", write(), "--on", "all", "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)["reports"]
    assert [(report["runner"], report["ok"]) for report in reports] == [
        ("local", True),
        ("fal", True),
        ("novita", False),
    ]
    assert main(["check", write(), "--on", "novita"]) == 2
    with pytest.raises(SystemExit):
        main(["check", write(), "--on", "replicate"])


def test_a_plan_whose_size_depends_on_the_input_can_be_told_it(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "--kind", "image-to-video", "--prompt", "a", "--image-url", "a.png"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "depends on the input" in shown.out
    assert "warning image_url: a.png: No such file" in shown.err
    assert main([*arguments, "--input-size", "1000x500", "--seconds-per-forward", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["plan"]["width"], answer["plan"]["height"]) == (1360, 672)
    assert "(about 108 s)" in answer["text"]
    with pytest.raises(SystemExit):
        main([*arguments, "--input-size", "wide"])


def test_a_kind_that_the_model_cannot_do_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.mp4"
    arguments = ["--kind", "small-distill", "--prompt", "a", "--model", "toy", "-o", str(out)]
    assert main(["generate", *arguments]) == 2
    assert "cannot do small-distill" in capsys.readouterr().err
    assert not out.exists()


def parts_of(folder: Path) -> list[str]:
    """The flags for the files that `make_model` writes."""
    parts = {"--model": "model_high", "--vae": "vae", "--text-encoder": "text"}
    return [word for flag, name in parts.items() for word in (flag, str(folder / f"{name}.safetensors"))]


def quantised_in_place(file: Path, kind: str) -> None:
    tiny_files.save(file, quantised(load_file(file), kind, tiny_files.is_linear)[0])


def test_the_check_of_a_model_says_which_weights_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model("wan2.2-ti2v-5b", tmp_path)
    model = parts_of(tmp_path)
    assert main(["check", "--kind", "small-fast-video", "--prompt", "a", *model]) == 2
    assert "not the weights of FastVideo" in capsys.readouterr().out
    assert main(["check", "--kind", "small-text-to-video", "--prompt", "a", *model]) == 0


def test_the_request_itself_is_never_replaced_by_the_receipt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = tmp_path / "clip.json"
    request.write_text(json.dumps(REQUEST))
    assert main(["generate", str(request), "--model", "toy", "-o", str(tmp_path / "clip.mp4")]) == 2
    assert "clip.json, which is not a receipt" in capsys.readouterr().err
    assert json.loads(request.read_text()) == REQUEST
    assert [file.name for file in tmp_path.iterdir()] == ["clip.json"]


@pytest.mark.parametrize("spoil", ["folder", "file in the way", "too long"])
def test_a_place_that_cannot_be_written_is_found_before_any_work(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    out = {"folder": tmp_path / "d.mp4", "file in the way": tmp_path / "f" / "a.mp4"}.get(
        spoil, tmp_path / f"{'x' * 300}.mp4"
    )
    (tmp_path / "d.mp4").mkdir()
    (tmp_path / "f").touch()
    assert main(["generate", write(), "--model", "toy", "-o", str(out)]) == 1
    shown = capsys.readouterr().err
    assert "cannot write" in shown
    assert "text:" not in shown


def test_a_damaged_receipt_is_exit_code_2(
    receipt: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "damaged.json"
    for damage in (
        {"plan": receipt["plan"] | {"fps_out": "1/0"}},
        {"plan": receipt["plan"] | {"solver": "x"}},
        {"model": receipt["model"] | {"precision": "int4"}},
        {"model": receipt["model"] | {"files": [1]}},
        {"model": receipt["model"] | {"choices": {"colour": "red"}}},
        {"versions": None},
    ):
        file.write_text(json.dumps(receipt | damage))
        assert main(["generate", "--from-receipt", str(file), "-o", str(tmp_path / "b.mp4")]) == 2
        assert "is damaged" in capsys.readouterr().err


def test_a_receipt_of_a_run_in_comfyui_says_what_it_cannot_promise(
    receipt: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "host.json"
    experts = {
        "high": {"class": "WAN21_T2V", "file": "a.gguf", "patches": ["wrapper outer_sample: easycache"]}
    }
    model = receipt["model"] | {"name": "WAN21_T2V", "exactness": "host", "experts": experts}
    file.write_text(json.dumps(receipt | {"model": model}))
    assert main(["generate", "--from-receipt", str(file), "-o", str(tmp_path / "b.mp4")]) == 2
    message = capsys.readouterr().err
    assert "ComfyUI's MODEL WAN21_T2V with wrapper outer_sample: easycache" in message
    assert "not promised" in message
    assert not (tmp_path / "b.mp4").exists()


def test_a_receipt_of_a_folder_asks_for_that_folder(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out, again = str(toy_folder()), tmp_path / "a.mp4", str(tmp_path / "b.mp4")
    assert main(["generate", write(**SMALL), "--model", folder, "-o", str(out)]) == 0
    receipt = str(out.with_suffix(".json"))
    assert main(["generate", "--from-receipt", receipt, "-o", again]) == 2
    assert f"the receipt used {toy_folder().name}" in capsys.readouterr().err
    assert main(["generate", "--from-receipt", receipt, "--model", folder, "-o", again]) == 0


def test_a_picture_is_drawn_redrawn_and_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, again = (tmp_path / name for name in ("first.png", "second.jpg", "again.jpg"))
    common = ["generate", "--model", "toy", "--prompt", "a red ball", "--num-inference-steps", "2", "--json"]
    assert main([*common, "--kind", "text-to-image", "-o", str(first)]) == 0
    assert json.loads(capsys.readouterr().out)["image"] == str(first)
    redraw = ["--kind", "image-to-image", "--image-url", str(first), "--strength", "0.5"]
    assert main([*common, *redraw, "-o", str(second)]) == 0
    receipt = json.loads(capsys.readouterr().out)["receipt"]
    assert receipt["request"]["image_url"] == "first.png"
    repeat = ["--from-receipt", str(tmp_path / "second.json"), *redraw[:4], "-o", str(again), "--json"]
    assert main(["generate", *repeat]) == 0
    assert json.loads(capsys.readouterr().out)["receipt"]["latents_sha256"] == receipt["latents_sha256"]


def test_a_switch_of_a_request_is_told_how_to_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["check", "--prompt", "a", "--enable-safety-checker", "yes"]
    assert main(arguments) == 2
    assert "--safety-checker FOLDER" in capsys.readouterr().out
    assert main([*arguments, "--safety-checker", str(tmp_path)]) == 0


def write_medium(file: Path) -> None:
    if file.suffix == ".png":
        Image.new("RGB", (96, 64)).save(file)
    elif file.suffix == ".mp4":
        clips.write(file)
    else:
        with wave.open(str(file), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(16_000)
            sound.writeframes(bytes(2 * 16_000))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("image-to-video", {"image_url": "a.png"}),
        ("image-to-image", {"image_url": "a.png"}),
        ("video-to-video", {"video_url": "a.mp4"}),
        (
            "speech-to-video",
            {"image_url": "a.png", "audio_url": "a.wav"},
        ),
    ],
)
def test_a_check_where_rates_are_known_says_what_a_run_on_these_inputs_may_take(
    kind: str,
    fields: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("wan_duet.pipelines.cli.models_command.data_folder", lambda: tmp_path)
    rates = Rates("H200", "bfloat16", 2, 790e12, 670e12, 4.3e12, "triton", "2026-11-28")
    write_rates(tmp_path / "rates.json", rates)
    file = tmp_path / "request.json"
    inputs = {field: str(tmp_path / name) for field, name in fields.items()}
    for name in fields.values():
        write_medium(tmp_path / name)
    file.write_text(json.dumps({"prompt": "a fox", **inputs}))
    assert main(["check", str(file), "--kind", kind]) == 0
    assert "forwards of" in capsys.readouterr().out


def test_seconds_on_stored_numbers_are_counted_as_measured_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wan_duet.pipelines.cli.models_command.data_folder", lambda: tmp_path)
    make_model("wan2.2-ti2v-5b", tmp_path)
    quantised_in_place(tmp_path / "model_high.safetensors", "int8 per row")
    rates = Rates("cpu", "float32", 4, 1e11, 1e11, 1e10, "plain", "2026-11-30")
    asked = ["check", "--kind", "small-text-to-video", "--prompt", "a", "--json", *parts_of(tmp_path)]

    def answer(known: Rates, *more: str) -> Any:
        write_rates(tmp_path / "rates.json", known)
        assert main([*asked, *more]) == 0
        return json.loads(capsys.readouterr().out)

    plain = answer(rates)
    assert "stored_rates" not in plain
    unknown = answer(rates, "--precision", "stored")
    assert ("expected" in unknown, unknown["stored_rates"]["unmeasured"]) == (False, ["int8 on a CPU"])
    slow = answer(replace(rates, stored={"int8 on a CPU": 1e10}), "--precision", "stored")
    assert slow["stored_rates"]["measured"] == ["int8 on a CPU"]
    assert slow["expected"]["forward_s"] > 1.5 * plain["expected"]["forward_s"]
    assert slow["expected"]["decode_s"] == plain["expected"]["decode_s"]


def test_check_says_what_computing_on_stored_numbers_does(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--model", "toy", "--precision", "stored", "--json"]
    assert main(["check", write(), "--on", "local,fal", *asked]) == 0
    reports = json.loads(capsys.readouterr().out)["reports"]
    here, there = (
        [finding for finding in report["findings"] if finding["field"] == "precision"] for report in reports
    )
    assert [(one["status"], one["used"]) for one in here] == [("adjusted", "auto")]
    assert "60 layers in plain numbers" in here[0]["reason"]
    assert [one["status"] for one in there] == ["impossible"]
    assert "fal computes in its own precision" in there[0]["reason"]
    assert main(["plan", write(), *asked]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert [one["reason"] for one in report["findings"] if one["field"] == "precision"] == [here[0]["reason"]]

"""Speech to video, whole: what is heard and seen together, and what a stop leaves behind."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import AutoencoderKLWan

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import MediaError, ModelError, RequestError
from wan_duet.pipelines.generate.kept_latents import KeptLatents
from wan_duet.pipelines.generate.local_receipt import Recorded, read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.local_worker import LocalWorker
from wan_duet.pipelines.generate.recorded_film import RecordedFilm
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.generate.stages import sample
from wan_duet.pipelines.generate.verification import verify_by_running, verify_quickly
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.plan.sigmas import linear_grid
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import check, parse
from wan_duet.pipelines.request.report import silent
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.noise import StartLatents
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.video.audio import Audio, mono_at
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.video.output import sidecar
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames
from wan_duet.pipelines.weights.folder import read_component
from wan_duet.pipelines.weights.lora.find import LoraSources

FPS, CLIP = 16, 40
FRAME_S = 1 / FPS
CPU = DeviceMemory("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> WanModel:
    """The embedded model for speech, with a VAE so narrow that it is quick."""
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    AutoencoderKLWan(base_dim=2, z_dim=16, num_res_blocks=1).save_pretrained(folder)
    return replace(load_model("toy-speech"), vae=read_component(folder))


def tones(seconds: float, rate: int = 16000, channels: int = 1) -> npt.NDArray[np.float32]:
    times = np.arange(round(seconds * rate)) / rate
    tone = 0.5 * np.sin(2 * np.pi * 330 * times) * np.sin(2 * np.pi * times)
    return np.stack([tone * (1 - 0.3 * channel) for channel in range(channels)]).astype(np.float32)


def write_wav(file: Path, samples: npt.NDArray[np.float32], rate: int = 16000) -> Path:
    with wave.open(str(file), "wb") as out:
        out.setnchannels(len(samples))
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((samples.T * 32767).astype("<i2").tobytes())
    return file


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("in") / "who.png"
    pixels = np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)
    file.write_bytes(image_bytes(pixels, "png", {}))
    return file


Make = Callable[..., Result]


@pytest.fixture(scope="module")
def make(model: WanModel, picture: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("out")

    def make(sound: Path, progress: Silent | None = None, **more: Any) -> Result:
        how = {
            name: more.pop(name)
            for name in list(more)
            if name in ("pose_video", "max_seconds", "return_images", "kept")
        }
        request = parse(
            "speech-to-video",
            {
                "prompt": "a person speaks",
                "image_url": str(picture),
                "audio_url": str(sound),
                "num_frames": CLIP,
                "num_inference_steps": 2,
                "seed": 3,
                **more,
            },
        )
        out = folder / f"{len(list(folder.iterdir()))}.mp4"
        return run(request, model, out=out, memory=CPU, progress=progress or Silent(), **how)

    return make


@pytest.fixture(scope="module")
def two_clips(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """About 4 s in stereo: a clip of 2.5 s and one that is cut."""
    sound = write_wav(tmp_path_factory.mktemp("sound") / "voice.wav", tones(4.02, 44100, 2), 44100)
    return make(sound, return_images=True)


def test_speech_is_verified_by_running_it_again(
    make: Make, model: WanModel, picture: Path, tmp_path: Path
) -> None:
    """Its receipt names neither its length nor a field for its pose video: both are found."""
    sound, pose = write_wav(tmp_path / "a.wav", tones(2)), tmp_path / "pose.mp4"
    frames = iter(np.random.default_rng(1).integers(0, 255, (8, 64, 64, 3), np.uint8))
    encode_video(frames, pose, width=64, height=64, fps=Fraction(FPS), frame_count=8)
    made = make(sound, pose_video=pose, max_seconds=0.5)
    assert len(made.receipt["step_fingerprints"]) == 2
    copy = tmp_path / "copy.mp4"
    for file, to in ((made.path, copy), (sidecar(made.path), sidecar(copy))):
        shutil.copy(file, to)

    def worker(recorded: Recorded) -> LocalWorker:
        ready = replace(model, preferences=recorded.preferences)
        return LocalWorker(ready, CPU, Silent(), silent, LoraSources(), Interpolators())

    def no_shots(recorded: RecordedFilm) -> LocalWorker:
        raise AssertionError(recorded)

    shutil.copy(picture, tmp_path)
    found = verify_by_running(copy, worker, worker_for_shots=no_shots)
    assert found.verdict == "same bits", found.reasons
    pose.unlink()
    lost = verify_by_running(copy, worker, worker_for_shots=no_shots)
    assert lost.verdict == "cannot tell"
    assert "its pose video pose.mp4 is not here" in lost.reasons[0]


def test_cfg_zero_star_guides_a_speaker_too(make: Make, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "a.wav", tones(0.5))
    plain, starred = (make(sound, local=local) for local in (None, {"cfg_zero_star": "high"}))
    assert starred.receipt["latents_sha256"] != plain.receipt["latents_sha256"]
    assert starred.receipt["lossy_by_choice"] == ["cfg_zero_star"]
    zeroed = make(sound, local={"cfg_zero_star": "high", "cfg_zero_steps": 1})
    assert zeroed.receipt["plan"]["forwards"] == plain.receipt["plan"]["forwards"] - 2


@pytest.mark.parametrize(("clips", "seconds"), [(1, 2.5), (1, 1.97), (3, 7.41)])
def test_the_video_is_as_long_as_the_sound(make: Make, tmp_path: Path, clips: int, seconds: float) -> None:
    result = make(write_wav(tmp_path / "a.wav", tones(seconds)))
    facts = probe(result.path)
    assert result.receipt["clips"] == {"count": clips, "frames": CLIP}
    assert abs(facts.duration_s - seconds) < FRAME_S
    assert facts.audio is not None
    assert abs(facts.audio.duration_s - facts.duration_s) < FRAME_S
    assert facts.fps == FPS


def test_two_clips_follow_each_other_in_one_file(two_clips: Result) -> None:
    facts = probe(two_clips.path)
    assert (facts.frames, facts.width, facts.height) == (64, 64, 64)
    assert two_clips.images is not None
    assert two_clips.images.shape == (64, 64, 64, 3)
    assert two_clips.receipt["clips"]["count"] == 2
    assert facts.audio is not None
    assert (facts.audio.rate, facts.audio.channels) == (44100, 2)
    assert abs(facts.audio.duration_s - 4.0) < FRAME_S


def test_the_first_picture_is_held_while_the_first_clip_settles(two_clips: Result) -> None:
    assert two_clips.images is not None
    first = two_clips.images[:4]
    assert torch.equal(first, first[:1].expand_as(first))
    assert not torch.equal(two_clips.images[4], two_clips.images[3])


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (48000, 1)])
def test_any_rate_and_any_channels_are_heard_alike(rate: int, channels: int) -> None:
    """What reaches the model is the same sound, but for the means of resampling."""
    times = np.arange(16000) / 16000
    sound = Audio(tones(1.0, rate, channels), rate)
    loudness = np.mean([1 - 0.3 * channel for channel in range(channels)])
    wanted = loudness * 0.5 * np.sin(2 * np.pi * 330 * times) * np.sin(2 * np.pi * times)
    heard = mono_at(sound, 16000)
    assert heard.shape == (16000,)
    assert np.abs(heard - wanted)[100:-100].max() < 0.01  # the ends have no neighbours on one side


def test_silence_makes_a_video_with_silence(make: Make, tmp_path: Path) -> None:
    facts = probe(make(write_wav(tmp_path / "a.wav", np.zeros((1, 16000), np.float32))).path)
    assert facts.frames == 16
    assert facts.audio is not None


def test_a_sound_of_one_frame_makes_a_video_of_one_frame(make: Make, tmp_path: Path) -> None:
    assert probe(make(write_wav(tmp_path / "a.wav", tones(0.06))).path).frames == 1


def test_a_sound_of_less_than_half_a_frame_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"audio_url: .*the audio lasts 0\.020 s.*give at least 0\.062 s"):
        make(write_wav(tmp_path / "a.wav", tones(0.02)))


@pytest.mark.parametrize("content", [b"", b"RIFF\x00\x00\x00\x00WAVE", b"no sound at all" * 50])
def test_what_is_no_sound_is_refused_by_name(make: Make, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(
        RequestError,
        match=r"audio_url: .*a\.wav.*give (?:a file that plays|another file|a file that can be read)",
    ):
        make(tmp_path / "a.wav")


def test_a_video_without_sound_is_no_sound(make: Make, tmp_path: Path) -> None:
    clip = silent_clip(tmp_path / "a.mp4", 3)
    with pytest.raises(RequestError, match=r"audio_url: a\.mp4 has no sound in it"):
        make(clip)


@pytest.mark.parametrize("field", ["image_url", "audio_url"])
def test_a_file_that_is_not_there_is_named(make: Make, tmp_path: Path, field: str) -> None:
    sound = write_wav(tmp_path / "a.wav", tones(1.0))
    with pytest.raises(RequestError, match=f"{field}: .*nowhere"):
        make(sound, **{field: "nowhere.bin"})


def test_the_sound_of_a_video_will_do(make: Make, tmp_path: Path, two_clips: Result) -> None:
    assert probe(make(two_clips.path, max_seconds=1.0).path).frames == 16


def test_another_rate_keeps_the_sound_in_step(make: Make, tmp_path: Path) -> None:
    facts = probe(make(write_wav(tmp_path / "a.wav", tones(1.5)), frames_per_second=24).path)
    assert (facts.fps, facts.frames) == (24, 36)


def test_a_limit_ends_picture_and_sound(make: Make, tmp_path: Path) -> None:
    result = make(write_wav(tmp_path / "a.wav", tones(9.0)), max_seconds=1.25)
    facts = probe(result.path)
    assert (facts.frames, result.receipt["clips"]["count"]) == (20, 1)
    assert facts.audio is not None
    assert abs(facts.audio.duration_s - 1.25) < FRAME_S


def test_what_is_said_changes_what_is_seen(make: Make, tmp_path: Path) -> None:
    quiet = make(write_wav(tmp_path / "a.wav", np.zeros((1, 16000), np.float32)))
    loud = make(write_wav(tmp_path / "b.wav", tones(1.0)))
    again = make(tmp_path / "b.wav")
    assert loud.receipt["latents_sha256"] == again.receipt["latents_sha256"]
    assert loud.receipt["latents_sha256"] != quiet.receipt["latents_sha256"]


def test_a_pose_video_leads(make: Make, tmp_path: Path) -> None:
    """One that ends early, at another rate: what is missing is black."""
    sound = write_wav(tmp_path / "a.wav", tones(1.0))
    plain, led = make(sound), make(sound, pose_video=silent_clip(tmp_path / "pose.mp4", 6))
    assert led.receipt["latents_sha256"] != plain.receipt["latents_sha256"]
    assert led.receipt["inputs"]["pose_video"]["name"] == "pose.mp4"
    with pytest.raises(MediaError):
        make(sound, pose_video=sound)


def test_the_receipt_names_inputs_by_content_and_repeats_the_run(
    model: WanModel, two_clips: Result, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = json.loads(sidecar(two_clips.path).read_text(encoding="utf-8"))
    inside = json.loads(probe(two_clips.path).tags["wan_duet"])
    late = {name: beside[name] for name in ("latents_sha256", "step_fingerprints", "timings_s", "file")}
    assert {**inside, **late} == beside
    assert verify_quickly(two_clips.path).verdict == "same bits"
    assert beside["request"]["audio_url"] == beside["inputs"]["audio_url"]["name"] == "voice.wav"
    assert str(picture.parent) not in json.dumps(beside)
    assert "audio_encoder/model.safetensors" in beside["model"]["files"]
    (tmp_path / "who.png").write_bytes(picture.read_bytes())
    write_wav(tmp_path / "voice.wav", tones(4.02, 44100, 2), 44100)
    monkeypatch.chdir(tmp_path)  # where the inputs are looked for
    recorded = read_receipt(sidecar(two_clips.path))
    made = repeat(recorded, model, out=tmp_path / "again.mp4", memory=CPU, progress=Silent())
    assert made.receipt["latents_sha256"] == beside["latents_sha256"]


class Stopped(BaseException):
    """The user's stop, as ComfyUI may spell it."""


class StopsIn(Silent):
    """Stops at the first check of a stage, the nth time it begins."""

    def __init__(self, stage: str, times: int = 1) -> None:
        self._stage, self._left, self._now = stage, times, False

    def begin(self, stage: str, total: int, unit: str) -> None:
        self._left -= stage == self._stage
        self._now = self._left <= 0

    def check(self) -> None:
        if self._now:
            raise Stopped


@pytest.mark.parametrize("stop", [("text", 1), ("sound", 1), ("sampling", 2), ("decoding", 2)])
def test_a_stop_leaves_nothing_behind(
    make: Make, tmp_path: Path, two_clips: Result, stop: tuple[str, int]
) -> None:
    folder = two_clips.path.parent
    before = sorted(folder.iterdir())
    sound = write_wav(tmp_path / "a.wav", tones(3.0))
    with pytest.raises(Stopped):
        make(sound, StopsIn(*stop))
    assert sorted(folder.iterdir()) == before


def test_another_quality_decodes_the_clips_of_the_run_before(make: Make, tmp_path: Path) -> None:
    sound, kept = write_wav(tmp_path / "a.wav", tones(4.0)), KeptLatents(tmp_path / "kept")
    assert "latents_reused" not in make(sound, kept=kept).receipt
    low: dict[str, Any] = {"video_quality": "low", "return_images": True}
    again, fresh = make(sound, kept=kept, **low), make(sound, **low)
    assert again.receipt["latents_reused"]
    assert again.receipt["clips"] == {"count": 2, "frames": CLIP, "reused": 2}
    assert set(again.receipt["timings_s"]) == {"video"}
    assert again.receipt["latents_sha256"] == fresh.receipt["latents_sha256"]
    assert again.images is not None
    assert fresh.images is not None
    assert torch.equal(again.images, fresh.images)
    assert "reused" not in make(sound, kept=kept, seed=4).receipt["clips"]
    assert "reused" not in make(sound, kept=kept, max_seconds=3.0).receipt["clips"]


def test_a_stopped_run_goes_on_after_its_finished_clips(make: Make, tmp_path: Path) -> None:
    sound, kept = write_wav(tmp_path / "a.wav", tones(4.0)), KeptLatents(tmp_path / "kept")
    # At 30 fps, every second frame leads: 60 poses, others in the second clip than in the first.
    led: dict[str, Any] = {"pose_video": silent_clip(tmp_path / "pose.mp4", 120)}
    with pytest.raises(Stopped):
        make(sound, StopsIn("sampling", 2), kept=kept, **led)
    rest, fresh = make(sound, kept=kept, **led), make(sound, **led)
    assert rest.receipt["clips"]["reused"] == 1
    assert "latents_reused" not in rest.receipt
    assert rest.receipt["latents_sha256"] == fresh.receipt["latents_sha256"]


def test_a_speech_too_long_for_the_limit_is_not_kept(make: Make, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "a.wav", tones(4.0))
    make(sound, kept=KeptLatents(tmp_path / "kept", limit_bytes=80_000))
    assert not (tmp_path / "kept").exists()


def test_the_check_says_yes_and_what_a_clip_is(model: WanModel) -> None:
    given = {"prompt": "a", "image_url": "a.png", "audio_url": "a.wav"}
    until_the_end = "clips follow each other until the sound ends"
    for frames, used, reason in (
        ({}, 20, "the length of a clip of this model"),
        ({"num_frames": 40}, 40, "the length of a clip"),
    ):
        request = parse("speech-to-video", {**given, **frames})
        report = check(request, family=model.family)
        assert report.ok
        (clip,) = (finding for finding in report.findings if finding.field == "num_frames")
        assert (clip.used, clip.reason) == (used, f"{reason}; {until_the_end}")
    assert not check(request, family=load_model("toy").family).ok


def test_a_pose_is_for_speech_only(tmp_path: Path) -> None:
    request = parse("text-to-video", {"prompt": "a"})
    with pytest.raises(RequestError, match="pose_video: given for text-to-video; leave it out"):
        run(
            request,
            load_model("toy"),
            out=tmp_path / "a.mp4",
            memory=CPU,
            progress=Silent(),
            pose_video=tmp_path,
        )


def test_how_much_of_it_lies_on_the_device_changes_no_bit(
    model: WanModel, picture: Path, tmp_path: Path
) -> None:
    sound = write_wav(tmp_path / "a.wav", tones(1.0))
    values = {"image_url": str(picture), "audio_url": str(sound), "num_frames": CLIP, "seed": 3}
    request = parse("speech-to-video", {"prompt": "a person speaks", "num_inference_steps": 2, **values})
    hashes, slots = set(), []
    for residency in ("auto", "ring:2"):
        made = run(
            request,
            replace(model, residency=residency),
            out=tmp_path / f"{len(slots)}.mp4",
            memory=CPU,
            progress=Silent(),
        )
        hashes.add(made.receipt["latents_sha256"])
        slots.append(made.receipt["memory"]["residency"]["slots"])
    assert len(hashes) == 1
    assert slots[0] > slots[1] == 2


def test_a_sampler_alone_refuses_the_model(model: WanModel) -> None:
    latents, text = torch.zeros(1, 16, 2, 8, 8), Prompts(Condition(torch.zeros(1, 512, 128)), None)
    sampling = Sampling(Schedule.of_grid(linear_grid(2, 3.0), None), "euler", {"high": 1.0})
    with pytest.raises(ModelError, match="needs a sound, and a sampler node has no input for one"):
        sample(model, sampling, StartLatents(latents, latents), text, CPU, Silent())


def test_without_ears_there_is_no_run(model: WanModel, picture: Path, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "a.wav", tones(1.0))
    values = {"prompt": "a", "image_url": str(picture), "audio_url": str(sound)}
    deaf = replace(model, audio_encoder=None)
    with pytest.raises(ModelError, match="has no audio encoder"):
        run(parse("speech-to-video", values), deaf, out=tmp_path / "a.mp4", memory=CPU, progress=Silent())


def silent_clip(file: Path, frames: int) -> Path:
    pictures = (np.full((32, 48, 3), 30 * index % 256, np.uint8) for index in range(frames))
    encode_video(pictures, file, width=48, height=32, fps=Fraction(30), frame_count=frames)
    assert sum(1 for _ in read_frames(file)) == frames
    return file

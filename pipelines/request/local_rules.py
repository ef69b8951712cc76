"""The effect of every field on a local run. The check and the documents read this one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import NamedTuple

from .contracts import KIND_ENTRIES
from .field_case import FieldCase
from .image_size import pixels
from .implied import IMAGE_TASKS
from .lora_weight import why_not_used
from .phase_rules import scales_replaced, steps_stated
from .report import Finding
from .sizes import choose_size, nearest_size
from .timing import generated_frames, input_fps, running_steps, speech_clip

__all__ = ["INTERPOLATION_FILES", "LOCAL_RULES", "LocalRule"]


Judge = Callable[[FieldCase], Finding]


class LocalRule(NamedTuple):
    """The rule of one field.

    meaning: what the field does in a local run, and which values are impossible; a line of the documents.
    judge:   returns the finding for a value.
    """

    meaning: str
    judge: Judge


def _honoured(meaning: str) -> LocalRule:
    return LocalRule(meaning, lambda case: case.supported(meaning))


_STRENGTH = (
    "the share of the steps that run; earlier steps are skipped, and so is an expert without steps. 0 "
    "returns the input after one pass through the VAE; 1 uses only its size and length"
)
_MOST_STEPS = 1000  # num_train_timesteps of the official configurations
# Beyond these, two of 1000 noise levels are one float32 number (tests/plan/test_sigma_grids.py).
_LEAST_SHIFT, _MOST_SHIFT = 1e-6, 10_000
_STEPS = (
    "shared by the experts; the boundary of the model splits them. More than "
    f"{_MOST_STEPS} are impossible: the models have that many noise levels."
)
_SHIFT = (
    f"shifts the sigma grid as the official code does. More than {_MOST_SHIFT} is impossible: neighbouring "
    "noise levels become one number."
)
INTERPOLATION_FILES = {
    name: f"a file such as {file}, from huggingface.co/Comfy-Org/frame_interpolation, in "
    "models/frame_interpolation or, on a command line, in the folder of --interpolator-folder"
    for name, file in {"film": "film_net_fp16.safetensors", "rife": "rife_v4.26.safetensors"}.items()
}
_NO_DOWNLOAD = "a local run downloads no media; save it and give the file"


def _optional(ability: str, meaning: str, missing: str) -> LocalRule:
    """Return the rule of a switch that needs `ability` of the runner when it is on."""

    def judge(case: FieldCase) -> Finding:
        if not case.value:
            return case.supported("off")
        return case.supported(meaning) if getattr(case.abilities, ability) else case.cannot(False, missing)

    return LocalRule(f"{meaning}. On is impossible: {missing}.", judge)


def _num_frames(case: FieldCase) -> Finding:
    own = case.model.native_frames if case.model is not None and case.preference else None
    if case.task == "speech-to-video":
        until_the_end = "clips follow each other until the sound ends"
        if own is not None and own != case.value:
            return case.adjusted(own, f"the length of a clip of this model; {until_the_end}")
        frames = speech_clip(case.value)
        of = "" if frames == case.value else f"{frames}, the next multiple of 4, is "
        return case.supported(f"{of}the length of a clip; {until_the_end}")
    if case.task in IMAGE_TASKS:
        return case.supported("one frame")
    wanted: int = case.value if own is None else own
    if case.media.frames is not None and case.media.frames < wanted:
        reason = f"the video has {_frames_there(case)}"
        if case.preference:
            return case.adjusted(case.media.frames, f"{reason}, and all are used")
        return case.impossible(f"{reason}; keep the default to use all of them, or give a longer video")
    rest = "; the rest of the video is not used" if (case.media.frames or 0) > wanted else ""
    if wanted != case.value:
        reason = "the clip length of this model; any other number than the default is generated as asked"
        return case.adjusted(wanted, f"{reason}{rest}")
    generated = generated_frames(wanted)
    if generated == wanted:
        return case.supported(f"delivered exactly{rest}")
    return case.supported(
        f"{generated} are generated (one more than a multiple of 4), {wanted} delivered{rest}"
    )


def _frames_there(case: FieldCase) -> str:
    rate = input_fps(case.values)
    return f"{case.media.frames} frames" + ("" if rate is None else f" at {rate} per second")


def _audio(case: FieldCase) -> Finding:
    seconds, fps = case.media.seconds, case.values["frames_per_second"]
    if seconds is not None and not round(seconds * fps):
        return case.impossible(
            f"the audio lasts {seconds:.3f} s, less than half a frame; give at least {1 / fps:.3f} s"
        )
    return _AUDIO.judge(case)


def _frames_per_second(case: FieldCase) -> Finding:
    if case.task != "speech-to-video":
        return case.supported("the rate before interpolation")
    made_for = "" if case.value == 16 else "; the model is made for 16"
    return case.supported(f"the audio is read at this rate too, so lips stay in sync{made_for}")


def _strength(case: FieldCase) -> Finding:
    if 0 < case.value < 1:
        stated = steps_stated(case.local)
        steps: int = case.values["num_inference_steps"] if stated is None else stated[1]
        if not running_steps(steps, case.value):
            fix = f"give {ceil(100 / steps) / 100:g} to 1, or 0 for the input alone"
            return case.impossible(f"{case.value:g} of {steps} steps is less than one; {fix}")
    return case.supported(_STRENGTH)


def _steps(case: FieldCase) -> Finding:
    if case.value > _MOST_STEPS:
        return case.impossible(f"the models have {_MOST_STEPS} noise levels; give that many steps or fewer")
    stated = steps_stated(case.local)
    if stated is not None and case.value != stated[1]:
        setting, steps = stated
        reason = f"local.{setting} has {steps} steps"
        return case.cannot(steps, reason if case.preference else f"{reason}; leave one of the two out")
    return case.supported("shared by the experts; the boundary of the model splits them")


def _shift(case: FieldCase) -> Finding:
    if case.local is not None and case.local.sigmas is not None:
        if not case.preference:
            return case.impossible("local.sigmas are the noise levels; leave one of the two out")
        return case.supported("not used: local.sigmas are the noise levels")
    if not _LEAST_SHIFT <= case.value <= _MOST_SHIFT:
        reason = f"neighbouring noise levels become one number; give {_LEAST_SHIFT} to {_MOST_SHIFT}"
        return case.impossible(reason)
    return case.supported("shifts the sigma grid as the official code does")


def _resolution(case: FieldCase) -> Finding:
    if case.local_size or case.values.get("image_size") is not None:
        return _overruled(case, "local.width" if case.local_size else "image_size")
    if case.model is None:
        return case.supported("the size comes from the model's table")
    table = case.model.sizes.get(case.value)
    if table is None:
        return case.impossible(f"{case.model.name} supports {', '.join(case.model.sizes)}; use one of these")
    aspect = case.values.get("aspect_ratio", "auto")
    if case.model.own_sizes and aspect in ("auto", *table):
        shown = "own size" if aspect == "auto" else "{}x{}".format(*table[aspect])
        shape = "the input" if aspect == "auto" else aspect
        return case.adjusted(
            shown, f"{case.model.name} has its own small size for {shape}, whatever the tier"
        )
    if aspect == "auto":
        width, height = table["16:9"]
        return case.supported(f"the area of {width}x{height} in the shape of the input")
    chosen = choose_size(case.values, case.model, None)
    return case.supported(f"{chosen.width}x{chosen.height} pixels")


def _aspect_ratio(case: FieldCase) -> Finding:
    if case.local_size or case.values.get("image_size") is not None:
        return _overruled(case, "local.width" if case.local_size else "image_size")
    if case.value == "auto":
        return case.supported("the shape of the input, at the area of the tier")
    return case.supported("chooses the size within the tier; any W:H does, at the area of 16:9")


def _overruled(case: FieldCase, by: str) -> Finding:
    if case.preference:
        return case.adjusted(None, f"{by} decides")
    return case.impossible(f"{by} decides the size; leave one of the two out")


def _image_size(case: FieldCase) -> Finding:
    if case.value is None:
        return case.supported("unset: resolution and aspect_ratio decide")
    if case.local_size:
        return _overruled(case, "local.width")
    width, height = pixels(case.value)
    if case.model is None:
        return case.supported(f"{width}x{height} pixels")
    if case.model.own_sizes:
        return case.cannot("own size", f"{case.model.name} has its own small sizes; keep the default")
    if (width, height) != (near := nearest_size(case.model, width, height)):
        step = case.model.size_multiple
        return case.impossible(
            f"{case.model.name} needs multiples of {step} pixels; the nearest is {near[0]}x{near[1]}"
        )
    return case.supported(f"{width}x{height} pixels")


def _side(case: FieldCase) -> Finding:
    model = case.model
    if case.local_size:
        return case.adjusted(getattr(case.local, case.field), f"local.{case.field} decides")
    if model is not None and case.value % model.size_multiple:
        near, _ = nearest_size(model, case.value, case.value)
        reason = f"{model.name} needs multiples of {model.size_multiple} pixels; the nearest is {near}"
        return case.impossible(reason)
    return case.supported("used unchanged")


def _acceleration(case: FieldCase) -> Finding:
    if case.local is not None and case.local.step_cache != "off":
        reason = "local.step_cache decides"
        return case.supported(reason) if case.value == "none" else case.adjusted("none", reason)
    if case.value == "none":
        return case.supported("every step is computed")
    if case.task.startswith("turbo-"):
        return case.cannot("none", "four steps are too few to skip any, so every step is computed")
    if case.local is not None and case.local.context_frames is not None:
        return case.cannot("none", "every step is computed with local.context_frames")
    if case.abilities.step_cache:
        return case.supported("steps that barely change are skipped; the receipt counts them")
    return case.cannot("none", "every step is computed, unless the runner's acceleration is as requested")


def _guidance_scale(case: FieldCase) -> Finding:
    if (setting := _scale_replaced(case, "high")) is not None:
        return setting
    if case.task == "small-fast-video" and case.value != 1:
        return case.cannot(1.0, "FastVideo's weights are distilled with guidance, so none is added; use 1")
    return case.supported("guidance of the first expert, or of the only one")


def _guidance_scale_2(case: FieldCase) -> Finding:
    if case.model is not None and case.model.experts == 1:
        return case.cannot(None, f"{case.model.name} has one expert: guidance_scale is used for every step")
    if (setting := _scale_replaced(case, "low")) is not None:
        return setting
    return case.supported("guidance of the low expert")


def _scale_replaced(case: FieldCase, expert: str) -> Finding | None:
    """Return the finding for a scale that a setting of `local` has in its place; None if none has."""
    experts = 2 if case.model is None else case.model.experts
    setting = scales_replaced(case.local, experts).get(expert)
    if setting is None:
        return None
    if case.preference:
        return case.supported(f"not used: {setting} has the scale of each step")
    return case.impossible(f"{setting} has the scale of each step; leave one of the two out")


def _interpolator(case: FieldCase) -> Finding:
    if case.value == "none" or not case.values["num_interpolated_frames"]:
        return case.supported("no frames are added")
    have = case.abilities.interpolators
    if case.value in have:
        return case.supported(f"{case.value} generates the frames in between")
    # Learned interpolators first: they are better than optical flow at large motion.
    used = next((name for name in ("film", "rife", "flow") if name in have), "none")
    missing = f"{case.value} needs {INTERPOLATION_FILES[case.value]}"
    if case.abilities.unusable_interpolators:
        missing += f"; these files cannot be used: {'; '.join(case.abilities.unusable_interpolators)}"
    if case.preference:
        return case.adjusted(used, missing)
    return case.impossible(f"{missing}; use none, or keep the default, which falls back to {used}")


def _loras(case: FieldCase) -> Finding:
    if not case.value:
        return case.supported("none")
    one_expert = case.model is not None and case.model.experts == 1
    for index, lora in enumerate(case.value):
        where = f"loras[{index}]"
        if refused := why_not_used(lora["path"], lora.get("weight_name")):
            return case.impossible(f"{where}.{refused}")
        if one_expert and lora.get("transformer") == "low":
            return case.impossible(
                f"{where}.transformer is low, but the model has one expert; use high or both"
            )
    return case.supported("added to the weights of the chosen expert; without a choice, of both")


def _medium(meaning: str) -> LocalRule:
    """Return the rule of an input file."""

    def judge(case: FieldCase) -> Finding:
        if case.value is None:
            return case.supported("none")
        if case.value.startswith(("http://", "https://")):
            return case.impossible(f"got a web address, but {_NO_DOWNLOAD}, or connect the media")
        return case.supported(meaning)

    return LocalRule(f"{meaning}. A web address is impossible: {_NO_DOWNLOAD}.", judge)


def _end_image(case: FieldCase) -> Finding:
    ends = "may" if case.model is None else case.model.end_image
    name = "this model" if case.model is None else case.model.name
    if case.value is None and ends == "must":
        return case.impossible(f"{name} needs a first and a last image; give the last one")
    if case.value is not None and case.values["num_frames"] == 1:
        return case.impossible("a video of one frame has no last one; give num_frames 2 or more")
    if case.value is not None and ends == "never":
        return case.impossible(f"{name} does not support an end image; leave it out, or load wan2.2-i2v-a14b")
    return _END_IMAGE.judge(case)


def _reverse(case: FieldCase) -> Finding:
    return case.supported("frames are reversed before interpolation" if case.value else "off")


def _extra(case: FieldCase) -> Finding:
    if case.value is None:
        return case.supported("none")
    return case.impossible("there is no Novita task to report; leave it out")


_AUDIO = _medium("the speech that the lips follow; it becomes the sound of the video")
_END_IMAGE = _medium("the last frame, resized and cropped like the first")
_NO_CHECKER = (
    "no safety checker is chosen: connect Wan Duet Safety Checker between the model and the runner, or give "
    "--safety-checker FOLDER; or switch it off"
)
_NO_EXPANDER = (
    "no language model is chosen: connect Wan Duet Prompt Expander between the model and the runner, or give "
    "--prompt-expander FOLDER; or switch it off"
)

_ONLY_REMOTE = LocalRule(
    "impossible: only kinds that run at a provider alone have it.",
    lambda case: case.impossible("only kinds that run at a provider alone have it"),
)
_FIELDS_HERE = {field for entry in KIND_ENTRIES if not entry.get("remote_only") for field in entry["fields"]}
_FIELDS_ELSEWHERE = [
    field for entry in KIND_ENTRIES for field in entry["fields"] if field not in _FIELDS_HERE
]

LOCAL_RULES: Mapping[str, LocalRule] = {
    "prompt": _honoured("encoded with UMT5, 512 tokens"),
    "negative_prompt": _honoured("encoded with UMT5, 512 tokens"),
    "image_url": _medium("resized to cover the size and cropped in the centre, never stretched"),
    "end_image_url": LocalRule(
        f"{_END_IMAGE.meaning} The 5B and Wan 2.1 I2V do not support it: they were trained with a first "
        "image only; leave it out, or load wan2.2-i2v-a14b. Wan 2.1 FLF2V requires it.",
        _end_image,
    ),
    "video_url": _medium(
        "its frames, resized to cover the size and cropped in the centre. Of a longer video the first frames "
        "are used; a shorter one shortens the default num_frames. Its sound is not kept"
    ),
    "audio_url": LocalRule(_AUDIO.meaning, _audio),
    "strength": LocalRule(f"{_STRENGTH}. Less than one step is impossible.", _strength),
    "num_frames": LocalRule(
        "delivered exactly; the next number that is one more than a multiple of 4 is generated. The embedded "
        "model uses its own clip length unless another number than the default is asked for. For speech it "
        "is the length of one clip: clips follow each other until the sound ends.",
        _num_frames,
    ),
    "frames_per_second": LocalRule(
        "the rate before interpolation. For speech the audio is read at this rate too: lips stay in sync at "
        "any rate, but the model is made for 16.",
        _frames_per_second,
    ),
    "seed": _honoured(
        "0 to 18446744073709551615; the noise is generated from it on the CPU; without a seed a random one "
        "is used and reported"
    ),
    "resolution": LocalRule(
        "chooses the row of the size table. The embedded model has sizes of its own.", _resolution
    ),
    "aspect_ratio": LocalRule(
        "chooses the size within the tier; auto is the shape of the input at the area of the tier.",
        _aspect_ratio,
    ),
    "image_size": LocalRule(
        "replaces resolution and aspect_ratio, which must then be left out. A size that is not a multiple of "
        "16 (5B: 32) is impossible, because nothing is cropped; use the size that the error names.",
        _image_size,
    ),
    "image_format": _honoured("the format of the file"),
    "num_inference_steps": LocalRule(
        _STEPS,
        _steps,
    ),
    "enable_safety_checker": _optional("safety_checker", "prompt and inputs are checked", _NO_CHECKER),
    "enable_output_safety_checker": _optional("safety_checker", "the result is checked", _NO_CHECKER),
    "enable_prompt_expansion": _optional(
        "prompt_expander",
        "the prompt is expanded before the run",
        _NO_EXPANDER,
    ),
    "acceleration": LocalRule(
        "none computes every step. regular, the default, is adjusted to none unless the runner's "
        "acceleration is as requested: then a first-block cache skips steps that change less than 6 %, but "
        "never one of the four turbo steps, and none with local.context_frames.",
        _acceleration,
    ),
    "guidance_scale": LocalRule(
        "guidance of the first expert, or of the only one. With FastVideo, values other than 1 are "
        "impossible: its weights are distilled with guidance; the default is adjusted to 1.",
        _guidance_scale,
    ),
    "guidance_scale_2": LocalRule(
        "guidance of the low-noise expert. With a model of one expert the default is ignored, which is "
        "reported, and any other value is impossible: use guidance_scale.",
        _guidance_scale_2,
    ),
    "shift": LocalRule(_SHIFT, _shift),
    "interpolator_model": LocalRule(
        "generates the frames in between. film, the default, falls back to rife and then to optical flow, "
        "which needs no file. rife is impossible without its file: it needs "
        f"{INTERPOLATION_FILES['rife']}. For film: {INTERPOLATION_FILES['film'].partition(',')[0]}.",
        _interpolator,
    ),
    "num_interpolated_frames": _honoured("new frames in every gap between two generated ones; unset is 0"),
    "adjust_fps_for_interpolation": _honoured("decides the rate of the file"),
    "video_quality": _honoured("sets the quality of the H.264 encoder"),
    "video_write_mode": _honoured("sets the preset of the H.264 encoder"),
    "resample_fps": _honoured("input frames are chosen by their timestamps; off uses every frame in order"),
    "loras": LocalRule(
        "added to the weights of the chosen expert; without a choice, of both. With a model of one expert, "
        "low is impossible: use high or both. An https address or a Hugging Face repository is downloaded "
        "once and kept. weight_name chooses a file in a repository; if path is a file, leave it out.",
        _loras,
    ),
    "reverse_video": LocalRule("frames are reversed before interpolation.", _reverse),
    "extra": LocalRule(
        "impossible: there is no Novita task to report, and no local run will have one; leave it out.", _extra
    ),
    **dict.fromkeys(_FIELDS_ELSEWHERE, _ONLY_REMOTE),
    "model_name": _honoured("the family of the loaded model"),
    "width": LocalRule("used unchanged; must be a multiple of 16 (5B: 32).", _side),
    "height": LocalRule("used unchanged; must be a multiple of 16 (5B: 32).", _side),
    "steps": LocalRule(_STEPS, _steps),
    "flow_shift": LocalRule(_SHIFT, _shift),
}

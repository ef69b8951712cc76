"""What was tested of every kind of request on this machine, field by field: docs/kinds-tested.md.

    python tests/kinds_tested.py

writes the page. A test fails when a kind or field is missing here, or a test that is named does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wan_duet.pipelines.request import KINDS, LocalAbilities

__all__ = ["END_TO_END", "FIELDS", "PAGE", "page", "tests_of"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "kinds-tested.md"

_RUNS = "test_kinds.py::test_a_kind_runs_from_the_request_to_the_file"
_OFFICIAL = "golden/test_golden_kinds.py::test_"
_PLANNED = "plan/test_plan.py::test_every_kind_has_a_plan"

# Kind -> (the model it was run on from the request to the file, the tests of the whole).
END_TO_END: dict[str, tuple[str, tuple[str, ...]]] = {
    "text-to-video": (
        "embedded; Wan 2.1 14B and 1.3B (random)",
        (
            "test_local.py::test_the_file_is_what_the_plan_says",
            "toy/test_embedded.py::test_prompts_of_scenes_it_never_saw_are_followed",
            "golden/test_golden.py::test_two_stage_unipc_equals_the_official_code",
            _RUNS,
        ),
    ),
    "text-to-video-lora": (
        "embedded",
        ("test_local.py::test_a_lora_on_one_expert_changes_the_video_and_stands_in_the_receipt",),
    ),
    "text-to-video-lora-161": ("planned; the same code as text-to-video-lora", (_PLANNED,)),
    "image-to-video": (
        "A14B, embedded pair, Wan 2.1, FLF2V and 5B (random)",
        (
            _RUNS,
            f"{_OFFICIAL}image_to_video_equals_the_official_code",
            f"{_OFFICIAL}image_to_video_of_wan_21_equals_the_official_code",
            f"{_OFFICIAL}clip_reads_pictures_as_the_official_code_does",
            f"{_OFFICIAL}a_picture_on_the_5b_equals_the_official_code",
        ),
    ),
    "image-to-video-121": ("A14B (random)", (_RUNS,)),
    "image-to-video-lora": ("A14B (random)", (_RUNS,)),
    "text-to-image": ("embedded", ("test_pictures.py::test_the_prompt_is_drawn",)),
    "text-to-image-lora": (
        "embedded",
        ("test_pictures.py::test_a_lora_of_the_request_changes_the_picture",),
    ),
    "image-to-image": (
        "embedded",
        ("test_pictures.py::test_a_low_strength_keeps_the_colour_and_a_high_one_follows_the_prompt",),
    ),
    "video-to-video": (
        "embedded",
        ("test_video_to_video.py::test_strength_decides_between_the_input_and_the_prompt",),
    ),
    "text-to-video-turbo": (
        "A14B (random)",
        (_RUNS, "test_kinds.py::test_turbo_says_which_loras_are_missing_and_uses_them_where_they_lie"),
    ),
    "image-to-video-turbo": ("A14B (random)", (_RUNS,)),
    "speech-to-video": (
        "embedded (random); official code on tiny weights",
        (
            "golden/test_speech.py::test_two_clips_equal_the_official_run",
            "test_speech.py::test_the_video_is_as_long_as_the_sound",
            "test_speech_memory.py::test_five_clips_take_what_two_take",
        ),
    ),
    "small-text-to-video": ("5B (random)", (_RUNS, f"{_OFFICIAL}text_on_the_5b_equals_the_official_code")),
    "small-image-to-video": (
        "5B (random)",
        (
            _RUNS,
            f"{_OFFICIAL}a_picture_on_the_5b_equals_the_official_code",
            "test_kinds.py::test_the_5b_keeps_the_latent_of_the_picture_bit_for_bit",
        ),
    ),
    "small-text-to-image": ("5B (random)", (_RUNS,)),
    "small-distill": ("5B (random)", (_RUNS,)),
    "small-fast-video": (
        "5B (random)",
        (
            _RUNS,
            f"{_OFFICIAL}dmd_walks_like_fastvideo",
            "test_kinds.py::test_fastvideo_says_whose_weights_it_needs",
        ),
    ),
    "legacy-text-to-video": ("A14B (random)", (_RUNS,)),
    "legacy-text-to-video-lora": ("A14B (random)", (_RUNS,)),
    "wan21-text-to-video": ("Wan 2.1 1.3B (random), in a small size", (_RUNS,)),
}
# Field -> the tests of what it does, which is the same code for every kind that has it.
_SWITCH = "request/test_check.py::test_switch_is_impossible_only_when_on_and_not_there"
FIELDS: dict[str, tuple[str, ...]] = {
    "prompt": ("models/test_models.py::test_a_prompt_at_its_true_length_equals_padding_and_masking",),
    "negative_prompt": ("toy/test_embedded.py::test_a_colour_in_the_negative_prompt_is_avoided",),
    "num_frames": ("plan/test_plan.py::test_frames_are_generated_in_fours_and_delivered_as_asked",),
    "frames_per_second": ("plan/test_plan.py::test_interpolation_multiplies_frames_and_rate",),
    "seed": ("test_local.py::test_another_seed_is_another_video_and_none_is_drawn",),
    "resolution": ("plan/test_plan.py::test_sizes_fit_the_model",),
    "aspect_ratio": ("plan/test_sizes.py::test_auto_keeps_the_shape_at_the_area_of_the_tier",),
    "image_size": ("plan/test_sizes.py::test_image_size_is_a_name_or_pixels",),
    "image_format": (
        "test_pictures.py::test_the_receipt_is_in_the_file_and_beside_it",
        "test_pictures.py::test_a_jpeg_carries_them_too_and_keeps_full_colour",
    ),
    "num_inference_steps": ("golden/test_golden.py::test_solver_walks_like_the_official_one",),
    "steps": ("plan/test_any_request.py",),
    "guidance_scale": ("sampling/test_loop.py::test_a_stage_of_scale_one_makes_no_unconditional_forward",),
    "guidance_scale_2": (
        "sampling/test_loop.py::test_a_stage_of_scale_one_makes_no_unconditional_forward",
        "request/test_check.py::test_one_expert_takes_the_default_of_the_second_scale_but_no_demand",
    ),
    "shift": ("golden/test_golden.py::test_solver_walks_like_the_official_one",),
    "flow_shift": ("plan/test_any_request.py",),
    "acceleration": (
        "test_local.py::test_acceleration_is_exact_unless_the_runner_is_told_otherwise",
        "test_video_to_video.py::test_acceleration_as_requested_skips_and_counts_and_repeats",
        "sampling/test_step_cache.py",
    ),
    "interpolator_model": ("test_local_interpolation.py",),
    "num_interpolated_frames": ("plan/test_plan.py::test_interpolation_multiplies_frames_and_rate",),
    "adjust_fps_for_interpolation": ("plan/test_plan.py::test_interpolation_multiplies_frames_and_rate",),
    "video_quality": ("media/test_encode.py::test_every_quality_and_write_mode_plays",),
    "video_write_mode": ("media/test_encode.py::test_every_quality_and_write_mode_plays",),
    "enable_safety_checker": (_SWITCH, "test_companions.py"),
    "enable_output_safety_checker": (_SWITCH, "test_companions.py"),
    "enable_prompt_expansion": (_SWITCH, "test_companions.py"),
    "loras": ("test_lora_chain.py::test_loras_from_every_place_end_on_the_experts_they_were_chosen_for",),
    "reverse_video": ("test_local.py::test_a_reversed_video_is_the_same_one_backwards",),
    "image_url": (
        "test_kinds.py::test_pictures_are_cropped_in_the_centre_and_never_stretched",
        "test_kinds.py::test_the_receipt_repeats_a_run_with_the_same_picture_and_refuses_another",
        "media/test_picture.py",
    ),
    "end_image_url": (
        "test_kinds.py::test_a_picture_to_end_with_stands_on_the_last_frame_that_is_delivered",
        "test_kinds.py::test_what_a_model_cannot_do_is_refused_with_what_can",
    ),
    "video_url": (
        "media/test_clip.py",
        "test_video_to_video.py::test_a_short_input_is_refused_for_a_length_that_was_asked_for",
        "test_video_to_video.py::test_the_receipt_names_the_input_by_content_and_repeats",
    ),
    "audio_url": ("test_speech.py::test_the_video_is_as_long_as_the_sound", "media/test_audio.py"),
    "strength": (
        "plan/test_plan.py::test_strength_decides_which_experts_are_needed",
        "test_pictures.py::test_a_low_strength_keeps_the_colour_and_a_high_one_follows_the_prompt",
        "test_video_to_video.py::test_strength_decides_between_the_input_and_the_prompt",
        "test_video_to_video.py::test_strength_0_gives_the_input_back",
    ),
    "resample_fps": ("test_video_to_video.py::test_a_resampled_input_plays_as_fast_as_before",),
    "width": ("plan/test_any_request.py",),
    "height": ("plan/test_any_request.py",),
    "model_name": ("request/test_contract.py",),
    "extra": ("request/test_check.py::test_a_webhook_is_of_no_use_here",),
}
_INTRODUCTION = """# What was tested, kind by kind

Written by `python tests/kinds_tested.py` from the request classes; a test fails when it is out of date, or
when a test that it names is gone. All of this runs without a GPU: *embedded* is the model that comes with the
pack, *random* are tiny models with untrained weights in the layout of the real ones, and `golden` are tests
against numbers of the official code. No test here ran on real weights.

"""


def page() -> str:
    """The whole page: a section for each kind, a row for each of its fields."""
    parts = [_INTRODUCTION]
    for kind, cls in KINDS.items():
        if cls.task not in LocalAbilities().tasks:
            parts.append(f"## {kind}\n\nDoes not run on this machine yet.\n\n")
            continue
        model, whole = END_TO_END[kind]
        parts.append(f"## {kind}\n\n{cls.title}. Run on: {model}.\n\n")
        parts.append("| field | what was tested |\n| --- | --- |\n")
        parts.append(f"| the whole | {_cell(whole)} |\n")
        parts += [f"| `{field}` | {_cell(FIELDS[field])} |\n" for field in cls.model_fields]
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def tests_of() -> Iterator[tuple[Path, str]]:
    """(file, function) of every test that is named; the function is empty where a whole file is meant."""
    for named in (*(names for _, names in END_TO_END.values()), *FIELDS.values()):
        for name in named:
            file, _, function = name.partition("::")
            yield ROOT / "tests" / file, function


def _cell(names: tuple[str, ...]) -> str:
    return "<br>".join(f"[{_words(name)}](../tests/{name.partition('::')[0]})" for name in names)


def _words(name: str) -> str:
    file, _, function = name.partition("::")
    return function.removeprefix("test_").replace("_", " ") if function else file


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

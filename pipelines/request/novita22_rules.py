"""The effect of every field of a fal request on Novita's Wan 2.2, which has few settings.

Source: novita.ai, "Wan 2.2 T2V" and "Wan 2.2 I2V", 2026-11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .field_case import FieldCase
from .kinds import kinds_of
from .novita_rules import RULES, has_no, image, sent_as, shape_of_image
from .report import Finding

__all__ = ["IMAGE_RULES_22", "RULES_22", "SIZES_22"]

_CONTRACT = "NovitaWan22T2VRequest"
SIZES_22: Mapping[tuple[str, str], str] = {
    ("480p", "16:9"): "832*480",
    ("480p", "9:16"): "480*832",
    ("480p", "1:1"): "624*624",
    ("720p", "16:9"): "1280*720",
    ("720p", "9:16"): "720*1280",
}


def _aspect_ratio(case: FieldCase) -> Finding:
    if (case.values["resolution"], case.value) not in SIZES_22:
        return case.impossible("Novita supports 16:9 and 9:16, and 1:1 only at 480p; use one of these")
    return case.supported("with resolution: sent as size")


def _resolution(case: FieldCase) -> Finding:
    if case.value == "580p":
        return case.impossible("Novita supports 480p and 720p; use one of these")
    return case.supported("sent to Novita's Wan 2.2")


def _seed(case: FieldCase) -> Finding:
    if case.value is None:
        return case.supported("not sent: Novita chooses a random seed")
    return sent_as("seed", _CONTRACT)(case)


def _expansion(case: FieldCase) -> Finding:
    return case.supported(f"sent as prompt_extend {'on' if case.value else 'off'}")


def _second_guidance(case: FieldCase) -> Finding:
    judged = has_no("guidance scale for Wan 2.2")(case)
    # With a LoRA the contract has another default, but the node keeps the default of the kind without LoRA.
    if case.value == kinds_of(case.task)[0].model_fields[case.field].default:
        return case.adjusted(None, "Novita has no guidance scale for Wan 2.2")
    return judged


RULES_22: Mapping[str, Callable[[FieldCase], Finding]] = {
    **RULES,
    "prompt": sent_as("prompt", _CONTRACT),
    "negative_prompt": sent_as("negative_prompt", _CONTRACT),
    "seed": _seed,
    "resolution": _resolution,
    "aspect_ratio": _aspect_ratio,
    "num_inference_steps": has_no("setting for the steps of Wan 2.2"),
    "enable_prompt_expansion": _expansion,
    "guidance_scale": has_no("guidance scale for Wan 2.2"),
    "guidance_scale_2": _second_guidance,
    "shift": has_no("shift for Wan 2.2"),
}
IMAGE_RULES_22: Mapping[str, Callable[[FieldCase], Finding]] = {
    **RULES_22,
    "image_url": image,
    "end_image_url": has_no("end image"),
    "aspect_ratio": shape_of_image,
}

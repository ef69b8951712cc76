"""What every field means on this machine: the one table behind the check and the documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .report import Finding, Status
from .timing import generated_frames

__all__ = ["LOCAL_RULES", "Case", "LocalAbilities", "ModelFacts"]


class ModelFacts(Protocol):
    """What a check needs to know of a model; `plan.families.Family` is one.

    experts:          how many there are, 1 or 2.
    tasks:            the tasks it can do, as `WanRequest.task`.
    sizes:            {tier: {aspect ratio: (width, height)}} in pixels.
    own_sizes:        the tiers are only names for this model's own sizes.
    native_frames:    the clip length of a model that can only draw that one well, else None.
    """

    @property
    def name(self) -> str: ...
    @property
    def experts(self) -> int: ...
    @property
    def tasks(self) -> frozenset[str]: ...
    @property
    def sizes(self) -> Mapping[str, Mapping[str, tuple[int, int]]]: ...
    @property
    def own_sizes(self) -> bool: ...
    @property
    def native_frames(self) -> int | None: ...


@dataclass(frozen=True)
class LocalAbilities:
    """What the local runner has at hand. `interpolators` are names, "flow" needs no files."""

    interpolators: tuple[str, ...] = ("flow",)
    prompt_expander: bool = False
    safety_checker: bool = False
    step_cache: bool = False
    reverse: bool = True
    loras: bool = True


@dataclass(frozen=True)
class Case:
    """One field to judge. `values` are all fields of the request, for rules that look at two."""

    field: str
    preference: bool  # equal to the provider's default, or unset: may be adjusted
    values: Mapping[str, Any]
    model: ModelFacts | None
    abilities: LocalAbilities

    @property
    def value(self) -> Any:
        return self.values[self.field]

    def supported(self, reason: str) -> Finding:
        return self._finding("supported", self.value, reason)

    def adjusted(self, used: object, reason: str) -> Finding:
        return self._finding("adjusted", used, reason)

    def impossible(self, reason: str) -> Finding:
        return self._finding("impossible", None, reason)

    def cannot(self, used: object, reason: str) -> Finding:
        """What was asked is not to be had: a preference gives way to `used`, a demand is refused."""
        return self.adjusted(used, reason) if self.preference else self.impossible(reason)

    def _finding(self, status: Status, used: object, reason: str) -> Finding:
        return Finding(self.field, status, self.value, used, reason)


Rule = Callable[[Case], Finding]


def _honoured(meaning: str) -> Rule:
    return lambda case: case.supported(meaning)


def _optional(ability: str, meaning: str, missing: str) -> Rule:
    """A switch that needs `ability` of the runner; off, or unset, needs nothing."""

    def rule(case: Case) -> Finding:
        if not case.value:
            return case.supported("off")
        return case.supported(meaning) if getattr(case.abilities, ability) else case.cannot(False, missing)

    return rule


def _num_frames(case: Case) -> Finding:
    native = case.model.native_frames if case.model is not None else None
    if native is not None and case.preference and case.value != native:
        return case.adjusted(native, "the clip length this model draws; ask for any other number to get it")
    generated = generated_frames(case.value)
    if generated == case.value:
        return case.supported("delivered exactly")
    return case.supported(
        f"{generated} are generated (one more than a multiple of 4), {case.value} delivered"
    )


def _resolution(case: Case) -> Finding:
    if case.model is None:
        return case.supported("the size comes from the model's table")
    aspect = case.values["aspect_ratio"]
    size = case.model.sizes.get(case.value, {}).get(aspect)
    if size is None:
        return case.impossible(f"{case.model.name} draws {', '.join(case.model.sizes)}; use one of these")
    shown = f"{size[0]}x{size[1]}"
    if case.model.own_sizes:
        return case.adjusted(
            shown, f"{case.model.name} has its own small size for {aspect}, whatever the tier"
        )
    return case.supported(f"{shown} pixels")


def _acceleration(case: Case) -> Finding:
    if case.value == "none":
        return case.supported("every step is computed")
    if case.abilities.step_cache:
        return case.supported("steps that change little are reused")
    return case.cannot("none", "this version computes every step exactly; use none")


def _guidance_scale_2(case: Case) -> Finding:
    if case.model is not None and case.model.experts == 1:
        return case.cannot(None, f"{case.model.name} has one expert: guidance_scale is used for every step")
    return case.supported("guidance of the low expert")


def _interpolator(case: Case) -> Finding:
    if case.value == "none" or not case.values["num_interpolated_frames"]:
        return case.supported("no frames are added")
    have = case.abilities.interpolators
    if case.value in have:
        return case.supported(f"{case.value} draws the frames in between")
    # Learned interpolators first: they draw large motion better than optical flow.
    used = next((name for name in ("film", "rife", "flow") if name in have), "none")
    missing = f"{case.value} needs its model files, which come with a later version"
    if case.preference:
        return case.adjusted(used, missing)
    return case.impossible(f"{missing}; use none, or keep the default, which falls back to {used}")


def _loras(case: Case) -> Finding:
    if not case.value:
        return case.supported("none")
    if not case.abilities.loras:
        return case.impossible("this runner cannot apply LoRAs; remove them")
    if case.model is not None and case.model.experts == 1:
        for index, lora in enumerate(case.value):
            if lora["transformer"] == "low":
                where = f"loras[{index}].transformer is low"
                return case.impossible(f"{where}, but {case.model.name} has one expert; use high or both")
    return case.supported("added to the weights of the chosen expert")


LOCAL_RULES: Mapping[str, Rule] = {
    "prompt": _honoured("encoded with UMT5, 512 tokens"),
    "negative_prompt": _honoured("encoded with UMT5, 512 tokens"),
    "num_frames": _num_frames,
    "frames_per_second": _honoured("the rate before interpolation"),
    "seed": _honoured("noise is drawn on the CPU from it; unset draws one and reports it"),
    "resolution": _resolution,
    "aspect_ratio": _honoured("chooses the size within the tier"),
    "num_inference_steps": _honoured("shared by the experts; the boundary of the model splits them"),
    "enable_safety_checker": _optional(
        "safety_checker",
        "prompt and inputs are checked",
        "no safety checker runs on this machine yet; unset it",
    ),
    "enable_output_safety_checker": _optional(
        "safety_checker", "the result is checked", "no safety checker runs on this machine yet; unset it"
    ),
    "enable_prompt_expansion": _optional(
        "prompt_expander",
        "the prompt is expanded before the run",
        "no prompt expander runs on this machine yet; unset it and write the longer prompt yourself",
    ),
    "acceleration": _acceleration,
    "guidance_scale": _honoured("guidance of the high expert"),
    "guidance_scale_2": _guidance_scale_2,
    "shift": _honoured("shifts the sigma grid as the official code does"),
    "interpolator_model": _interpolator,
    "num_interpolated_frames": _honoured("new frames in every gap between two generated ones"),
    "adjust_fps_for_interpolation": _honoured("decides the rate of the file"),
    "video_quality": _honoured("sets the quality of the H.264 encoder"),
    "video_write_mode": _honoured("sets the preset of the H.264 encoder"),
    "loras": _loras,
    "reverse_video": _optional(
        "reverse", "frames are reversed before interpolation", "this runner cannot reverse a video; unset it"
    ),
}

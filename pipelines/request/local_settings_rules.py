"""What each setting of `local` does in a run on this machine, and that no provider has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .field_case import LocalAbilities
from .file_rules import FILE_MEANINGS, impossible_file, unexpected_file
from .local_sampling_rules import impossible_sampling, unexpected_sampling
from .local_settings import LocalSettings
from .model_facts import ModelFacts, experts_of
from .phase_rules import scales_used
from .prompt_range_rules import RANGE_MEANINGS, impossible_ranges, unexpected_ranges
from .report import Finding
from .seeds import SEED_MAX
from .settings_case import SettingsCase, second_scale
from .step_cache_rules import STEP_CACHE_MEANINGS, impossible_step_cache, unexpected_step_cache
from .window_rules import WINDOW_MEANINGS, impossible_windows, unexpected_windows

__all__ = ["LOSSY", "SETTING_MEANINGS", "avoids_negative_prompt", "decided", "elsewhere", "settings_findings"]

LOSSY = "lossy by choice"

SETTING_MEANINGS: Mapping[str, str] = {
    "nag_scale": "a second cross-attention per block leads the features away from the negative prompt; it "
    "costs no second forward. Impossible for speech.",
    "nag_scale_2": "the same on the low-noise expert. With a model of one expert it is impossible: use "
    "nag_scale.",
    "nag_tau": "the L1 norm of the guided features is at most so many times that of the plain ones.",
    "nag_alpha": "the guided features have this share, the plain ones the rest.",
    "nag_negative_prompt": "encoded with UMT5, 512 tokens; replaces the negative prompt for NAG alone.",
    "cfg_zero_star": "the negative part of the guidance is scaled to fit the positive one, as ComfyUI's "
    "CFGZeroStar does it. With a model of one expert low is impossible: use high or both.",
    "cfg_zero_steps": "these first steps leave the noise as it is, and need no forward. All steps are "
    "impossible.",
    "width": "with height: the size of the result, in place of resolution, aspect_ratio and image_size. Must "
    "be a multiple of 16 (5B: 32).",
    "height": "with width: the size of the result.",
    "solver": "unipc, dpm++ and euler take any number of steps, lightning four, dmd (FastWan) three, rcm "
    "one to four. dmd and rcm add new noise at each step. Weights that are distilled for their own steps "
    "take only those.",
    "boundary": "steps at or above this noise level are those of the high-noise expert. Impossible with a "
    "model of one expert.",
    "high_steps": "the first so many steps are those of the high-noise expert, whatever their noise levels. "
    "Impossible with a model of one expert, and beside boundary.",
    "sigmas": "the steps go from each level to the next, with the expert at 1000 times the level. Impossible "
    "for distilled weights, and beside another number of steps or another shift.",
    "negative_preset": "official is the negative prompt that the official code uses for this model. "
    "Impossible beside a negative prompt.",
    "loras_per_stage": "as `loras`, which come first, with a strength for each expert. With a model of one "
    "expert, low is impossible.",
    "prompt_syntax": "comfy weighs the embeddings of prompts as ComfyUI's text encoder of Wan does, and cuts "
    "no prompt that has weights. One without weights is encoded as with plain.",
    "count": "as many runs, one after another, with the model loaded once; each has its file and receipt.",
    **WINDOW_MEANINGS,
    "phases": "each phase has its expert, steps, guidance and LoRAs; a request with two guidance scales is "
    "one phase for each expert. Phases without steps share those of their expert. Where the strength of a "
    "LoRA changes, the weights of that expert are made anew. Impossible for speech, and beside boundary or "
    "high_steps where the phases state steps.",
    "guidance": "one scale for each step, in place of both guidance scales. A scale of 1 needs no forward "
    "for the negative prompt.",
    **RANGE_MEANINGS,
    **FILE_MEANINGS,
    **STEP_CACHE_MEANINGS,
}
_GUIDANCE = tuple(name for name in SETTING_MEANINGS if name.startswith(("nag_", "cfg_zero_")))
_OFF = 1.0
_MOST_ZERO_STEPS = 10  # a tenth: zero-init is for the first steps, arxiv.org/abs/2503.18886
_HOST = (
    "this model is one of ComfyUI, which guides in its own way; patch the MODEL instead, before Wan Duet "
    "Model from ComfyUI"
)


def elsewhere(local: LocalSettings | None) -> list[Finding]:
    """Return a refusal per setting: a provider has none of them."""
    asked = {} if local is None else local.asked()
    reason = "only this machine has it; leave it out, or use the local runner"
    return [Finding(f"local.{name}", "impossible", value, None, reason) for name, value in asked.items()]


def settings_findings(
    local: LocalSettings | None,
    task: str,
    values: Mapping[str, Any],
    family: ModelFacts | None,
    abilities: LocalAbilities,
) -> list[Finding]:
    """Return a finding per setting that is asked for, and warnings.

    values: {plan name: value} as the run would use them.
    """
    if local is None:
        return []
    guidance = {name: max(scales) for name, scales in scales_used(local, values, experts_of(family)).items()}
    case = SettingsCase(local, task, values, guidance, abilities.own_engine, family)
    refusals = {finding.field: finding for finding in _refusals(case)}
    findings = [
        refusals.get(f"local.{name}") or case.finding(name, "supported", SETTING_MEANINGS[name])
        for name in local.asked()
    ]
    if refusals:
        return findings
    return [
        *findings,
        *_about_nag(case),
        *_about_zero_star(case),
        *unexpected_sampling(case),
        *unexpected_windows(case),
        *unexpected_ranges(case),
        *unexpected_file(case),
        *unexpected_step_cache(case),
    ]


def _refusals(case: SettingsCase) -> Iterator[Finding]:
    yield from _impossible(case)
    yield from impossible_sampling(case)
    yield from impossible_windows(case)
    yield from impossible_ranges(case)
    yield from impossible_file(case)
    yield from impossible_step_cache(case)


def decided(local: LocalSettings | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name: value} of all settings as the run uses them; empty without `local`.

    The size is that of the resolved request, and the negative prompt one of `values`. Settings of the file
    stand alone where nothing else is asked for, so that what is sampled does not depend on them.
    """
    if local is None:
        return {}
    if set(local.asked()) <= set(FILE_MEANINGS):
        return {name: getattr(local, name) for name in FILE_MEANINGS}
    negative = local.nag_negative_prompt
    if negative is None:
        negative = values.get("negative_prompt") or ""
    settings = local.model_dump(mode="json", exclude={"width", "height", "negative_preset"})
    return {
        **settings,
        "nag_scale_2": second_scale(local),
        "nag_negative_prompt": negative,
    }


def avoids_negative_prompt(local: LocalSettings | None) -> bool:
    """Return whether NAG uses the negative prompt of the request."""
    if local is None or local.nag_negative_prompt is not None:
        return False
    return local.nag_scale != _OFF or second_scale(local) != _OFF


def _impossible(case: SettingsCase) -> Iterator[Finding]:
    asked = case.local.asked()
    if (case.values.get("seed") or 0) + case.local.count - 1 > SEED_MAX:
        reason = f"the last seed would be above {SEED_MAX}; give a smaller seed, or fewer"
        yield case.finding("count", "impossible", reason)
    if not case.own_engine:
        yield from (case.finding(name, "impossible", _HOST) for name in asked if name in _GUIDANCE)
        return
    for name in asked:
        if name.startswith("nag_") and case.task == "speech-to-video":
            reason = "the speech model has no NAG; leave it out, and use the guidance scale"
            yield case.finding(name, "impossible", reason)
    if "low" not in case.guidance:
        if "nag_scale_2" in asked:
            yield case.finding("nag_scale_2", "impossible", "the model has one expert; use nag_scale")
        if case.local.cfg_zero_star == "low":
            yield case.finding("cfg_zero_star", "impossible", "the model has one expert; use high or both")
    if case.zero_star and 0 < case.steps <= case.local.cfg_zero_steps:
        reason = f"only {case.steps} steps run, and one at least has to draw; give fewer"
        yield case.finding("cfg_zero_steps", "impossible", reason)


def _about_nag(case: SettingsCase) -> Iterator[Finding]:
    asked = [name for name in case.local.asked() if name.startswith("nag_")]
    on = [stage for stage, scale in case.nag_scales.items() if scale != _OFF]
    if not on:
        for name in asked:
            yield case.finding(name, "warning", "does nothing while nag_scale is 1")
        return
    field = "nag_scale" if "nag_scale" in asked else "nag_scale_2"
    reason = f"{LOSSY}: NAG changes what the {_named(on)} expert draws; 1 is off"
    yield case.finding(field, "warning", reason)
    if not decided(case.local, case.values)["nag_negative_prompt"]:
        reason = "the negative prompt is empty, so NAG leads away from an empty prompt; give one"
        yield case.finding(field, "warning", reason)


def _about_zero_star(case: SettingsCase) -> Iterator[Finding]:
    local, named = case.local, case.zero_star
    if not named:
        if local.cfg_zero_steps:
            yield case.finding("cfg_zero_steps", "warning", "does nothing while cfg_zero_star is off")
        return
    on = [stage for stage in named if case.guidance[stage] != _OFF]
    idle = [stage for stage in named if stage not in on]
    if idle:
        reason = f"does nothing on the {_named(idle)} expert, whose guidance scale is 1"
        yield case.finding("cfg_zero_star", "warning", reason)
    if on:
        reason = f"{LOSSY}: CFG-Zero* changes what the {_named(on)} expert draws; off is plain guidance"
        yield case.finding("cfg_zero_star", "warning", reason)
    if not local.cfg_zero_steps:
        return
    if not on:
        yield case.finding("cfg_zero_steps", "warning", "does nothing while the guidance scale is 1")
    elif "high" not in on:
        reason = "does nothing where the first steps are those of the high-noise expert"
        yield case.finding("cfg_zero_steps", "warning", reason)
    elif local.cfg_zero_steps * _MOST_ZERO_STEPS > case.steps:
        reason = f"more than a tenth of the {case.steps} steps draw nothing; give fewer"
        yield case.finding("cfg_zero_steps", "warning", reason)


def _named(stages: list[str]) -> str:
    return " and ".join(f"{stage}-noise" for stage in stages)

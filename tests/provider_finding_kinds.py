"""The kinds of findings of a run at a provider, each with a request that has it there.

As finding_kinds.py, for test_provider_findings.py in tests/cli and in tests/host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from finding_kinds import LORA_FILES, UNGUIDED

IMAGE_FILE = "example.png"  # in the input folder of every ComfyUI
HIGH, LOW, DISTILLED, BARE_ADAPTER = LORA_FILES[:4]
REPOSITORY = "lightx2v/Wan2.2-Lightning"  # Novita takes no files


@dataclass(frozen=True)
class ProviderFinding:
    """A kind of finding at `runner`. values: of the request of `kind`. says: a part of its reason."""

    name: str
    runner: str
    kind: str
    values: Mapping[str, Any]
    field: str
    says: str
    loras: tuple[Mapping[str, Any], ...] = ()
    novita_model: str = "Wan 2.1"
    request: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        prompt = {} if "storyboard" in self.values else {"prompt": "a red ball"}
        object.__setattr__(self, "request", {**prompt, "seed": 1, **self.values})


def _used(path: str, transformer: str = "high") -> dict[str, Any]:
    return {"path": path, "transformer": transformer, "scale": 1.0}


_SYNTAX = {
    "prompt": "# a (red:1.4) ball embedding:x [red:blue:0.5] <lora:outlined:1> {red|blue} // red",
    "negative_prompt": "ugly",
    **UNGUIDED,
}
_FAST = {"frames_per_second": 60, "num_interpolated_frames": 2, "interpolator_model": "film"}
_LONG = {**_SYNTAX, **_FAST, "num_frames": 141}
_WAN21 = {**_SYNTAX, "width": 832, "height": 480}
del _WAN21["guidance_scale_2"]
_SAYS_OF_SYNTAX = {
    "weight": "providers read no weights; leave it out",
    "embedding": "embeddings are not read",
    "schedule": "leave the brackets out",
    "lora tag": "put the LoRA into loras",
    "choices": "write one of them",
    "comment": "page removes comments",
    "list comment": "lists of prompts have no comments",
}
_PLACES: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("fal", "text-to-video", _LONG),
    ("novita", "text-to-video", _SYNTAX),
    ("novita", "wan21-text-to-video", _WAN21),
)
_FILM = {"storyboard": "17f: a (red:1.4) ball | 17f: a {red|blue} ball", "interpolator_model": "none"}
_SWAPPED = (_used(LOW), _used(HIGH, "low"), _used(BARE_ADAPTER, "both"))

PROVIDER_FINDINGS = (
    *(
        ProviderFinding(name, *place, "prompt", says)
        for place in _PLACES
        for name, says in _SAYS_OF_SYNTAX.items()
    ),
    *(ProviderFinding("negative", *place, "negative_prompt", "has no effect") for place in _PLACES),
    ProviderFinding("older limits", *_PLACES[0], "num_frames", "allows only from 17 to 121"),
    ProviderFinding("frames", *_PLACES[0], "num_frames", "trained on 81 frames"),
    ProviderFinding("fps", *_PLACES[0], "frames_per_second", "more than most players show"),
    ProviderFinding("model", *_PLACES[1], "model", "the model of this Novita endpoint"),
    ProviderFinding("length", *_PLACES[1], "num_frames", "a video is five seconds long"),
    ProviderFinding(
        "no guidance",
        "novita",
        "text-to-video",
        {},
        "guidance_scale_2",
        "Novita has no guidance scale for Wan 2.2",
        novita_model="Wan 2.2",
    ),
    ProviderFinding("weight in a shot", "fal", "shots", _FILM, "shots[0].prompt", "read no weights"),
    ProviderFinding("choices in a shot", "fal", "shots", _FILM, "shots[1].prompt", "write one of them"),
    *(
        ProviderFinding(
            "dropped", runner, "text-to-video", {"prompt": "a " * 512}, "prompt", "may cut the end"
        )
        for runner in ("fal", "novita")
    ),
    ProviderFinding("old endpoint", "fal", "legacy-text-to-video", {}, "kind", "text-to-video is newer"),
    ProviderFinding(
        "guessed endpoint",
        "fal",
        "legacy-text-to-video-lora",
        {},
        "kind",
        "text-to-video-lora is newer",
        ({"path": HIGH, "scale": 1.0},),
    ),
    ProviderFinding(
        "old field", "fal", "image-to-image", {"image_url": IMAGE_FILE}, "resolution", "fal may ignore it"
    ),
    ProviderFinding(
        "other expert",
        "fal",
        "text-to-video-lora",
        {},
        "loras[0].transformer",
        "made for the low-noise expert (the file name, which is only a hint, says so): give low",
        (_used(LOW),),
    ),
    *(
        ProviderFinding(
            f"other expert by {place}",
            "fal",
            "text-to-video-lora",
            {},
            "loras[0].transformer",
            "made for the low-noise expert (the file name, which is only a hint, says so): give low",
            ({"scale": 1.0, **lora},),
        )
        for place, lora in (
            ("address", {"path": f"https://files.example/loras/{LOW}?token=high"}),
            ("repository", {"path": "owner/high_noise", "weight_name": LOW}),
        )
    ),
    ProviderFinding(
        "no expert",
        "novita",
        "text-to-video-lora",
        {},
        "loras[0].transformer",
        "says so): at Novita no expert can be chosen",
        (_used("owner/style_low_noise"),),
    ),
    ProviderFinding(
        "swapped pair",
        "fal",
        "text-to-video-lora",
        {},
        "loras[1].transformer",
        "exchange it with loras[0]",
        _SWAPPED,
    ),
    ProviderFinding(
        "alphas elsewhere", "fal", "text-to-video-lora", {}, "loras[2].path", "its alpha is unknown", _SWAPPED
    ),
    *(
        ProviderFinding(name, runner, "text-to-video-lora", {}, place, says, loras)
        for runner, loras in (("fal", (_used(DISTILLED, "both"),)), ("novita", (_used(REPOSITORY, "both"),)))
        for name, place, says in (
            ("distilled", "num_inference_steps", "is distilled for few steps: 27"),
            ("distilled guidance", "guidance_scale", "is distilled with guidance"),
        )
    ),
)


def _together(kind: ProviderFinding) -> str:
    return f"{kind.runner} {kind.kind} {kind.novita_model} {kind.request} {kind.loras}"


# The kinds by their request.
PURCHASES = tuple(tuple(kinds) for _, kinds in groupby(sorted(PROVIDER_FINDINGS, key=_together), _together))


def name_of(kinds: tuple[ProviderFinding, ...]) -> str:
    """The name of a test of these kinds."""
    first = kinds[0]
    return f"{first.runner} {first.kind}: {', '.join(kind.name for kind in kinds)}"

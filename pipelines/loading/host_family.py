"""Which family a model of the host is: its channels, its width and a second expert tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import ModelError
from ..plan.families import FAMILIES, Family
from .compatibility import expert_in_name

__all__ = ["AUTO", "HostFacts", "family_of_host"]

AUTO = "auto"
# Classes of configurations that requests describe, in comfy/supported_models.py of ComfyUI 0.25 and 0.33.
_REQUESTABLE = ("WAN21_T2V", "WAN21_I2V", "WAN22_T2V")


@dataclass(frozen=True)
class HostFacts:
    """What ComfyUI knows of one MODEL.

    config:   class name of its configuration, such as WAN21_T2V.
    channels: of the latents; inputs: of the network, with those of an image.
    width:    numbers per token. clip: it reads CLIP features; ends: for two images.
    shift:    that a patch gave its noise schedule; None where there is no such patch.
    lora:     its weights are patched.
    file:     name of its file, empty where ComfyUI does not know it.
    patches:  what was added to it, by name.
    """

    config: str
    channels: int
    inputs: int
    width: int
    clip: bool = False
    ends: bool = False
    shift: float | None = None
    lora: bool = False
    file: str = ""
    patches: tuple[str, ...] = ()


def family_of_host(experts: Mapping[str, HostFacts], chosen: str = AUTO) -> tuple[Family, list[str]]:
    """The family of one or two MODELs, and what a check should say about the choice.

    experts: "high" and perhaps "low". chosen: the name of a family, or AUTO.

    Raises ModelError when the two are of different kinds, or the chosen family has other channels.
    """
    high, low = experts["high"], experts.get("low")
    if low is not None:
        _require_same(high, low)
    found = _found(high, low is not None)
    notes = _exchanged(experts)
    if chosen == AUTO:
        if low is None and found.experts == 1 and found.name in FAMILIES:
            notes.append(f"family: one MODEL, so it counts as {found.name}{_other_choice(found)}")
        return found, notes
    family = FAMILIES[chosen]
    if _channels(family) != (high.channels, high.inputs):
        raise ModelError(
            f"family: {chosen} has {'{} latent and {} input'.format(*_channels(family))} channels, but the "
            f"connected {high.config} has {high.channels} and {high.inputs}; set family to {AUTO}"
        )
    if low is not None and family.experts == 1:
        raise ModelError(f"family: {chosen} has a single expert, but low is connected; disconnect low")
    if low is None and family.experts == 2:
        notes.append(f"family: a single expert of {chosen} runs every step; connect low for both")
        family = replace(family, experts=1, boundary=None)
    return family, notes


def _found(facts: HostFacts, pair: bool) -> Family:
    if facts.config not in _REQUESTABLE or (facts.channels, facts.inputs) not in _BY_CHANNELS:
        return _without_requests(facts, pair)
    single, double = _BY_CHANNELS[facts.channels, facts.inputs]
    if pair:
        if double is None:
            raise ModelError(f"low: {single} has a single expert; disconnect low")
        return FAMILIES[double]
    if single == "wan2.1-t2v-14b" and facts.width == FAMILIES["wan2.1-t2v-1.3b"].hidden_width:
        return FAMILIES["wan2.1-t2v-1.3b"]
    if single == "wan2.1-i2v-14b" and not facts.clip:  # an expert of Wan 2.2 reads no CLIP features
        return replace(FAMILIES["wan2.2-i2v-a14b"], experts=1, boundary=None)
    return FAMILIES["wan2.1-flf2v-14b" if facts.ends else single]


_BY_CHANNELS: Mapping[tuple[int, int], tuple[str, str | None]] = {  # (one MODEL, two MODELs)
    (16, 16): ("wan2.1-t2v-14b", "wan2.2-t2v-a14b"),
    (16, 36): ("wan2.1-i2v-14b", "wan2.2-i2v-a14b"),
    (48, 48): ("wan2.2-ti2v-5b", None),
}


def _channels(family: Family) -> tuple[int, int]:
    extra = family.latent_channels + 4 if family.image_form == "channels" else 0
    return family.latent_channels, family.latent_channels + extra


def _without_requests(facts: HostFacts, pair: bool) -> Family:
    """A Wan model that no request describes: the building blocks run it with ComfyUI's conditioning."""
    base = FAMILIES["wan2.2-ti2v-5b" if facts.channels == 48 else "wan2.2-t2v-a14b"]
    return replace(
        base,
        name=facts.config,
        experts=2 if pair else 1,
        boundary=0.9 if pair and facts.inputs > facts.channels else 0.875 if pair else None,
        tasks=frozenset(),
        hidden_width=facts.width,
        image_form="none",
        source="ComfyUI comfy/supported_models.py; boundaries of wan/configs of Wan-Video/Wan2.2",
    )


def _require_same(high: HostFacts, low: HostFacts) -> None:
    if high == low or _shape(high) == _shape(low):
        return
    raise ModelError(
        f"low: {_described(low)}, but high: {_described(high)}; connect the two experts of one model"
    )


def _shape(facts: HostFacts) -> tuple[object, ...]:
    return facts.config, facts.channels, facts.inputs, facts.width, facts.clip


def _described(facts: HostFacts) -> str:
    channels = f"{facts.channels} latent and {facts.inputs} input channels"
    return f"is {facts.config} with {channels}, width {facts.width}"


def _exchanged(experts: Mapping[str, HostFacts]) -> list[str]:
    return [
        f"{name}: {facts.file} says that it is the {said}-noise expert; connect it to {said}"
        for name, facts in experts.items()
        if len(experts) == 2 and (said := expert_in_name(facts.file)) not in (None, name)
    ]


def _other_choice(family: Family) -> str:
    other = {"wan2.1-t2v-14b": "wan2.2-t2v-a14b", "wan2.1-i2v-14b": "wan2.2-i2v-a14b"}.get(family.name)
    return "" if other is None else f"; connect low, or set family to {other}, if it is an expert of Wan 2.2"

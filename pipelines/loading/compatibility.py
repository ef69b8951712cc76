"""Checks whether the parts of a model belong together, and determines its family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..plan.families import FAMILIES, Family
from ..weights.hashing import file_hash
from ..weights.noise_in_name import noise_in_name
from ..weights.recipe import Recipe
from .architecture import families_of
from .missing_files import missing

__all__ = ["expert_in_name", "family_of", "name_notes", "require_fit"]

_COMPARED_BYTES = 4096
_OF_THE_SAME_MODEL = ("num_attention_heads", "num_layers", "ffn_dim", "text_dim", "image_dim")


def family_of(path: Path, index: Mapping[str, Any], experts: Mapping[str, Recipe]) -> Family:
    """Return the family of one or two transformers, by their channels and their number.

    index: the model_index.json of a folder, empty for files; the embedded model states its family there.

    One transformer of Wan 2.2 image to video counts as a merge of both, unless its name says high or low.

    Raises ModelError if the two are the same file or of different models, or if one is missing or too many.
    """
    _require_pair(path, experts)
    config = experts["high"].config
    own = index.get("wan_duet")
    if isinstance(own, dict) and own.get("family") in FAMILIES:
        family = _embedded(str(own["family"]), config)
        if len(experts) != family.experts:
            raise ModelError(
                f"{path}: has {len(experts)} transformers, but {family.name} needs {family.experts}"
            )
        return family
    possible = [FAMILIES[name] for name in families_of(config)]
    found = next((family for family in possible if family.experts == len(experts)), None)
    if found is not None:
        return found
    if _is_merged(possible, experts):
        return replace(possible[0], experts=1, boundary=None)
    if not possible:
        raise ModelError(
            f"{path}: unsupported Wan transformer with {config.get('in_channels')} input and "
            f"{config.get('out_channels')} output channels; supported are text to video (16 and 16), image "
            "to video (36 and 16) and TI2V 5B (48 and 48)"
        )
    if len(experts) == 1:
        raise ModelError(missing("low_model", possible[0].name))
    raise ModelError(f"low_model: {possible[0].name} has a single transformer; leave low_model empty")


def _is_merged(possible: Sequence[Family], experts: Mapping[str, Recipe]) -> bool:
    """Return whether one transformer of image to video stands for both experts.

    People merge the two into one file. Tensors do not show it; only a name that says high or low denies it.
    """
    alone = len(experts) == 1 and any(family.image_form == "channels" for family in possible)
    return alone and expert_in_name(experts["high"].files[0].name) is None


def require_fit(
    family: Family,
    experts: Mapping[str, Recipe],
    vae: Recipe,
    text_encoder: Recipe,
    audio_encoder: Recipe | None = None,
) -> None:
    """Raise ModelError unless the encoders and the VAE match the transformers."""
    if vae.config.get("z_dim") != family.latent_channels:
        raise ModelError(
            f"vae: {vae.files[0]} has {vae.config.get('z_dim')} latent channels, but {family.name} "
            f"needs {family.latent_channels}; choose the VAE of this model"
        )
    colours, pixels = (vae.config.get(name, 3) for name in ("out_channels", "in_channels"))
    if colours != pixels:  # of a folder, whose config.json says so; of a file its reader has asked
        raise ModelError(
            f"{vae.files[0]}: decodes to {colours} channels what was encoded from {pixels}; choose the plain "
            "VAE of this model"
        )
    wanted, width = experts["high"].config.get("text_dim", 4096), text_encoder.config.get("d_model")
    if width != wanted:
        raise ModelError(
            f"text_encoder: {text_encoder.files[0]} outputs width {width}, but {family.name} needs "
            f"{wanted}; choose UMT5-XXL"
        )
    if audio_encoder is not None:
        _require_audio_fit(family, experts["high"], audio_encoder)


def _require_audio_fit(family: Family, expert: Recipe, audio_encoder: Recipe) -> None:
    wanted = (expert.config["audio_dim"], expert.config["audio_states"])
    found = (audio_encoder.config["hidden_size"], audio_encoder.config["num_hidden_layers"] + 1)
    if found != wanted:
        raise ModelError(
            f"audio_encoder: {audio_encoder.files[0]} outputs {found[1]} layers of width {found[0]}, "
            f"but {family.name} needs {wanted[1]} of width {wanted[0]}; choose wav2vec2-large-xlsr-53-english"
        )


def expert_in_name(name: str) -> str | None:
    """Return which expert a file name states, "high" or "low". This is only a hint: names can be wrong."""
    said = noise_in_name(Path(name.replace("\\", "/")).stem)
    return next(iter(said)) if len(said) == 1 else None


def _embedded(name: str, config: Mapping[str, Any]) -> Family:
    """Return the family of that name, or its image-to-video variant, by the channels."""
    takes_picture = int(config.get("in_channels", 16)) > FAMILIES[name].latent_channels
    sister = f"{name}-image"
    return FAMILIES[sister if takes_picture and sister in FAMILIES else name]


def _require_pair(path: Path, experts: Mapping[str, Recipe]) -> None:
    if "low" not in experts:
        return
    high, low = experts["high"], experts["low"]
    part = low.files[0].is_relative_to(path)  # of a folder with both
    where = f"{path}" if part else f"low_model: {low.files[0]} does not fit {path}"
    both = "the high- and low-noise experts"
    channels = [int(recipe.config.get("in_channels", 16)) for recipe in (high, low)]
    if channels[0] != channels[1]:
        raise ModelError(
            f"{where}: {both} have {channels[0]} and {channels[1]} input channels (text to video has 16, "
            "image to video 36); both must come from the same model"
        )
    for key in _OF_THE_SAME_MODEL:
        if high.config.get(key) != low.config.get(key):
            raise ModelError(
                f"{where}: {both} differ in {key} ({high.config.get(key)} and {low.config.get(key)}); both "
                "must come from the same model"
            )
    if _same_content(high, low):
        raise ModelError(
            f"low_model: {low.files[0]} is the same as the high-noise expert; choose the low-noise expert"
        )


def _same_content(high: Recipe, low: Recipe) -> bool:
    """Return whether both are made from the same bytes, under any file names."""
    pairs = list(zip(high.files, low.files, strict=False))
    if len(high.files) != len(low.files) or any(
        one.stat().st_size != two.stat().st_size for one, two in pairs
    ):
        return False
    return all(
        one.samefile(two) or (_middle(one) == _middle(two) and file_hash(one) == file_hash(two))
        for one, two in pairs
    )


def _middle(file: Path) -> bytes:
    """Return a few bytes of a tensor. Two experts differ there, so that neither has to be hashed."""
    with file.open("rb") as stream:
        stream.seek(file.stat().st_size // 2)
        return stream.read(_COMPARED_BYTES)


def name_notes(experts: Mapping[str, Recipe], family: Family) -> tuple[str, ...]:
    """Return what to say of file names that contradict their input. Tensors do not show high or low."""
    named = {slot: recipe.files[0].name for slot, recipe in experts.items()}
    said = {slot: expert_in_name(name) for slot, name in named.items()}
    if len(experts) == 1 and FAMILIES[family.name].experts == 2 and not said["high"]:
        alone = f"{named['high']} runs every step, as a merge of the two experts of {family.name}"
        return (f"{alone}; if it is one of the two, choose the other too",)
    if len(experts) == 1:
        return tuple(
            f"{name} is used alone, as {family.name}; if it is one of the two experts of Wan 2.2, choose the "
            "other too"
            for slot, name in named.items()
            if said[slot]
        )
    return tuple(
        f"{name} is used as the {slot}-noise expert; its name says {said[slot]}"
        for slot, name in named.items()
        if said[slot] not in (None, slot)
    )

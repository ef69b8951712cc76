"""What travels on a WAN_MODEL socket: every recipe of one model, and nothing loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import ModelError
from ..memory import Precision
from ..plan.families import FAMILIES, Family
from ..toy.embedded import TOY, toy_folder
from ..weights.folder import read_component, read_json
from ..weights.hashing import file_hash
from ..weights.lora import attach_lora
from ..weights.lora_file import read_lora
from ..weights.lora_report import LoraReport
from ..weights.recipe import Recipe

__all__ = ["WanModel", "load_model"]


@dataclass(frozen=True)
class WanModel:
    """One model, ready to be asked for its networks.

    name:      as the user chose it ("toy" or a folder).
    boundary:  share of the noise range from which on the high expert works; None with a single expert.
    experts:   recipes of "high" and "low"; a model with one transformer has only "high".
    tokenizer: a folder.
    """

    name: str
    family: Family
    boundary: float | None
    experts: Mapping[str, Recipe] = field(repr=False)
    vae: Recipe = field(repr=False)
    text_encoder: Recipe = field(repr=False)
    tokenizer: Path
    precision: Precision = "auto"
    loras: tuple[LoraReport, ...] = ()

    def with_lora(
        self, file: Path, scale: float, transformer: str, *, allow_partial: bool = False
    ) -> WanModel:
        """This model with one more LoRA on its "high", "low" or "both" experts.

        On a model with a single expert every choice means that one. `scale` is any finite number; 0 changes
        nothing and is reported all the same. allow_partial: apply what fits of a file that mostly does not.
        Raises LoraError when the file cannot be read or does not fit.
        """
        targets = tuple(self.experts) if transformer == "both" or len(self.experts) == 1 else (transformer,)
        lora = read_lora(file)
        experts, reports = dict(self.experts), list(self.loras)
        for name in targets:
            experts[name], report = attach_lora(experts[name], lora, scale, name, allow_partial=allow_partial)
            reports.append(report)
        return replace(self, experts=MappingProxyType(experts), loras=tuple(reports))

    def hashes(self) -> dict[str, str]:
        """Content hash of every weight file, LoRAs included, by `component/file name`."""
        components = {**self.experts, "vae": self.vae, "text_encoder": self.text_encoder}
        named = {f"{name}/{file.name}": file for name, recipe in components.items() for file in recipe.files}
        loras = dict.fromkeys(report.file for report in self.loras)
        named.update({f"loras[{index}]/{file.name}": file for index, file in enumerate(loras)})
        return {name: file_hash(file) for name, file in sorted(named.items())}


def load_model(source: str | Path, *, precision: Precision = "auto") -> WanModel:
    """The model "toy", or the one in a folder in diffusers layout. Reads headers only.

    The family follows from the configurations, never from the folder's name.
    Raises ModelError naming what is missing or does not fit together.
    """
    folder = toy_folder() if source == TOY else Path(source)
    if not folder.is_dir():
        found = "a file, which this version does not read" if folder.exists() else "no such model"
        raise ModelError(
            f"{source}: {found}; give {TOY!r} or a folder in diffusers layout (model_index.json)"
        )
    index = read_json(folder / "model_index.json")
    experts = {"high": read_component(folder / "transformer")}
    if (folder / "transformer_2").is_dir():
        experts["low"] = read_component(folder / "transformer_2")
    family = _family(folder, index, experts)
    vae = read_component(folder / "vae")
    if vae.config.get("z_dim") != family.latent_channels:
        raise ModelError(
            f"{folder / 'vae'}: has {vae.config.get('z_dim')} latent channels, {family.name} needs "
            f"{family.latent_channels}; this VAE belongs to another model"
        )
    boundary = family.boundary if index.get("boundary_ratio") is None else float(index["boundary_ratio"])
    return WanModel(
        name=str(source),
        family=family,
        boundary=boundary if family.experts == 2 else None,
        experts=MappingProxyType(experts),
        vae=vae,
        text_encoder=read_component(folder / "text_encoder"),
        tokenizer=folder / "tokenizer",
        precision=precision,
    )


def _family(folder: Path, index: Mapping[str, Any], experts: Mapping[str, Recipe]) -> Family:
    """Channels and the number of experts tell the family; the folder's name does not count."""
    own = index.get("wan_duet")
    if isinstance(own, dict) and own.get("family") in FAMILIES:
        family = FAMILIES[own["family"]]
        if len(experts) != family.experts:
            raise ModelError(f"{folder}: has {len(experts)} transformers, {family.name} has {family.experts}")
        return family
    channels = {int(recipe.config.get("in_channels", 16)) for recipe in experts.values()}
    if len(channels) != 1:
        raise ModelError(
            f"{folder}: transformer and transformer_2 have {' and '.join(map(str, sorted(channels)))} input "
            "channels; both experts must come from the same model"
        )
    heads = int(experts["high"].config.get("num_attention_heads", 40))
    name = {
        (16, 2): "wan2.2-t2v-a14b",
        (36, 2): "wan2.2-i2v-a14b",
        (48, 1): "wan2.2-ti2v-5b",
        (16, 1): "wan2.1-t2v-1.3b" if heads <= 12 else "wan2.1-t2v-14b",
    }.get((channels.pop(), len(experts)))
    if name is None:
        raise ModelError(f"{folder}: no Wan model that this version runs has these transformers")
    return FAMILIES[name]

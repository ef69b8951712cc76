"""The value of a WAN_MODEL socket: all recipes of one model. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..device.memory import KeepAlive
from ..device.precision import Precision
from ..embedded.toy_model import EMBEDDED, toy_folder
from ..errors import ModelError
from ..kernels.choices import Preferences
from ..networks.prompt_cache import PromptCache
from ..networks.tokenizer import find_tokenizer
from ..plan.families import Family
from ..streaming.residency import parse_residency
from ..weights.checkpoint import Checkpoint, read_checkpoint
from ..weights.folder import read_component, read_json
from ..weights.hashing import file_hash
from ..weights.lora.attach import attach_lora
from ..weights.lora.coverage import LoraReport
from ..weights.lora.lora_file import read_lora
from ..weights.lora.metadata import adapter_config_beside
from ..weights.recipe import Recipe
from ..weights.stored_layers import StoredUse, computing_as_stored
from ..weights.stored_tensors import is_safetensors
from .all_in_one import parts_of
from .architecture import folder_recipe, require_configured
from .compatibility import family_of, name_notes, require_fit
from .identify import Kind, choose, read_part
from .missing_files import PartName, missing, moved, public_page
from .vae_layout import vae_recipe
from .wav2vec_layout import audio_encoder_recipe, choose_audio_encoder

if TYPE_CHECKING:
    import torch

__all__ = ["FileChoice", "GpusOfModel", "WanModel", "load_model", "read_experts"]

FileChoice = str | Path | Sequence[Path] | None


@dataclass(frozen=True)
class GpusOfModel:
    """Devices that compute one video together, and how their processes load the model.

    devices:  names, such as "cuda:1".
    arguments: of `load_model`, as JSON values.
    """

    devices: tuple[str, ...]
    arguments: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class WanModel:
    """One model, ready to be asked for its networks.

    name:      as the user chose it ("toy", a folder, or the file of the first expert).
    boundary:  share of the noise range from which on the high expert works; None with a single expert.
    experts:   recipes of "high" and "low"; a model with one transformer has only "high".
    tokenizer: a file or folder that `read_tokenizer` reads.
    image_encoder: CLIP's, for Wan 2.1 image to video; it may be missing until a run needs it.
    keep_alive: keeps experts between runs; models made from this one share it.
    prompt_expander,
    safety_checker: folders with the models that were chosen for it; None where nobody did.
    residency: how much of the experts lies on the device, as `parse_residency` has it.
    audio_encoder: wav2vec 2.0, of a model that hears; None of any other.
    preferences:    how its experts should compute, where that is not left to the device.
    prompts:   what its text encoder read last; models made from this one share it.
    notes:     what a user should know of its files: swapped names, tensors that are left out.
    gpus:      devices that compute one video together, for Run Local. None for one device.
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
    image_encoder: Recipe | None = field(default=None, repr=False)
    audio_encoder: Recipe | None = field(default=None, repr=False)
    keep_alive: KeepAlive = field(default_factory=KeepAlive, repr=False, compare=False)
    prompt_expander: Path | None = None
    safety_checker: Path | None = None
    residency: str = "auto"
    preferences: Preferences = field(default_factory=Preferences)
    prompts: PromptCache = field(default_factory=PromptCache, repr=False, compare=False)
    notes: tuple[str, ...] = ()
    variants: Mapping[str, Recipe] = field(default_factory=dict, repr=False)
    gpus: GpusOfModel | None = None

    def with_lora(
        self, file: Path, scale: float, transformer: str, *, allow_partial: bool = False
    ) -> WanModel:
        """Return this model with one more LoRA on its "high", "low" or "both" experts.

        With a single expert every choice means that one. `scale` is any finite number; 0 changes nothing and
        is still reported. allow_partial: apply what fits even if most of the file does not.

        Raises LoraError if the file cannot be read or does not fit.
        """
        targets = tuple(self.experts) if transformer == "both" or len(self.experts) == 1 else (transformer,)
        lora = read_lora(file)
        experts, reports = dict(self.experts), list(self.loras)
        for name in targets:
            experts[name], report = attach_lora(experts[name], lora, scale, name, allow_partial=allow_partial)
            reports.append(report)
        return replace(self, experts=MappingProxyType(experts), loras=tuple(reports))

    def experts_on(self, device: torch.device) -> dict[str, Recipe]:
        """Return the recipes by which the experts compute on `device`: on stored numbers, if chosen."""
        return {name: recipe for name, (recipe, _) in self._computing_on(device).items()}

    def stored_uses(self, device: torch.device) -> dict[str, tuple[StoredUse, ...]]:
        """Return how the layers of each expert compute on `device`; nothing unless `precision` is stored."""
        computing = self._computing_on(device)
        return {name: uses for name, (_, uses) in computing.items() if name in self.experts}

    def _computing_on(self, device: torch.device) -> dict[str, tuple[Recipe, tuple[StoredUse, ...]]]:
        networks = {**self.experts, **self.variants}
        if self.precision != "stored":
            return {name: (recipe, ()) for name, recipe in networks.items()}
        return {name: computing_as_stored(recipe, device) for name, recipe in networks.items()}

    @property
    def components(self) -> dict[str, Recipe]:
        """Return the recipe of every network, by name."""
        encoders = {"image_encoder": self.image_encoder, "audio_encoder": self.audio_encoder}
        present = {name: recipe for name, recipe in encoders.items() if recipe is not None}
        return {**self.experts, "vae": self.vae, "text_encoder": self.text_encoder, **present}

    def files(self) -> dict[str, Path]:
        """Return every weight file, with LoRAs, by `component/file name`."""
        named = {
            f"{name}/{file.name}": file for name, recipe in self.components.items() for file in recipe.files
        }
        for index, lora in enumerate(dict.fromkeys(report.file for report in self.loras)):
            config = adapter_config_beside(lora)  # decides the strength too
            named |= {f"loras[{index}]/{file.name}": file for file in (lora, config) if file is not None}
        return dict(sorted(named.items()))

    def hashes(self) -> dict[str, str]:
        """Return the content hash of every weight file, with LoRAs, by `component/file name`."""
        return {name: file_hash(file) for name, file in self.files().items()}


def load_model(
    source: str | Path,
    *,
    low: str | Path | None = None,
    vae: FileChoice = None,
    text_encoder: FileChoice = None,
    tokenizer: str | Path | None = None,
    precision: Precision = "auto",
    image_encoder: FileChoice = None,
    residency: str = "auto",
    audio_encoder: FileChoice = None,
    preferences: Preferences | None = None,
    open_pickles: bool = False,
) -> WanModel:
    """A model from a folder or from single files. Reads headers only.

    source:       "toy", a folder in diffusers layout, or a transformer: a .safetensors or .gguf file or a
                  folder with its shards. Of the two experts of Wan 2.2 14B, the high-noise one. A file that
                  also holds the VAE, the text or the image encoder stands for them too.
    low:          the low-noise expert, likewise.
    vae,
    text_encoder,
    image_encoder: a file or folder; a list of files stands for the one of them that fits. With a folder in
                  diffusers layout these replace what the folder has. An image encoder is needed by Wan 2.1
                  image to video alone, and only once it runs.
    tokenizer:    needed only where the text encoder carries none and none lies beside it: a tokenizer.json, a
                  SentencePiece model, or a folder with one.
    residency:    how much of the experts lies on the device while they run: auto, resident, ring or ring:N.
    audio_encoder: of a model for speech: a wav2vec 2.0, its folder or its .safetensors file, likewise. No
                  other model looks at it.
    preferences:       how the experts should compute; None leaves all of it to the device.
    open_pickles: read a `.pth` file that was named as VAE or text encoder; the user has allowed it.

    The family follows from the tensors, never from the name of a file or folder.
    Raises ModelError naming what is missing, of the wrong kind, or of another model.
    """
    parse_residency(residency)
    if precision == "stored" and preferences is not None and preferences.compiler is not None:
        raise ModelError(
            "compile: compiled blocks do not compute on stored numbers; leave one of the two out"
        )
    path, experts = _located(source), read_experts(source, low)
    folder = path if _is_whole(path) else None
    index = read_json(path / "model_index.json") if folder else {}
    family = family_of(path, index, experts)
    held = parts_of(read_checkpoint(path)) if path.is_file() else {}
    vae = _own_or(vae, "VAE", path, held)
    text_encoder = _own_or(text_encoder, "text encoder", path, held)
    image_encoder = _own_or(image_encoder, "image encoder", path, held)
    vae_recipe, _ = _part("vae", vae, folder, family, open_pickles=open_pickles)
    text_recipe, text_path = _part("text_encoder", text_encoder, folder, family, open_pickles=open_pickles)
    audio_recipe = _audio_encoder(audio_encoder, folder, family)
    require_fit(family, experts, vae_recipe, text_recipe, audio_recipe)
    if folder is not None:
        _require_whole(folder, experts, None if vae else vae_recipe)
    boundary = family.boundary if index.get("boundary_ratio") is None else float(index["boundary_ratio"])
    return WanModel(
        name=str(source),
        family=family,
        boundary=boundary if family.experts == 2 else None,
        experts=MappingProxyType(experts),
        vae=vae_recipe,
        text_encoder=text_recipe,
        tokenizer=_tokenizer(tokenizer, text_path),
        precision=precision,
        image_encoder=_image_encoder(image_encoder, folder, family),
        residency=residency,
        audio_encoder=audio_recipe,
        preferences=preferences or Preferences(),
        notes=(*name_notes(experts, family), *_left_out((*experts.values(), text_recipe))),
    )


def _left_out(recipes: Iterable[Recipe]) -> tuple[str, ...]:
    """Return the notes of the networks; equal ones of both experts are one."""
    return tuple(dict.fromkeys(note for recipe in recipes for note in recipe.notes))


def _require_whole(folder: Path, experts: Mapping[str, Recipe], vae: Recipe | None) -> None:
    """Hold the tensors of a folder in diffusers layout against its networks. vae: None for another file.

    Other parts of it are held against theirs when they are read.

    Raises ModelError that names missing, extra and misshapen tensors.
    """
    for name, part in (("high", "transformer"), ("low", "transformer_2")):
        if name in experts and experts[name].files[0].parent == folder / part:
            require_configured(folder / part, experts[name])
    if vae is not None:
        vae_recipe(Checkpoint(vae.files[0].parent, vae.sources))


def read_experts(source: str | Path, low: str | Path | None = None) -> dict[str, Recipe]:
    """Return the transformers of a model, {"high": ...} and perhaps "low", to compare a LoRA with.

    source, low: as for `load_model`, which also checks whether the two belong together.
    """
    path = _located(source)
    experts: dict[str, Recipe] = {}
    if _is_whole(path):
        read_json(path / "model_index.json")  # a folder without one is not said to lack a transformer
        experts["high"] = folder_recipe(path / "transformer")
        if (path / "transformer_2").is_dir():
            experts["low"] = folder_recipe(path / "transformer_2")
    else:
        experts["high"] = _read(path, "transformer", "model")
    if low is not None:
        experts["low"] = _read(Path(low), "transformer", "low_model")
    return experts


def _located(source: str | Path) -> Path:
    path = toy_folder(str(source)) if source in EMBEDDED else Path(source)
    if not path.exists():
        raise ModelError(
            f"{source}: no such model; give {' or '.join(map(repr, EMBEDDED))}, a folder in diffusers "
            "layout, or the transformer as a .safetensors or .gguf file; download one from "
            f"{public_page('diffusion_models')}{moved(path)}"
        )
    return path


def _is_whole(path: Path) -> bool:
    """Return whether this is a folder in diffusers layout with all parts, not a folder of shards."""
    if not path.is_dir():
        return False
    return (path / "model_index.json").is_file() or not any(is_safetensors(file) for file in path.iterdir())


def _read(path: Path, kind: Kind, slot: str, *, open_pickles: bool = False) -> Recipe:
    if not path.exists():
        raise ModelError(
            f"{slot}: {path} not found; download it from {public_page(_FOLDERS[kind])}{moved(path)}"
        )
    return read_part(path, kind, slot, open_pickles=open_pickles)


_FOLDERS: dict[Kind, str] = {
    "transformer": "diffusion_models",
    "VAE": "vae",
    "text encoder": "text_encoders",
    "image encoder": "clip_vision",
}
_KINDS: dict[PartName, Kind] = {
    "vae": "VAE",
    "text_encoder": "text encoder",
    "image_encoder": "image encoder",
}


def _part(
    slot: PartName, given: FileChoice, folder: Path | None, family: Family, *, open_pickles: bool = False
) -> tuple[Recipe, Path]:
    """Return the recipe given for an input, else the folder's own, and its path."""
    kind = _KINDS[slot]
    if given is None and folder is not None:
        own = _own_or_shared(folder, slot)
        # The table of UMT5 has two names, and folders hold either or both: its reader knows.
        return (read_component(own) if slot == "vae" else read_part(own, kind, slot)), own
    if given is None:
        raise ModelError(missing(slot, family.name))
    path = Path(given) if isinstance(given, (str, Path)) else choose(given, kind, family.name, slot)
    return _read(path, kind, slot, open_pickles=open_pickles), path


def _own_or(given: FileChoice, kind: Kind, path: Path, held: Collection[str]) -> FileChoice:
    """Return the file of the model for a part that lies in it too, unless another file is named."""
    return path if kind in held and not isinstance(given, (str, Path)) else given


def _image_encoder(given: FileChoice, folder: Path | None, family: Family) -> Recipe | None:
    """Return the image encoder of a family that uses CLIP. None if none is given or needed."""
    if not family.uses_clip:
        return None
    own = folder is not None and _own_or_shared(folder, "image_encoder").is_dir()
    if given is None and not own:
        return None
    if not isinstance(given, (str, Path, type(None))) and not list(given):
        return None
    return _part("image_encoder", given, folder, family)[0]


def _own_or_shared(folder: Path, slot: str) -> Path:
    """Return a part of a complete model.

    One inside another may omit parts, and uses those of the outer one.
    """
    own, shared = folder / slot, folder.parent / slot
    if not own.is_dir() and shared.is_dir() and (folder.parent / "model_index.json").is_file():
        return shared
    return own


def _audio_encoder(given: FileChoice, folder: Path | None, family: Family) -> Recipe | None:
    """Return the audio encoder of a family that needs one, else None."""
    if not family.needs_audio:
        return None
    if given is None and folder is not None:
        given = _own_or_shared(folder, "audio_encoder")
    found = given if isinstance(given, (str, Path)) else choose_audio_encoder(given or (), family.name)
    if not Path(found).exists():
        raise ModelError(f"{missing('audio_encoder', family.name)}; {found} was not found")
    return audio_encoder_recipe(Path(found))


def _tokenizer(given: str | Path | None, text_encoder: Path) -> Path:
    found = Path(given) if given is not None else find_tokenizer(text_encoder)
    if found is None:
        raise ModelError(
            f"tokenizer: {text_encoder} contains none and there is none beside it; put the tokenizer.json of "
            "google/umt5-xxl there, or use Comfy-Org's umt5_xxl_fp16.safetensors, which contains one"
        )
    return found

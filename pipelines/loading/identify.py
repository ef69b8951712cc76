"""Identifies a weight file by the names and shapes of its tensors, without reading tensor data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ModelError
from ..plan.families import FAMILIES
from ..weights.checkpoint import Checkpoint, read_checkpoint
from ..weights.folder import first_shard
from ..weights.module_names import transformer_prefix
from ..weights.recipe import Recipe
from .all_in_one import parts_of, unwrapped
from .architecture import families_of, transformer_recipe
from .clip_layout import clip_recipe
from .missing_files import PartName, missing
from .text_layout import text_recipe
from .vae_layout import vae_recipe

__all__ = ["Identity", "Kind", "choose", "identify", "read_part"]

Kind = Literal["transformer", "VAE", "text encoder", "image encoder", "LoRA", "unknown"]

_READERS: dict[str, Callable[[Checkpoint], Recipe]] = {
    "transformer": transformer_recipe,
    "VAE": vae_recipe,
    "text encoder": text_recipe,
    "image encoder": clip_recipe,
}
_LORA = re.compile(
    r"(?:.*[._])?(?:lora_(?:A|B|down|up|mid|magnitude_vector|linear_layer)|lora\.(?:down|up)|hada_\w+|lokr_\w+"
    r"|oft_blocks|oft_R|boft_[Rs]|[ab][12]\.weight|dora_scale|alpha|diff(?:_[bm])?)(?:\..+)?"
)


@dataclass(frozen=True)
class Identity:
    """What a file is.

    families: the model families it can be a part of; empty if it cannot be used, and for a LoRA, whose own
              report says what it fits.
    problem:  why it cannot be used, for the user; empty if it can.
    """

    kind: Kind
    families: tuple[str, ...] = ()
    problem: str = ""


def identify(path: Path) -> Identity:
    """Return what a .safetensors or .gguf file, or a folder of shards, contains. Reads headers only.

    It never raises for a bad file: `problem` describes it, so that a list of files can be filtered.
    """
    try:
        checkpoint = read_checkpoint(path)
    except ModelError as error:
        return Identity("unknown", problem=str(error))
    parts = parts_of(checkpoint)
    alone = next(iter(parts.values()), checkpoint)
    checkpoint = unwrapped(parts.get("transformer", alone))
    kind = _kind(checkpoint)
    if kind == "LoRA":
        return Identity(kind)
    if kind == "unknown":
        return Identity(kind, problem=_strange(checkpoint))
    try:
        return Identity(kind, _families(kind, _READERS[kind](checkpoint)))
    except ModelError as error:
        return Identity(kind, problem=str(error))


def read_part(path: Path, kind: Kind, slot: str, *, open_pickles: bool = False) -> Recipe:
    """Return the recipe of a file that must be of one kind. Reads headers only.

    slot: name of the input of the file, for the message. open_pickles: as for `read_checkpoint`.

    Raises ModelError that says what the file is instead, or what is wrong with it.
    """
    try:
        checkpoint = read_checkpoint(path, open_pickles=open_pickles)
    except ModelError as error:
        raise ModelError(f"{slot}: {error}") from error
    checkpoint = unwrapped(parts_of(checkpoint).get(kind, checkpoint))
    found = _kind(checkpoint)
    if found == "unknown":
        raise ModelError(f"{slot}: {_strange(checkpoint)}; a {kind} is needed")
    if found != kind:
        raise ModelError(f"{slot}: {path} is a {found}; a {kind} is needed")
    return _READERS[kind](checkpoint)


def choose(files: Sequence[Path], kind: Kind, family: str, slot: PartName) -> Path:
    """Return the one file of `files` that is this part of a model of `family`.

    Raises ModelError when none fits, with the page to download one from, and when several fit: the user must
    choose.
    """
    fitting = [file for file in files if first_shard(file) and _fits(identify(file), kind, family)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(file.name for file in fitting)
        raise ModelError(f"{slot}: {len(fitting)} files fit {family}: {names}; choose one of them")
    looked = f" None of these files fits: {_named(files)}." if files else ""
    raise ModelError(f"{missing(slot, family)}.{looked}")


def _fits(identity: Identity, kind: Kind, family: str) -> bool:
    return identity.kind == kind and family in identity.families


def _named(files: Iterable[Path], shown: int = 8) -> str:
    names = [file.name for file in files]
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _kind(checkpoint: Checkpoint) -> Kind:
    keys = checkpoint.tensors
    if any(_LORA.fullmatch(key) for key in keys):
        return "LoRA"
    if transformer_prefix(keys) is not None:
        return "transformer"
    if any(
        len(keys[key].shape) == 5 for key in ("decoder.conv1.weight", "decoder.conv_in.weight") if key in keys
    ):
        return "VAE"
    tables = {"shared.weight", "token_embedding.weight", "token_embd.weight", "encoder.embed_tokens.weight"}
    blocks = ("encoder.block.0.", "blocks.0.attn.", "enc.blk.0.")
    if tables & keys.keys() and any(key.startswith(blocks) for key in keys):
        return "text encoder"
    if any(f"{prefix}embeddings.class_embedding" in keys for prefix in ("", "vision_model.")):
        return "image encoder"
    return "unknown"


def _families(kind: Kind, recipe: Recipe) -> tuple[str, ...]:
    if kind == "transformer":
        return families_of(recipe.config)
    if kind == "VAE":
        return tuple(
            name for name, family in FAMILIES.items() if family.latent_channels == recipe.config["z_dim"]
        )
    if kind == "image encoder":
        return tuple(name for name, family in FAMILIES.items() if family.uses_clip)
    return tuple(FAMILIES)  # all read the same UMT5; its width is held against the transformer's


def _strange(checkpoint: Checkpoint) -> str:
    said = f" but a GGUF file of {checkpoint.architecture}" if checkpoint.architecture else ""
    examples = ", ".join(list(checkpoint.tensors)[:3]) or "(none)"
    return f"{checkpoint.path}: not a part of a Wan model{said}; its tensors are named like {examples}"

"""Parses the keys of LoRA files: which parameter of a Wan transformer, and which part of its change.

Trainers use two names for each module (Wan's and diffusers'), join them with dots or underscores, and put
a prefix of their own before it. Underscores cannot be converted by rule (in `cross_attn_k_img` two of them
are no dots), so every form is looked up in the table of all modules of a Wan transformer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..module_names import BLOCK_MODULES, MODULES
from ..noise_in_name import noise_in_name

__all__ = ["LoraKey", "NamedExpert", "is_image_path", "other_network", "read_key", "resolve", "unread_form"]

NamedExpert = Literal["", "high", "low"]


def _spellings(names: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for ours, theirs in names.items():
        for spelled in (ours, theirs):
            found[spelled] = found[spelled.replace(".", "_")] = theirs
    return found


# `norm2` is diffusers' name (Wan's norm3): Wan's own norm2 has no weights that could be changed.
_IN_BLOCK, _AT_TOP = _spellings(BLOCK_MODULES), _spellings(MODULES)

_BLOCK = re.compile(r"blocks(?P<joint>[._])(?P<index>0|[1-9][0-9]{0,3})(?P=joint)(?P<leaf>.+)")
_ROOTS = "|".join(sorted({"blocks", *(name.partition(".")[0] for pair in MODULES.items() for name in pair)}))
_ADAPTER = r"(?:\.[\w-]{1,64})?"  # PEFT puts the name of the adapter there, mostly `default`
_KEY = re.compile(
    rf"""
    (?P<prefix>(?:[\w-]{{1,64}}\.){{0,5}}?(?:(?:lora|lycoris)_(?:\w{{1,64}}?_)??_?)?)
    (?P<stem>(?:{_ROOTS}).*?)(?:\. | _(?=lora\.))
    (?:
        (?P<down>lora_(?:A|down)(?:{_ADAPTER}\.weight)? | lora(?:_linear_layer)?\.down(?:\.weight)?)
      | (?P<up>lora_(?:B|up)(?:{_ADAPTER}\.weight)? | lora(?:_linear_layer)?\.up(?:\.weight)?)
      | (?P<up_bias>lora_(?:B|up){_ADAPTER}\.bias)
      | (?P<mid>lora_mid{_ADAPTER}\.weight)
      | (?P<row_magnitude>lora_magnitude_vector{_ADAPTER}(?:\.weight)?)
      | (?P<magnitude>dora_scale)
      | (?P<oft_R>oft_R{_ADAPTER}\.weight)
      | (?P<boft_R>boft_R{_ADAPTER})
      | (?P<boft_s>boft_s{_ADAPTER})
      | (?P<plain>alpha | diff | diff_b | diff_m | set_weight | w_norm | b_norm | hada_(?:w[12]_[ab]|t[12])
          | lokr_(?:w[12](?:_[ab])?|t2) | oft_blocks | rescale)
      | (?P<glora>[ab][12])\.weight
    )""",
    re.VERBOSE,
)
# Parts that a LoRA can change beside the transformer. None of them says that it is for another transformer.
_OTHER_NETWORKS = {
    "the text encoder": re.compile(
        r"(?:base_model\.model\.)?(?:lora_te\d?_|(?:lora_|lycoris_)?(?:text_encoders?(?:_\d)?|u?m?t5(?:_?xxl)?)[._])"
    ),
    "VACE": re.compile(r"(?:.*[._])?vace_(?:blocks|patch_embedding)[._]"),
}
# Forms of adapters that are not read, by how their tensors are called: those of PEFT, and IA3 of LyCORIS.
_UNREAD_FORMS = {
    "AdaLoRA": re.compile(r".+\.lora_E(?:\.|$)"),
    "IA3": re.compile(r".+\.(?:ia3_l|on_input$)"),
    **{
        form: re.compile(rf".+\.{form.lower()}_", re.IGNORECASE)
        for form in (
            *("VeRA", "PVeRA", "VBLoRA", "RandLoRA", "DeLoRA", "GraLoRA", "TinyLoRA", "HiRA", "HRA", "C3A"),
            *("FourierFT", "WaveFT", "SHiRA", "RoAd", "MiSS", "Bone", "PSOFT", "GLoRA", "BEFT", "Lily"),
        )
    },
}
_IMAGE_PATH = ("image_embedder", "add_k_proj", "add_v_proj", "norm_added_k")
_SAME_AS = {"w_norm": "diff", "b_norm": "diff_b"}  # LyCORIS' names for the change of a norm


@dataclass(frozen=True)
class LoraKey:
    """A parsed key of a LoRA file.

    expert: the one that its prefix names; empty if it names none.
    prefix: the text before the module.
    names:  "Wan", "diffusers", or "" if both names are equal.
    module: the module in diffusers' names, or a parameter without module (`scale_shift_table`).
    part:   down, up, up_bias, mid, alpha, row_magnitude, magnitude, diff, diff_b, hada_*, lokr_*, oft_blocks,
            set_weight, rescale, oft_R, boft_R, boft_s, a1, a2, b1, b2.
    path:   the module as written in the file, with its prefix.
    label:  the part as written in the file.
    """

    expert: NamedExpert
    prefix: str
    names: str
    module: str
    part: str
    path: str
    label: str


def read_key(text: str) -> LoraKey | None:
    """Parse a key. Return None if it is not a known change of a Wan transformer."""
    match = _KEY.fullmatch(text)
    if match is None or other_network(text):
        return None
    prefix, stem, part = (
        match["prefix"],
        match["stem"],
        match["plain"] or match["glora"] or str(match.lastgroup),
    )
    joint = "_" if prefix.endswith("_") else "."
    if part == "diff_m":  # the change of a block's (or the head's) modulation is named after the block
        stem, part = f"{stem}{joint}modulation", "diff"
    module = resolve(stem)
    if module is None:
        return None
    return LoraKey(
        expert=_expert_of(prefix),
        prefix=prefix,
        names=_names_of(stem, module),
        module=module,
        part=_SAME_AS.get(part, part),
        path=text[: match.end("stem")],
        label=text[match.end("stem") + 1 :],
    )


def resolve(spelled: str) -> str | None:
    """Return the module (diffusers' name) of any form of its name, or None."""
    block = _BLOCK.fullmatch(spelled)
    if block is None:
        return _AT_TOP.get(spelled)
    leaf = _IN_BLOCK.get(block["leaf"])
    return None if leaf is None else f"blocks.{block['index']}.{leaf}"


def other_network(text: str) -> str | None:
    """Return which network other than the transformer a key changes, or None."""
    return next((name for name, key in _OTHER_NETWORKS.items() if key.match(text)), None)


def unread_form(keys: Iterable[str]) -> str | None:
    """Return which form of adapter that is not read here the keys belong to, or None."""
    named = list(keys)
    return next((form for form, part in _UNREAD_FORMS.items() if any(map(part.match, named))), None)


def is_image_path(name: str) -> bool:
    """Return whether a module or parameter is of the image encoder path.

    Only Wan 2.1 image-to-video has that path.
    """
    return any(f".{part}." in f"{name}." for part in _IMAGE_PATH)


def _expert_of(prefix: str) -> NamedExpert:
    """Return the expert of a prefix.

    diffusers has `transformer` and `transformer_2`, DiffSynth `pipe.dit` and `pipe.dit2`; their first names
    also stand for the only transformer of a model. ai-toolkit has `transformer_1` (high) and `transformer_2`.
    Others write it out: `high_noise_model.`, `diffusion_model_low.`, `lora_unet_high_`.
    """
    if any(name in prefix for name in ("transformer_2.", "dit2.")):
        return "low"
    named = set().union(*map(noise_in_name, prefix.split(".")))
    return "high" if "transformer_1." in prefix or named == {"high"} else "low" if named == {"low"} else ""


def _names_of(stem: str, module: str) -> str:
    if stem.replace(".", "_") == module.replace(".", "_"):
        return "" if module == "patch_embedding" else "diffusers"
    return "Wan"

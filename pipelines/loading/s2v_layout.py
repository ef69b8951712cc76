"""The tensors that only the speech model has: their names in files, and their shapes.

Wan's own files store the audio injectors in a separate list. Here each is a part of its block, so that it is
streamed with it: `audio_injector.injector.1.q` is `blocks.4.audio.attn.to_q`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..networks.shapes import Shapes

__all__ = [
    "SPEECH_CLASS",
    "SPEECH_MARK",
    "audio_blocks",
    "is_speech",
    "speech_config",
    "speech_name",
    "speech_shapes",
]

SPEECH_CLASS = "WanSpeechTransformer3DModel"  # `_class_name` in a configuration
SPEECH_MARK = "casual_audio_encoder."  # spelled so in every file
# audio_inject_layers of the official wan/configs/wan_s2v_14B.py, for 40 blocks
_OFFICIAL = (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)
_OFFICIAL_BLOCKS = 40

_INJECTOR = re.compile(r"audio_injector\.(injector|injector_adain_layers)\.(\d{1,3})\.(.+)\.(weight|bias)")
_IN_INJECTOR = {
    **{("injector", part): f"attn.to_{part}" for part in "qkv"},
    ("injector", "o"): "attn.to_out.0",
    ("injector", "norm_q"): "attn.norm_q",
    ("injector", "norm_k"): "attn.norm_k",
    ("injector_adain_layers", "linear"): "adain",
}
_OWN = ("casual_audio_encoder.", "frame_packer.", "cond_encoder.", "trainable_cond_mask.")
_INJECTED = re.compile(r"blocks\.(\d+)\.audio\.adain\.weight")


def is_speech(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is of a speech model."""
    return config.get("_class_name") == SPEECH_CLASS


def audio_blocks(blocks: int, injectors: int) -> tuple[int, ...]:
    """Return the blocks with audio: those of the released model, else evenly spread. No tensor shows them.

    >>> audio_blocks(4, 2)
    (0, 3)
    """
    if (blocks, injectors) == (_OFFICIAL_BLOCKS, len(_OFFICIAL)):
        return _OFFICIAL
    return tuple(round(index * (blocks - 1) / max(injectors - 1, 1)) for index in range(injectors))


def speech_name(keys: Collection[str]) -> Callable[[str], str | None]:
    """Convert Wan's name of a parameter that only the speech model has. Return None for any other.

    keys: all names in the file, in Wan's form; the numbers of blocks and injectors determine the blocks with
          audio.
    """
    blocks = len({key.split(".")[1] for key in keys if key.startswith("blocks.")})
    found = {match[2] for key in keys if (match := _INJECTOR.fullmatch(key))}
    places = audio_blocks(blocks, len(found))

    def name(key: str) -> str | None:
        match = _INJECTOR.fullmatch(key)
        if match is None:
            return key if key.startswith(_OWN) else None
        inner, index = _IN_INJECTOR.get((match[1], match[3])), int(match[2])
        return (
            None
            if inner is None or index >= len(places)
            else f"blocks.{places[index]}.audio.{inner}.{match[4]}"
        )

    return name


def speech_config(
    plain: Mapping[str, Any], shape: Callable[[str, int], tuple[int, ...]], shapes: Shapes
) -> dict[str, Any]:
    """Return the configuration of `SpeechTransformer`: of its blocks, and of its own parts.

    shape: as `shapes.shape_of`, of the file; it raises ModelError for a missing tensor.
    """
    first = f"{SPEECH_MARK}encoder.conv1"
    local, audio_dim, _ = shape(f"{first}_local.conv.weight", 3)
    hearing = sorted(int(match[1]) for name in shapes if (match := _INJECTED.fullmatch(name)))
    return {
        **plain,
        "_class_name": SPEECH_CLASS,
        "audio_dim": audio_dim,
        "audio_states": shape(f"{SPEECH_MARK}weights", 4)[1],
        "audio_tokens": local // shape(f"{first}_global.conv.weight", 3)[0],
        "audio_blocks": hearing,
        "cond_dim": shape("cond_encoder.weight", 5)[1],
    }


def speech_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every parameter that the speech model has beside a Wan transformer's."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    shapes: dict[str, tuple[int, ...]] = {f"{SPEECH_MARK}weights": (1, config["audio_states"], 1, 1)}

    def layer(name: str, outputs: int, *inputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, *inputs), (outputs,)

    encoder, quarter, half = f"{SPEECH_MARK}encoder", width // 4, width // 2
    layer(f"{encoder}.conv1_local.conv", quarter * config["audio_tokens"], config["audio_dim"], 3)
    layer(f"{encoder}.conv1_global.conv", quarter, config["audio_dim"], 3)
    layer(f"{encoder}.conv2.conv", half, quarter, 3)
    layer(f"{encoder}.conv3.conv", width, half, 3)
    layer(f"{encoder}.final_linear", width, width)
    shapes[f"{encoder}.padding_tokens"] = (1, 1, 1, width)
    for index in config["audio_blocks"]:
        injector = f"blocks.{index}.audio"
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            layer(f"{injector}.attn.{part}", width, width)
        shapes[f"{injector}.attn.norm_q.weight"] = shapes[f"{injector}.attn.norm_k.weight"] = (width,)
        layer(f"{injector}.adain", 2 * width, width)
    for name, scale in (("proj", 1), ("proj_2x", 2), ("proj_4x", 4)):
        layer(f"frame_packer.{name}", width, config["in_channels"], scale, 2 * scale, 2 * scale)
    layer("cond_encoder", width, config["cond_dim"], *config["patch_size"])
    shapes["trainable_cond_mask.weight"] = (3, width)
    return shapes

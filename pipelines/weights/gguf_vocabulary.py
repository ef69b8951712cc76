"""Makes a SentencePiece model of the vocabulary in the metadata of a GGUF file, as llama.cpp stores it.

It is written in the protocol-buffer encoding that SentencePiece reads, so the ids are those of the model
that the file was converted from. Source: sentencepiece_model.proto of google/sentencepiece (field numbers).
llama.cpp has the same numbers for the types of pieces (include/llama.h).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .gguf_file import read_gguf_metadata

__all__ = ["has_vocabulary", "sentencepiece_model"]

_PREFIX = "tokenizer.ggml."
_TOKENS, _SCORES, _TYPES = (_PREFIX + name for name in ("tokens", "scores", "token_type"))
_CHARSMAP = _PREFIX + "precompiled_charsmap"
_LISTS = (_TOKENS, _SCORES, _TYPES, _CHARSMAP)
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # types of pieces
_UNIGRAM = 1  # type of model
# Field of the trainer's settings -> llama.cpp's name of the special piece.
_SPECIAL = {40: "unknown", 41: "bos", 42: "eos", 43: "padding"}


def has_vocabulary(file: Path) -> bool:
    """Return whether a GGUF file holds the pieces and scores of a vocabulary. Raises ModelError."""
    metadata = read_gguf_metadata(file, ())
    return _TOKENS in metadata and _SCORES in metadata


def sentencepiece_model(file: Path) -> bytes:
    """Return the vocabulary of a GGUF file as a SentencePiece model.

    Raises ModelError that names the file if it has none, or a damaged one.
    """
    metadata = read_gguf_metadata(file, _LISTS)
    tokens, scores = metadata.get(_TOKENS), metadata.get(_SCORES)
    if not isinstance(tokens, list) or not isinstance(scores, list):
        raise ModelError(f"{file}: has no {_TOKENS} with {_SCORES}; put the tokenizer beside it")
    types = metadata.get(_TYPES) or _usual_types(metadata, len(tokens))
    if not len(tokens) == len(scores) == len(types) or not all(isinstance(one, str) for one in tokens):
        raise ModelError(
            f"{file}: its vocabulary has {len(tokens)} pieces, {len(scores)} scores and {len(types)} types; "
            "the file is damaged: download it again"
        )
    try:
        pieces = b"".join(_piece(*one) for one in zip(tokens, scores, types, strict=True))
        return pieces + _trainer(metadata, types) + _normalizer(metadata)
    except (struct.error, TypeError, ValueError, OverflowError) as error:  # no numbers where they should be
        raise ModelError(f"{file}: its vocabulary is damaged: {error}; download it again") from error


def _piece(text: str, score: float, kind: int) -> bytes:
    inner = _bytes(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, int(kind))
    return _bytes(1, inner)


def _id(metadata: Mapping[str, Any], name: str) -> int:
    return int(metadata.get(f"{_PREFIX}{name}_token_id", -1))


def _usual_types(metadata: Mapping[str, Any], count: int) -> list[int]:
    """Return the types of the pieces of a file that does not state them: all normal but the special ones."""
    types = {_id(metadata, name): _UNKNOWN if name == "unknown" else _CONTROL for name in _SPECIAL.values()}
    return [types.get(number, _NORMAL) for number in range(count)]


def _trainer(metadata: Mapping[str, Any], types: list[int]) -> bytes:
    ids = {field: _id(metadata, name) for field, name in _SPECIAL.items()}
    inner = _number(3, _UNIGRAM) + _number(4, len(types)) + _number(35, int(_BYTE in types))
    return _bytes(2, inner + b"".join(_number(field, number) for field, number in ids.items()))


def _normalizer(metadata: Mapping[str, Any]) -> bytes:
    """Return the rules before cutting; those of UMT5 where the file is silent."""
    charsmap = bytes(one & 255 for one in metadata.get(_CHARSMAP) or ())
    prefix = int(bool(metadata.get(_PREFIX + "add_space_prefix", True)))
    tidy = int(bool(metadata.get(_PREFIX + "remove_extra_whitespaces", True)))
    inner = _bytes(2, charsmap) + _number(3, prefix) + _number(4, tidy) + _number(5, 1)
    return _bytes(3, inner)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value % 2**64)  # a negative one has ten bytes


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])

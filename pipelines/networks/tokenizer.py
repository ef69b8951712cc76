"""Converts text to token ids of UMT5, from any form of its vocabulary beside the weights.

SentencePiece models are run by SentencePiece itself, because transformers' converted tokenizer gave other
tokens. A `tokenizer.json` is run by the tokenizers library. Both append T5's end-of-sequence token.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import ModelError
from ..weights.gguf_vocabulary import has_vocabulary, sentencepiece_model
from ..weights.stored_tensors import Files, is_safetensors, read_header

__all__ = ["SPIECE", "Tokenize", "clean_prompt", "find_tokenizer", "read_tokenizer"]

Tokenize = Callable[[str], list[int]]

SPIECE = "spiece_model"  # where ComfyUI's files keep the tokenizer: the bytes of a SentencePiece model

_JSON, _SPIECES = "tokenizer.json", ("spiece.model", "sentencepiece.model")
_FOLDERS = ("tokenizer", "umt5-xxl", "google/umt5-xxl")  # beside the weights: diffusers, Wan's repositories


def find_tokenizer(weights: Path) -> Path | None:
    """Return where the vocabulary of a text encoder is: in its weight file, else beside it; None if nowhere.

    Raises ModelError if the file cannot be read.
    """
    if weights.is_file() and _carries_one(weights):
        return weights
    beside = weights if weights.is_dir() else weights.parent
    for folder in (beside, *(beside / name for name in _FOLDERS), beside.parent / "tokenizer"):
        if _in_folder(folder) is not None:
            return folder
    return None


def read_tokenizer(path: Path, rows: int) -> Tokenize:
    """Read a tokenizer from a folder, a tokenizer.json, a SentencePiece .model, or a ComfyUI weight file.

    rows: of the encoder's embedding table. UMT5's vocabulary fills 256300 of 256384 rows. That of another T5
          would fill an eighth, and its tokens would be meaningless.

    Raises ModelError that names the file if there is none, if it cannot be read, or if it is of another
    encoder.
    """
    file, tokenize, pieces = _read(path)
    if not rows // 2 <= pieces <= rows:
        raise ModelError(
            f"{file}: a vocabulary of {pieces} pieces for a text encoder that has {rows}; it belongs to "
            "another model. Put the tokenizer.json of google/umt5-xxl beside the text encoder"
        )
    return tokenize


def clean_prompt(prompt: str) -> str:
    """Resolve HTML entities and collapse whitespace, as the official tokenizer wrapper does."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()


def _read(path: Path) -> tuple[Path, Tokenize, int]:
    """Return the file that was read, its tokenizer, and the size of its vocabulary."""
    file = _in_folder(path) if path.is_dir() else path
    if file is None:
        raise ModelError(f"{path}: has no tokenizer; put {_JSON} or {_SPIECES[0]} there")
    if file.suffix == ".json":
        return file, *_from_json(file)
    if is_safetensors(file):
        key = _spiece_key(file) or SPIECE
        with Files() as files:
            return file, *_from_pieces(file, files.content(file, key))
    if file.suffix.lower() == ".gguf":
        return file, *_from_pieces(file, sentencepiece_model(file))
    try:
        return file, *_from_pieces(file, file.read_bytes())
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error


def _carries_one(weights: Path) -> bool:
    if weights.suffix.lower() == ".gguf":
        return has_vocabulary(weights)
    return is_safetensors(weights) and _spiece_key(weights) is not None


def _spiece_key(file: Path) -> str | None:
    """Return the key of a SentencePiece model: `spiece_model`, in an all-in-one file after a prefix."""
    return next((key for key in read_header(file) if key.rpartition(".")[2] == SPIECE), None)


def _in_folder(folder: Path) -> Path | None:
    return next((folder / name for name in (_JSON, *_SPIECES) if (folder / name).is_file()), None)


def _from_json(file: Path) -> tuple[Tokenize, int]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{file}: not a readable tokenizer: {error}") from error
    return lambda text: list(tokenizer.encode(text).ids), tokenizer.get_vocab_size()


def _from_pieces(file: Path, model: bytes) -> tuple[Tokenize, int]:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise ModelError(
            f"{file}: its tokenizer needs the Python package sentencepiece; install it: "
            "python -m pip install sentencepiece"
        ) from None
    try:
        processor = SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise ModelError(f"{file}: its tokenizer is damaged: {error}") from error
    if not model or processor.eos_id() < 0:  # an empty one is no error to the library
        raise ModelError(
            f"{file}: its tokenizer has no end-of-sequence token; it is damaged, or not a T5 tokenizer"
        )
    return lambda text: [*processor.encode(text), processor.eos_id()], processor.get_piece_size()

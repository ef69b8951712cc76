"""The toy's tokenizer: the grammar's words whole, all else by letters, and other scripts by bytes.

Byte fallback means that no text is ever unknown: a user's Chinese negative prompt costs tokens, not an error.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from .grammar import words

__all__ = ["VOCABULARY_SIZE", "build_tokenizer", "pieces"]

VOCABULARY_SIZE = 512  # rows of the embedding; the rows after the last piece are never used
MAX_TOKENS = 512  # the text length of Wan: official wan/configs/shared_config.py

_SPECIALS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_WORD_SCORE, _LETTER_SCORE, _BYTE_SCORE = -1.0, -20.0, -100.0


def pieces() -> list[tuple[str, float]]:
    """In the order of their ids: pad 0, eos 1, unk 2, 256 bytes, letters, words."""
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    raw = [(f"<0x{byte:02X}>", _BYTE_SCORE) for byte in range(256)]
    letters = [(letter, _LETTER_SCORE) for letter in string.ascii_lowercase + string.digits + ".,;:!?'\"()-"]
    whole = [(f"▁{word}", _WORD_SCORE) for word in words()]
    return [*specials, *raw, ("▁", _LETTER_SCORE), *letters, *whole]


def build_tokenizer(folder: Path | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer; written to `folder` for `AutoTokenizer.from_pretrained` when one is given."""
    model = Tokenizer(models.Unigram(pieces(), unk_id=2, byte_fallback=True))
    model.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")]
    )
    model.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Metaspace(replacement="▁", prepend_scheme="first"),
            decoders.Fuse(),
        ]
    )
    model.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model,
        **_SPECIALS,
        model_max_length=MAX_TOKENS,
        padding_side="right",
    )
    if folder is not None:
        tokenizer.save_pretrained(str(folder))
        _name_the_class(folder / "tokenizer_config.json")
    return tokenizer


def _name_the_class(config: Path) -> None:
    """transformers 5 writes its own name of the class, unknown to transformers 4; both know this one."""
    written = json.loads(config.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    config.write_text(json.dumps(written, indent=2), encoding="utf-8")

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tools.train_embedded.grammar import junk_prompt, prompt_of, scenes
from tools.train_embedded.sentences import TEXT_TOKENS
from tools.train_embedded.vocabulary import VOCABULARY_SIZE, build_tokenizer

TOKENIZER = build_tokenizer()


def test_special_tokens_have_wans_ids():
    assert (TOKENIZER.pad_token_id, TOKENIZER.eos_token_id, TOKENIZER.unk_token_id) == (0, 1, 2)


def test_the_vocabulary_fits_its_embedding():
    assert len(TOKENIZER) <= VOCABULARY_SIZE <= 2000


def test_auto_tokenizer_loads_the_folder(tmp_path: Path):
    build_tokenizer(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "A red Ball, moving left; 色调"
    assert loaded(text).input_ids == TOKENIZER(text).input_ids
    padded = loaded(["red", "a red ball"], padding="max_length", max_length=512, return_tensors="pt")
    assert padded.input_ids.shape == (2, 512)
    assert padded.attention_mask.sum(1).tolist() == [2, 4]


def test_every_word_of_the_grammar_is_one_token_and_no_prompt_is_too_long():
    rng = np.random.default_rng(0)
    for scene in scenes():
        text = prompt_of(scene, rng)
        ids = TOKENIZER(text).input_ids
        assert len(ids) == len(text.split()) + text.count(",") + text.count(".") + 1
        assert len(ids) < TEXT_TOKENS
        assert len(TOKENIZER(junk_prompt(rng)).input_ids) < TEXT_TOKENS


def test_case_does_not_matter():
    assert TOKENIZER("A RED Ball").input_ids == TOKENIZER("a red ball").input_ids


@pytest.mark.parametrize("text", ["", "ball", "a red ball, moving left.", "zoé 色调艳丽 naïve 😀", "под 123"])
def test_text_survives_the_round_trip(text: str):
    assert TOKENIZER.decode(TOKENIZER(text).input_ids, skip_special_tokens=True) == text


@given(
    st.text(max_size=40).filter(lambda text: not any(name in text for name in TOKENIZER.all_special_tokens))
)
@example("< unk >")
def test_no_text_is_unknown(text: str):
    ids = TOKENIZER(text).input_ids
    assert ids[-1] == 1
    assert 2 not in ids

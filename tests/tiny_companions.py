"""Tiny random models of transformers, as a user might choose them to help with a request."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)

WORDS = (
    *("a", "red", "blue", "ball", "square", "moving", "to", "the", "right", "left"),
    *("on", "white", "background", "slowly", "softly", "lit"),
)
_PAD, _END, _UNKNOWN = "<pad>", "<end>", "<unk>"
_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


def tokenizer(folder: Path, *, template: str | None = _TEMPLATE) -> int:
    """Words are tokens. Returns how many there are."""
    vocabulary = {word: index for index, word in enumerate([_PAD, _END, _UNKNOWN, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token=_PAD, eos_token=_END, unk_token=_UNKNOWN, model_max_length=512
    )
    made.chat_template = template
    made.save_pretrained(folder)
    return len(vocabulary)


def language_model(folder: Path, *, template: str | None = _TEMPLATE) -> Path:
    """Says the same few words of WORDS to everything; which ones is up to chance."""
    size = tokenizer(folder, template=template)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=2048, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    network = LlamaForCausalLM(config)
    network.generation_config.max_new_tokens = None
    network.save_pretrained(folder, safe_serialization=True)
    return folder


def text_classifier(folder: Path, *, flags: bool, labels: tuple[str, str] = ("safe", "unsafe")) -> Path:
    """flags: whether every text is unsafe to it."""
    size = tokenizer(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        id2label=dict(enumerate(labels)), label2id={name: index for index, name in enumerate(labels)},
    )  # fmt: skip
    network = BertForSequenceClassification(config)
    _decided(network.classifier, flags)
    network.save_pretrained(folder, safe_serialization=True)
    return folder


def image_classifier(folder: Path, *, flags: bool) -> Path:
    """flags: whether every picture is unsafe to it."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=16, id2label={0: "normal", 1: "nsfw"}, label2id={"normal": 0, "nsfw": 1},
    )  # fmt: skip
    network = ViTForImageClassification(config)
    _decided(network.classifier, flags)
    network.save_pretrained(folder, safe_serialization=True)
    size = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(size))
    return folder


def _decided(classifier: torch.nn.Linear, flags: bool) -> None:
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.copy_(torch.tensor([-4.0, 4.0] if flags else [4.0, -4.0]))

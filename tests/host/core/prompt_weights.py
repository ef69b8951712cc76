"""Run by test_prompt_weights.py in ComfyUI's own interpreter: its token weights beside ours.

Both read the same tiny UMT5 and the same SentencePiece model. The last line that it prints holds the answers,
as JSON.
"""

from __future__ import annotations

import io
import json
import random
import sys
from typing import Any

import torch
from comfy import ops, sd1_clip
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer
from comfy.text_encoders.t5 import T5
from pack.pipelines.networks.text_encoder import TextEncoder
from pack.pipelines.networks.umt5 import Umt5Encoder
from pack.pipelines.request.prompt_weights import weighted_segments
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

LENGTH = 512
CONFIG: dict[str, Any] = {
    "d_ff": 64, "d_kv": 8, "d_model": 32, "num_heads": 4, "num_layers": 3, "vocab_size": 60,
    "dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True, "model_type": "umt5",
}  # fmt: skip
PROMPTS = {
    "plain": "a red ball moves left",
    "weight 0": "a (red:0) ball",
    "weight 0 first": "(a red:0) ball",
    "weight 0.5": "a (red:0.5) ball",
    "weight 1": "a (red:1) ball (moves:1.0)",
    "weight 1.4": "a (red:1.4) ball",
    "negative": "a (red:-1) ball, (blue:-0.3) cube",
    "bare": "a (red) ((ball)) (((left)))",
    "nested": "((red:1.4) ball:0.5) and (((a (blue) cube:1.2)) slowly)",
    "escaped": r"a \(red:1.4\) (ball \(left\):1.3) \\(x",
    "unbalanced": "a (red ball) (left ) ( (over:2",
    "no number": "a (red:x) ball (:1.4) (a:b:0.7) (a: 1e1 )",
    "lines": "a red\n(ball:1.2)\n\n  moves",
    "empty": "",
    "only a weight": "(red:1.7)",
    "over 512": "a (red:1.4) ball " + "moves slowly over the (sea:0.6) " * 120,
    "over 512, plain": "a red ball " * 140,
}


def pieces() -> bytes:
    """A small SentencePiece model with the special pieces of UMT5."""
    words = ["red", "blue", "green", "ball", "cube", "moves", "left", "slowly", "over", "the", "sea", "night"]
    sentences = [" ".join(words[(7 * i + j * j) % len(words)] for j in range(9)) for i in range(200)]
    made = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=made, vocab_size=CONFIG["vocab_size"],
        model_type="unigram", pad_id=0, eos_id=1, bos_id=2, unk_id=3, hard_vocab_limit=False, minloglevel=2,
        num_threads=1,
    )  # fmt: skip
    return made.getvalue()


def cores(weights: dict[str, torch.Tensor], model: bytes) -> Any:
    """ComfyUI's way from a prompt to embeddings, with the settings of its UMT5XXlModel and tokenizer."""
    tokenizer = sd1_clip.SDTokenizer(
        model, pad_with_end=False, embedding_size=CONFIG["d_model"], tokenizer_class=SPieceTokenizer,
        has_start_token=False, pad_to_max_length=False, max_length=99999999, min_length=LENGTH, pad_token=0,
    )  # fmt: skip
    network = sd1_clip.SDClipModel(
        textmodel_json_config=dict(CONFIG), dtype=torch.float32, special_tokens={"end": 1, "pad": 0},
        model_class=T5, enable_attention_masks=True, zero_out_masked=True,
        model_options={"custom_operations": ops.disable_weight_init},
    )  # fmt: skip
    missing, unexpected = network.load_sd(weights)
    assert set(missing) <= {"encoder.embed_tokens.weight"}, missing
    assert set(unexpected) <= {"encoder.embed_tokens.weight"}, unexpected
    return lambda prompt: network.encode_token_weights(tokenizer.tokenize_with_weights(prompt))[0]


def random_prompt(seed: int) -> str:
    draw = random.Random(seed)  # noqa: S311
    return "".join(
        draw.choice(["(", ")", "\\", ":", "1.4", "a", " b", "-2", "\n", "(", ")"]) for _ in range(24)
    )


def split_by_core(prompt: str) -> list[tuple[str, float]]:
    split = sd1_clip.token_weights(sd1_clip.escape_important(prompt), 1.0)
    return [(sd1_clip.unescape_important(text), weight) for text, weight in split]


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    network = Umt5Encoder(CONFIG).eval()
    for parameter in network.parameters():  # small, so that rounding in the softmax stays small too
        torch.nn.init.normal_(parameter, std=0.1)
    model = pieces()
    spieces = SentencePieceProcessor(model_proto=model)
    ours = TextEncoder(
        network, lambda text: [*spieces.encode(text), spieces.eos_id()], LENGTH, torch.device("cpu")
    )
    core = cores(network.state_dict(), model)
    found = {}
    for name, prompt in PROMPTS.items():
        one, other = ours.encode_weighted(prompt), core(prompt)
        same = one.embeddings.shape == other.shape
        difference = float((one.embeddings - other).abs().max()) if same else None
        plain = float((one.embeddings[:, :LENGTH] - ours.encode(prompt).embeddings).abs().max())
        found[name] = {"difference": difference, "tokens": one.tokens, "from_plain": plain}
    prompts = [random_prompt(seed) for seed in range(3000)]
    split = [prompt for prompt in prompts if weighted_segments(prompt) != split_by_core(prompt)]
    answer = {"prompts": found, "size": float(other.abs().max()), "split otherwise": split[:5]}
    sys.stdout.write(f"{json.dumps(answer)}\n")


main()

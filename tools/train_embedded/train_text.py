"""The text encoder learns to read before anything is drawn: every token must tell what its sentence says.

With that, any token an expert attends to carries the whole scene, and the experts train on a frozen, cheap
encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import UMT5EncoderModel

from .checkpoint import TrainingState, randomness
from .grammar import (
    ATTRIBUTES,
    LORA_MOTIONS,
    Scene,
    held_out_scenes,
    junk_prompt,
    partial_prompt,
    prompt_of,
    random_scene,
    training_scenes,
)
from .networks import TEXT_DIM, new_text_encoder
from .schedule import Figures, Run, train_steps
from .sentences import TEXT_TOKENS, encode_prompts
from .vocabulary import build_tokenizer

__all__ = ["labelled_prompt", "train_text", "trained_text_encoder"]

_RATE = 1e-3


def train_text(run: Run, steps: int | None = None, batch: int = 64) -> bool:
    tokenizer, trained, unseen = build_tokenizer(), training_scenes(), held_out_scenes()
    encoder = new_text_encoder().to(run.device)
    torch.manual_seed(1)
    readers = nn.ModuleDict(
        {name: nn.Linear(TEXT_DIM, len(values) + 1) for name, values in ATTRIBUTES.items()}
    ).to(run.device)
    parameters = [*encoder.parameters(), *readers.parameters()]
    state = TrainingState(
        {"encoder": encoder, "readers": readers},
        [torch.optim.AdamW(parameters, _RATE, weight_decay=0.01)],
        0.99,
    )

    def loss_and_hits(stage: str, index: int, among: Sequence[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
        rng = randomness(stage, index)
        labelled = [labelled_prompt(rng, among) for _ in range(batch)]
        states = encode_prompts(encoder, tokenizer, [prompt for prompt, _ in labelled])
        real = states.abs().sum(-1) > 0
        loss, right = states.new_zeros(()), torch.ones(batch, dtype=torch.bool, device=states.device)
        for place, name in enumerate(ATTRIBUTES):
            target = torch.tensor([labels[place] for _, labels in labelled], device=states.device)
            scores = readers[name](states)
            every = target.unsqueeze(1).expand(-1, TEXT_TOKENS)
            loss = loss + functional.cross_entropy(scores[real], every[real])
            summed = (scores.log_softmax(-1) * real.unsqueeze(-1)).sum(1)
            right &= summed.argmax(-1) == target
        return loss, right

    def step(index: int) -> tuple[torch.Tensor, Figures]:
        loss, right = loss_and_hits("text", index, trained)
        return loss, {"right": right.float().mean()}

    def preview(_: int) -> Figures:
        hits = [loss_and_hits("text/unseen", number, unseen)[1].float().mean() for number in range(8)]
        return {"unseen_right": float(torch.stack(hits).mean())}

    return train_steps("text", run, steps or max(1, int(800 * min(1.0, run.scale))), state, step, preview)


def labelled_prompt(rng: np.random.Generator, among: Sequence[Scene]) -> tuple[str, list[int]]:
    """A prompt and one label per attribute; the label after the last value means "not said"."""
    scene = random_scene(rng, among)
    kind = rng.random()
    named = frozenset(ATTRIBUTES)
    if kind < 0.08:
        prompt, named = ("" if kind < 0.02 else junk_prompt(rng)), frozenset()
    elif kind < 0.35:
        prompt, named = partial_prompt(scene, rng)
    elif kind < 0.42:
        prompt, named = prompt_of(_with_lora_word(scene, rng), rng), named - {"motion"}
    else:
        prompt = prompt_of(scene, rng)
    return prompt, [
        values.index(getattr(scene, name)) if name in named else len(values)
        for name, values in ATTRIBUTES.items()
    ]


def trained_text_encoder(run: Run) -> UMT5EncoderModel:
    encoder = new_text_encoder().to(run.device)
    saved = torch.load(run.checkpoint("text"), map_location=run.device, weights_only=True)
    encoder.load_state_dict(saved["averages"]["encoder"])
    return encoder.eval().requires_grad_(False)


def _with_lora_word(scene: Scene, rng: np.random.Generator) -> Scene:
    return scene.with_motion(LORA_MOTIONS[int(rng.integers(len(LORA_MOTIONS)))])

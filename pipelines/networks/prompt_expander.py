"""Expands a short prompt into a detailed one with a local instruct language model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..device.memory import Memory, compute_dtype
from ..device.precision import Precision
from ..errors import ModelError
from ..progress import Progress
from .helper_folder import architecture_of, load_companion, weight_files

__all__ = ["INSTRUCTIONS", "expand_prompt"]

_MOST_TOKENS = 512  # as many as Wan reads
_WHAT = "prompt expander"
_SAME = (
    "Keep every person, thing, number, colour, style, camera move and written word that it names, and the "
    "meaning of the whole. Add what it leaves open, so that nothing contradicts it: "
)
_ANSWER = (
    " Answer with the new description alone, one paragraph of 60 to 100 words in the language of the "
    "original, without a heading, quotation marks or remarks."
)
_MOVING = "how things look and move, the place, the light, the framing and one camera movement."
_STILL = "how things look, the place, the light, the framing and the style. Describe one moment."


def _instruction(who: str, open_points: str) -> str:
    task = f"You write the description that {who} is made from. Rewrite the one you get."
    return f"{task} {_SAME}{open_points}{_ANSWER}"


INSTRUCTIONS: Mapping[str, str] = {
    "text-to-video": _instruction("a short video", _MOVING),
    "image-to-video": _instruction(
        "a short video, whose first frame is a picture that you cannot see,",
        "what moves and how, from small to large, and one camera movement. Do not say how things look.",
    ),
    "video-to-video": _instruction(
        "a new version of a short video that you cannot see", "how things look, the light and the style."
    ),
    "text-to-image": _instruction("a picture", _STILL),
    "image-to-image": _instruction("a new version of a picture that you cannot see", _STILL),
}
"""By the task of a request; a longer name of a task ends with one of these."""


def expand_prompt(
    folder: Path, prompt: str, task: str, precision: Precision, memory: Memory, progress: Progress
) -> str:
    """Return the prompt that the model in `folder` writes from `prompt`.

    The model is freed before this returns.

    Decoding is greedy, so the same model gives the same prompt. Raises ModelError if the folder has no
    instruct model, or if the answer is empty.
    """
    progress.begin("prompt", _MOST_TOKENS, "tokens")
    try:
        # Not as the text encoder: language models are trained in bfloat16, and some overflow in float16.
        dtype = compute_dtype(precision, memory, "transformer")
        return _expand(folder, prompt, task, dtype, memory, progress)
    finally:
        memory.release()


@torch.inference_mode()
def _expand(
    folder: Path, prompt: str, task: str, dtype: torch.dtype, memory: Memory, progress: Progress
) -> str:
    from transformers import AutoTokenizer, StoppingCriteriaList

    architecture_of(folder, _WHAT)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # as for the network
        raise ModelError(f"{_WHAT}: the tokenizer in {folder} cannot be loaded: {error}") from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"{_WHAT}: {folder} is no instruct model, its tokenizer has no chat template; give one that is, "
            "such as Qwen/Qwen2.5-1.5B-Instruct"
        )
    inputs = _question(tokenizer, _instruction_for(task), prompt)
    memory.reserve(sum(file.stat().st_size for file in weight_files(folder)), _WHAT)
    network = load_companion("AutoModelForCausalLM", folder, _WHAT, dtype).to(memory.device)
    progress.check()
    answer = network.generate(
        **{name: value.to(memory.device) for name, value in inputs.items()},
        do_sample=False,
        max_new_tokens=_MOST_TOKENS,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
        stopping_criteria=StoppingCriteriaList([_Watch(progress, inputs["input_ids"].shape[1])]),
    )
    text = tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    expanded = _said(text)
    if not expanded:
        raise ModelError(
            f"{_WHAT}: {folder} answered nothing; choose another model, or switch the expansion off"
        )
    return expanded


def _instruction_for(task: str) -> str:
    return next(text for name, text in INSTRUCTIONS.items() if task.endswith(name) or name == "text-to-video")


def _question(tokenizer: Any, instruction: str, prompt: str) -> Mapping[str, torch.Tensor]:
    turns = [{"role": "system", "content": instruction}, {"role": "user", "content": prompt}]
    try:
        return _tokens(tokenizer, turns)
    except Exception:  # templates raise errors of their own; some have no system turn, such as Gemma's
        return _tokens(tokenizer, [{"role": "user", "content": f"{instruction}\n\n{prompt}"}])


def _tokens(tokenizer: Any, turns: list[dict[str, str]]) -> Mapping[str, torch.Tensor]:
    found = tokenizer.apply_chat_template(
        turns,
        add_generation_prompt=True,
        enable_thinking=False,  # templates without reasoning ignore it
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    # Older transformers and some tokenizers add token types, which most language models refuse.
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def _said(text: str) -> str:
    """Return the answer without reasoning, surrounding quotation marks and line breaks."""
    text = re.sub(r"<think>.*?(</think>|$)", "", text, flags=re.DOTALL)
    return " ".join(text.split()).strip("\"'“” ")


class _Watch:
    """A stopping criterion that never holds. Reports every token as progress, and checks for a stop."""

    def __init__(self, progress: Progress, asked: int) -> None:
        self._progress, self._asked = progress, asked

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        self._progress.check()
        self._progress.advance(input_ids.shape[1] - self._asked)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

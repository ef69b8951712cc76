"""Runs the safety checker on inputs before a run, and on frames of the result before they are written."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np

from ..errors import RequestError
from ..loading.host_model import AnyModel
from ..networks.safety_checker import Looks, SafetyChecker
from ..progress import Progress
from ..request import MEDIA, WanRequest
from ..request.prompt_ranges import texts_of_ranges
from ..video.frame_stream import Frame
from ..video.read import read_frames
from ..video.read_image import read_image
from .media_inputs import MediaInputs
from .render import FrameCheck

__all__ = ["check_inputs", "check_prompt", "required_checker", "result_check"]

INPUT, OUTPUT = "enable_safety_checker", "enable_output_safety_checker"
_EVERY = 4  # check one frame of so many: one for each latent frame
_HOW_TO_CHOOSE_ONE = (
    "connect Wan Duet Safety Checker between the model and the runner, or give --safety-checker FOLDER; or "
    "switch it off"
)


def required_checker(request: WanRequest, model: AnyModel, inputs: MediaInputs) -> SafetyChecker | None:
    """Return the checker that the switches of `request` need, or None when they are off.

    Raises RequestError when a switch is on but no checker can do it, ModelError for a folder without a
    classifier.
    """
    images = any(MEDIA[name] in ("image", "video") for name in inputs.files)
    needed: dict[str, set[Looks]] = {INPUT: {"text", "image"} if images else {"text"}, OUTPUT: {"image"}}
    on = [switch for switch in needed if getattr(request, switch, None)]
    if not on:
        return None
    if model.safety_checker is None:
        raise RequestError.of(on[0], "on, but no safety checker is loaded", _HOW_TO_CHOOSE_ONE)
    checker = SafetyChecker(model.safety_checker)
    for switch in on:
        for missing in sorted(needed[switch] - checker.can_check):
            raise RequestError.of(
                switch,
                f"on, but {model.safety_checker} has no classifier of {missing}s",
                f"put one into its subfolder {missing} and the other beside it; or switch it off",
            )
    return checker


def check_prompt(checker: SafetyChecker | None, request: WanRequest, prompt: str) -> None:
    """Raise SafetyError when the prompt is flagged, alone or with the words of a range of frames."""
    if checker is None or not getattr(request, INPUT, None):
        return
    ranges = () if request.local is None else request.local.prompt_ranges
    for field, text in {"prompt": prompt, **texts_of_ranges(prompt, ranges)}.items():
        checker.read(text, field)


def check_inputs(
    checker: SafetyChecker | None, request: WanRequest, inputs: MediaInputs, progress: Progress
) -> None:
    """Check the input images and videos. Raises SafetyError when one is flagged."""
    if checker is None or not getattr(request, INPUT, None):
        return
    for name, file in inputs.files.items():
        if MEDIA[name] == "image":
            pixels = (read_image(file.content) * 255).round().byte().numpy()
            checker.look(np.asarray(pixels), name)
        elif MEDIA[name] == "video":
            for index, frame in enumerate(islice(read_frames(file.content), 0, None, _EVERY)):
                progress.check()
                checker.look(frame, f"{name}, frame {_EVERY * index}")


def result_check(checker: SafetyChecker | None, request: WanRequest) -> FrameCheck:
    """Return the check for `render`. It raises SafetyError before a flagged frame is written."""
    if checker is None or not getattr(request, OUTPUT, None):
        return lambda *_: None
    return _looking(checker.look)


def _looking(look: Callable[[Frame, str], None]) -> FrameCheck:
    def see(index: int, frame: Frame) -> None:
        if index % _EVERY == 0:
            look(frame, f"the result, frame {index}")

    return see

"""Which latent frames each context window of a step has: the four schedules of ComfyUI's context windows.

The schedules are those of comfy/context_windows.py at v0.33.0, with the same names. The uniform ones come
from AnimateDiff (neggles/animatediff-cli, pipelines/context.py): they begin elsewhere at each step, so that
joins move. Tests compare every schedule with ComfyUI's own functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil, log2

from ..request.window_settings import ScheduleName

__all__ = ["Window", "windows_of"]

Window = tuple[int, ...]
"""Latent frames, from 0, in the order in which the expert sees them."""


def windows_of(
    schedule: ScheduleName, frames: int, length: int, overlap: int, step: int, stride: int, closed_loop: bool
) -> tuple[Window, ...]:
    """Return the windows of one step. Together they have every frame.

    frames:      latent frames of the clip.
    length:      latent frames of a window, at least 1.
    overlap:     latent frames that neighbours share, below `length`; `batched` has none.
    step:        from 0; the uniform schedules begin at another frame in each.
    stride:      the uniform schedules also have windows of every 2nd, 4th, ... frame, so many kinds at most.
    closed_loop: `looped_uniform` joins the end to the beginning once more.
    """
    if frames <= length:
        return (tuple(range(frames)),)
    if schedule == "batched":
        starts = range(0, frames, length)
        return tuple(tuple(range(start, min(start + length, frames))) for start in starts)
    if schedule == "standard_static":
        last = frames - length
        starts = range(0, last, length - overlap)
        return tuple(tuple(range(start, start + length)) for start in (*starts, last))
    closed = schedule == "looped_uniform" and closed_loop
    rolling = _rolling(frames, length, overlap, step, stride, closed)
    return tuple(rolling) if schedule == "looped_uniform" else _straightened(rolling, frames, length)


def _rolling(
    frames: int, length: int, overlap: int, step: int, stride: int, closed: bool
) -> Iterator[Window]:
    """Yield windows that start at a frame of this step and may continue from the last frame to the first."""
    share = _bits_reversed(step)
    first = round(frames * share)
    for spacing in (1 << power for power in range(min(stride, ceil(log2(frames / length)) + 1))):
        begin, end = first + int(share * spacing), first + frames - (0 if closed else overlap)
        for start in range(begin, end, length * spacing - overlap):
            yield tuple((start + place * spacing) % frames for place in range(length))


def _straightened(rolling: Iterable[Window], frames: int, length: int) -> tuple[Window, ...]:
    """Return the windows, each once; one that continues at the first frame is moved to end at the last one.

    Where the next window does not have that first frame, another one begins there. A wide window that does
    not fit into the clip is left out, and a frame that no window has gets one: ComfyUI fails at both.
    """
    windows, made = list(rolling), list[Window]()
    for index, window in enumerate(windows):
        turn = next((place for place in range(1, length) if window[place] < window[place - 1]), None)
        if turn is not None:
            windows[index] = _moved_to_the_end(window, frames)
        made.append(windows[index])
        if turn is not None and window[turn] not in windows[(index + 1) % len(windows)]:
            made.append(tuple(range(window[turn], window[turn] + length)))
    fitting = [window for window in made if max(window) < frames]
    missing = set(range(frames)) - {frame for window in fitting for frame in window}
    starts = (min(frame, frames - length) for frame in sorted(missing))
    return tuple(dict.fromkeys((*fitting, *(tuple(range(start, start + length)) for start in starts))))


def _moved_to_the_end(window: Window, frames: int) -> Window:
    from_zero = [(frame - window[0]) % frames for frame in window]
    return tuple(frame + frames - 1 - from_zero[-1] for frame in from_zero)


def _bits_reversed(number: int) -> float:
    """Return 0, 1/2, 1/4, 3/4, 1/8, ...: the van der Corput sequence of base 2."""
    share, half = 0.0, 0.5
    while number:
        number, bit = divmod(number, 2)
        share, half = share + bit * half, half / 2
    return share

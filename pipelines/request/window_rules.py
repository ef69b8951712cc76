"""What context windows and RIFLEx do in a run on this machine, and where they do nothing or cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .local_settings import LocalSettings
from .report import Finding
from .settings_case import SettingsCase
from .timing import LATENT_STRIDE, generated_frames
from .window_settings import window_overlap

__all__ = ["WINDOW_MEANINGS", "frames_at_once", "impossible_windows", "unexpected_windows"]

WINDOW_MEANINGS: Mapping[str, str] = {
    "context_frames": "a longer clip is denoised in overlapping windows of so many frames (4n+1). Each step "
    "predicts every window and averages them, so memory follows the window. There is no step cache then. "
    "Impossible for speech.",
    "context_overlap": "in whole latent frames, of four frames each. As many as a window has are impossible.",
    "context_schedule": "the schedules of ComfyUI's context windows.",
    "context_fuse": "the fuse methods of ComfyUI's context windows.",
    "context_stride": "of the uniform schedules. Windows that do not fit into the clip are left out.",
    "context_closed_loop": "of looped_uniform.",
    "context_retain_first": "of a model that begins with an image.",
    "freenoise": "with context_frames, the noise behind the first window is the noise before it, shuffled.",
    "riflex": "the frequency k of RIFLEx, 0.9 * 2 pi / L radians per latent frame. Impossible for speech.",
    "riflex_frames": "the test length L of RIFLEx.",
}
_LOSSY = "lossy by choice"
_HOST = {
    True: "this model is one of ComfyUI, which has windows of its own; patch the MODEL with Wan Context "
    "Windows before Wan Duet Model from ComfyUI, and leave this out",
    False: "this model is one of ComfyUI, whose networks we do not change; leave it out",
}


def frames_at_once(local: LocalSettings | None, frames: int) -> int:
    """Return how many frames of a clip an expert sees in one forward."""
    window = None if local is None else local.context_frames
    return frames if window is None else min(frames, (window - 1) // LATENT_STRIDE * LATENT_STRIDE + 1)


def impossible_windows(case: SettingsCase) -> Iterator[Finding]:
    """Yield a refusal per setting that this run cannot have."""
    asked = [name for name in case.local.asked() if name in WINDOW_MEANINGS]
    if not case.own_engine:
        yield from (case.finding(name, "impossible", _HOST["riflex" not in name]) for name in asked)
    elif case.task == "speech-to-video":
        reason = "a speech model makes its clips one after another; leave it out"
        yield from (case.finding(name, "impossible", reason) for name in asked)
    elif case.local.context_frames is not None:
        window = frames_at_once(case.local, case.local.context_frames)
        overlap = window_overlap(window, case.local.context_overlap)
        if overlap // LATENT_STRIDE > (window - 1) // LATENT_STRIDE:
            reason = f"windows of {window} frames must share fewer; give {window // 2} or less"
            yield case.finding("context_overlap", "impossible", reason)


def unexpected_windows(case: SettingsCase) -> Iterator[Finding]:
    """Yield a warning per setting that changes the result, or does nothing."""
    local, clip = case.local, generated_frames(case.values["num_frames"])
    if local.riflex:
        reason = f"{_LOSSY}: RIFLEx lowers frequency {local.riflex} of the positions in time; 0 is off"
        yield case.finding("riflex", "warning", reason)
    elif local.riflex_frames is not None:
        yield case.finding("riflex_frames", "warning", "does nothing while riflex is 0")
    window = frames_at_once(local, clip)
    if local.context_frames is not None:
        for reason in _of_windows(case, window, clip):
            yield case.finding("context_frames", "warning", reason)
    for name, reason in _idle(case, acting=local.context_frames is not None and window < clip):
        if name in local.asked():
            yield case.finding(name, "warning", reason)


def _of_windows(case: SettingsCase, window: int, clip: int) -> Iterator[str]:
    """Yield what to say of windows of so many frames, in a clip of so many."""
    asked, family = case.local.context_frames, case.family
    if window == clip:
        yield f"does nothing: one window has all {clip} frames of the clip"
        return
    count = _usual_count(case.local, window, clip)
    yield f"{_LOSSY}: each step draws about {count} windows of {window} frames apart, and averages them"
    if window != asked:
        yield f"{asked} is not 4n+1, so windows of {window} frames are used"
    if family is not None and window > family.trained_frames:
        yield f"the model was trained on {family.trained_frames} frames, and a window has {window}"


def _usual_count(local: LocalSettings, window: int, clip: int) -> int:
    """Return how many windows a step has; the uniform schedules have more in some steps. Both in frames."""
    frames, length = ((each - 1) // LATENT_STRIDE + 1 for each in (clip, window))
    overlap = 0 if local.context_schedule == "batched" else window_overlap(window, local.context_overlap)
    return -(-(frames - overlap // LATENT_STRIDE) // (length - overlap // LATENT_STRIDE))


def _idle(case: SettingsCase, *, acting: bool) -> Iterator[tuple[str, str]]:
    """Yield (setting, why it does nothing) beside the others. acting: the clip has several windows."""
    schedule = case.local.context_schedule
    if not acting:
        of_windows = (name for name in WINDOW_MEANINGS if "riflex" not in name and name != "context_frames")
        yield from ((name, "does nothing without context_frames below the clip") for name in of_windows)
        return
    if schedule == "batched":
        yield "context_overlap", "does nothing with the schedule batched, whose windows do not overlap"
    if "uniform" not in schedule:
        yield "context_stride", f"does nothing with the schedule {schedule}"
    if schedule != "looped_uniform":
        yield "context_closed_loop", f"does nothing with the schedule {schedule}"
    if not case.task.endswith("image-to-video"):
        yield "context_retain_first", "does nothing without a first image"

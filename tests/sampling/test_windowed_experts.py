"""A clip is predicted window by window: the mean is right, images stay in place, forwards are short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from wan_duet.pipelines.plan.context_windows import ContextWindows
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.loop import denoise
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.sampling.solvers import Euler
from wan_duet.pipelines.sampling.windowed_experts import WindowedExperts, WindowProgress, free_noise

WINDOWS = ContextWindows(
    frames=11, length=5, overlap=2, schedule="standard_static", stride=1, closed_loop=False, fuse="pyramid",
    retain_first=False, freenoise=False,
)  # fmt: skip
SCHEDULE = Schedule((1.0, 0.75, 0.5, 0.0), (1000.0, 750.0, 500.0), ("high", "low", "low"))
TEXT = Condition(torch.zeros(1, 1, 1))
LATENTS = torch.randn(1, 16, 11, 2, 2, generator=torch.Generator().manual_seed(0))
Seen = tuple[Tensor, Condition]


@dataclass
class Engines:
    """Both experts. velocity: of the latents of a forward. seen: the arguments of every forward."""

    velocity: Callable[[Tensor], Tensor] = lambda latents: latents * 2
    seen: list[Seen] = field(default_factory=list)

    def use(self, expert: str) -> Engines:
        del expert
        return self

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        del timestep
        self.seen.append((latents, condition))
        return self.velocity(latents)


@dataclass
class Told:
    """Keeps what a run reports. stop_at: number of looks at which it is stopped."""

    stop_at: int = 10**9
    began: list[Any] = field(default_factory=list)
    done: list[tuple[int, bool]] = field(default_factory=list)
    looks: int = 0

    def begin(self, *stage: Any) -> None:
        self.began.append(stage)

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        self.done.append((done, preview is not None))

    def check(self) -> None:
        self.looks += 1
        if self.looks == self.stop_at:
            raise KeyboardInterrupt


def predicted(engines: Engines, condition: Condition = TEXT, **changed: Any) -> Tensor:
    windows = replace(WINDOWS, **changed)
    experts = WindowedExperts(engines, SCHEDULE, windows, WindowProgress(Told(), 1))
    return experts.use("high").predict(LATENTS, 1000.0, condition)


@pytest.mark.parametrize("fuse", ["pyramid", "relative", "flat", "overlap-linear"])
@pytest.mark.parametrize("schedule", ["standard_uniform", "standard_static", "looped_uniform", "batched"])
def test_windows_that_agree_are_the_whole_clip(schedule: str, fuse: str) -> None:
    velocity = predicted(Engines(), schedule=schedule, fuse=fuse)
    assert torch.allclose(velocity, LATENTS * 2, atol=1e-6)


def test_windows_that_differ_are_averaged_by_their_weights() -> None:
    numbers = iter((1.0, 2.0, 4.0))  # one for each window: frames 0-4, 3-7 and 6-10
    velocity = predicted(Engines(lambda latents: torch.full_like(latents, next(numbers))))
    by_frame = velocity[0, 0, :, 0, 0]
    assert by_frame[:3].tolist() == [1, 1, 1]
    assert by_frame[3].item() == pytest.approx((2 * 1 + 1 * 2) / 3)  # pyramid 1 2 3 2 1
    assert by_frame[4].item() == pytest.approx((1 * 1 + 2 * 2) / 3)
    assert by_frame[8:].tolist() == [4, 4, 4]


def test_a_later_window_sees_the_frame_before_it_and_no_forward_sees_more() -> None:
    engines = Engines()
    predicted(engines)
    assert [latents.shape[2] for latents, _ in engines.seen] == [5, 6, 6]
    assert torch.equal(engines.seen[1][0], LATENTS[:, :, 2:8])


def test_each_window_sees_its_part_of_the_images() -> None:
    channels = torch.arange(11.0).view(1, 1, 11, 1, 1).expand(1, 20, 11, 2, 2)
    for retained, begins in ((False, [0, 2, 5]), (True, [0, 0, 0])):
        engines = Engines()
        predicted(engines, replace(TEXT, channels=channels), retain_first=retained)
        seen = [condition.channels for _, condition in engines.seen]
        assert [float(part[0, 0, 0, 0, 0]) for part in seen if part is not None] == begins
        assert [float(part[0, 0, 1, 0, 0]) for part in seen if part is not None] == [1, 3, 6]
        assert torch.equal(engines.seen[1][0], LATENTS[:, :, 2:8])  # the noise stays in its place


def test_each_frame_of_a_window_sees_its_own_text() -> None:
    engines, seen = Engines(), tuple((frame, frame + 1) for frame in range(11))
    for retained in (False, True):
        predicted(engines, replace(TEXT, seen=seen), retain_first=retained)
    assert [condition.seen for _, condition in engines.seen] == 2 * [seen[:5], seen[2:8], seen[5:11]]


def test_the_first_frame_of_the_5b_is_clean_where_it_is_seen() -> None:
    clean = torch.tensor([True] + [False] * 10)
    for retained, expected in ((False, [True, False, False]), (True, [True, True, True])):
        engines = Engines()
        predicted(engines, replace(TEXT, clean_frames=clean), retain_first=retained)
        seen = [condition.clean_frames for _, condition in engines.seen]
        assert [bool(part[0]) for part in seen if part is not None] == expected
        assert torch.equal(engines.seen[2][0][:, :, 0], LATENTS[:, :, 0 if retained else 5])
        assert not any(part[1:].any() for part in seen if part is not None)


def run(told: Told, guidance: float = 3.0) -> Tensor:
    scales = {"high": guidance, "low": 1.0}
    sampling = Sampling(SCHEDULE, "euler", scales, windows=WINDOWS)
    progress = WindowProgress(told, len(sampling.forwards))
    experts = WindowedExperts(Engines(), SCHEDULE, WINDOWS, progress)
    return denoise(LATENTS, SCHEDULE, Euler(SCHEDULE.sigmas), experts, Prompts(TEXT, TEXT), scales, progress)


def test_progress_counts_the_windows_of_both_prompts_and_shows_each_step() -> None:
    told = Told()
    run(told)
    assert told.began == [("sampling", 12, "windows")]  # 3 windows: 2 prompts in one step, 1 in two
    assert [done for done, preview in told.done if not preview] == list(range(1, 13))
    assert [done for done, preview in told.done if preview] == [6, 9, 12]


def test_a_run_is_stopped_between_two_windows() -> None:
    told = Told(stop_at=4)  # a look at the step, and one before each window
    with pytest.raises(KeyboardInterrupt):
        run(told)
    assert [done for done, _ in told.done] == [1, 2]


def test_uniform_windows_count_their_steps_from_the_first_of_a_stage() -> None:
    windows, engines = replace(WINDOWS, schedule="standard_uniform"), Engines()
    experts = WindowedExperts(engines, SCHEDULE, windows, WindowProgress(Told(), 1))
    for name, timestep in zip(SCHEDULE.experts, SCHEDULE.timesteps, strict=True):
        experts.use(name).predict(LATENTS, timestep, TEXT)
    drawn = [window for step in (0, 0, 1) for window in windows.at(step)]
    assert windows.at(0) != windows.at(1)
    assert len(drawn) == len(engines.seen)
    for window, (seen, _) in zip(drawn, engines.seen, strict=True):
        assert torch.equal(seen[:, :, -len(window) :], LATENTS[:, :, list(window)])


def test_free_noise_repeats_the_noise_before_in_another_order_and_changes_no_first_window() -> None:
    shuffled = free_noise(LATENTS, WINDOWS, 7)
    assert torch.equal(shuffled[:, :, :5], LATENTS[:, :, :5])
    for start, count in ((5, 3), (8, 3)):
        earlier = {tuple(shuffled[0, :, frame].flatten().tolist()) for frame in range(start - 5, start - 2)}
        frames = [tuple(shuffled[0, :, start + index].flatten().tolist()) for index in range(count)]
        assert set(frames) == earlier
    assert torch.equal(free_noise(LATENTS, WINDOWS, 7), shuffled)
    assert not torch.equal(free_noise(LATENTS, WINDOWS, 8), shuffled)

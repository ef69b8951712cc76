"""The guidance pair: one half of the ranks computes the positive prompt, the other the negative one."""

from __future__ import annotations

from torch import Tensor

from ..sampling.engine import Condition, Engine
from ..sampling.guidance import BothVelocities
from .rank_group import RankGroup

__all__ = ["guidance_pair"]


def guidance_pair(group: RankGroup) -> BothVelocities:
    """Return what predicts for both prompts on the two ranks of `group`: rank 0 has the positive one.

    Both ranks get both velocities, with the same bits, so they stay in step without a word about it.
    """

    def both(
        expert: Engine, latents: Tensor, timestep: float, positive: Condition, negative: Condition
    ) -> tuple[Tensor, Tensor]:
        mine = expert.predict(latents, timestep, negative if group.rank else positive)
        first, second = group.exchange([mine, mine], [mine.shape, mine.shape])
        return first, second

    return both

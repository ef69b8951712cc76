"""Layers of torch that do not initialise their parameters, which come from files.

On the meta device the first random number makes torch import its compiler, which takes as long as importing
torch.
"""

from __future__ import annotations

from torch import nn

__all__ = ["Conv2d", "Conv3d", "Embedding", "Linear"]


class Linear(nn.Linear):
    def reset_parameters(self) -> None: ...


class Conv2d(nn.Conv2d):
    def reset_parameters(self) -> None: ...


class Conv3d(nn.Conv3d):
    def reset_parameters(self) -> None: ...


class Embedding(nn.Embedding):
    def reset_parameters(self) -> None: ...

"""The audio path of the speech model: audio features become tokens, and video frames attend to them.

Follows wan/modules/s2v/audio_utils.py and auxi_blocks.py of Wan-Video/Wan2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .block_layers import AttentionLayers
from .s2v_attention import attended_by

__all__ = ["AudioEncoder", "AudioInjector"]


class AudioEncoder(nn.Module):
    """Encodes layers of wav2vec2, one vector per video frame, into tokens for every latent frame.

    The layers are averaged with learned weights. Then three causal convolutions halve the rate twice: the
    first latent frame is computed from one video frame, each later one from four more. All in float32.
    """

    def __init__(self, audio_dim: int, states: int, width: int, tokens: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((1, states, 1, 1), 0.01))
        self.encoder = _TokenEncoder(audio_dim, width, tokens)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Encode features (1, states, audio_dim, frames).

        Returns one vector per latent frame (1, T, width), and the tokens that the video attends to (1, T,
        tokens + 1, width), with T = (frames - 1) // 4 + 1.
        """
        weights = functional.silu(self.weights)
        mean = (features.to(weights.dtype) * weights / weights.sum(1, keepdim=True)).sum(1)
        whole, tokens = self.encoder(mean)
        return whole, tokens


class _TokenEncoder(nn.Module):
    """Two paths that share their last two convolutions: one makes `tokens` for each frame, one a summary."""

    def __init__(self, audio_dim: int, width: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.conv1_local = _CausalConv(audio_dim, width // 4 * tokens, stride=1)
        self.conv1_global = _CausalConv(audio_dim, width // 4, stride=1)
        self.conv2 = _CausalConv(width // 4, width // 2, stride=2)
        self.conv3 = _CausalConv(width // 2, width, stride=2)
        self.final_linear = nn.Linear(width, width)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Convert (1, audio_dim, frames) to (1, T, width) and (1, T, tokens + 1, width)."""
        local = self.conv1_local(features).unflatten(1, (self.tokens, -1))[0]  # one row per token
        tokens = self._rest(local).transpose(0, 1)[None]
        padding = self.padding_tokens.expand(1, tokens.shape[1], 1, -1)
        whole = self.final_linear(self._rest(self.conv1_global(features)))
        return whole, torch.cat([tokens, padding], dim=2)

    def _rest(self, hidden: Tensor) -> Tensor:
        """Convert (rows, width / 4, frames) to (rows, T, width)."""
        hidden = self.conv2(_normed(hidden))
        return _normed(self.conv3(_normed(hidden))).transpose(1, 2)


class _CausalConv(nn.Module):
    """A convolution over a frame and the two before it. The first frame is repeated in front of itself."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, stride=stride)

    def forward(self, hidden: Tensor) -> Tensor:
        convolved: Tensor = self.conv(functional.pad(hidden, (2, 0), mode="replicate"))
        return convolved


def _normed(hidden: Tensor) -> Tensor:
    """Apply layer norm over the channels of (rows, channels, frames), and SiLU."""
    channels = hidden.transpose(1, 2)
    normed = functional.layer_norm(channels, channels.shape[-1:], eps=1e-6)
    return functional.silu(normed).transpose(1, 2)


class AudioInjector(nn.Module):
    """The last step of some blocks: each latent frame of the video attends to its own audio tokens.

    Before that the frame is normalised, with shift and scale computed from the vector of its audio (AdaIN).
    """

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.attn = AttentionLayers(width, heads, eps)
        self.adain = nn.Linear(width, 2 * width)

    def forward(self, video: Tensor, whole: Tensor, tokens: Tensor) -> Tensor:
        """Return the change of `video` (1, T x tokens of a frame, width).

        whole, tokens: from `AudioEncoder`.
        """
        frames = whole.shape[1]
        apart = video[0].reshape(frames, -1, video.shape[2])
        shift, scale = self.adain(functional.silu(whole[0]))[:, None].chunk(2, dim=2)
        normed = functional.layer_norm(apart.float(), apart.shape[-1:], eps=1e-5)
        heard = attended_by(self.attn, (normed * (1 + scale) + shift).type_as(video), tokens[0])
        return heard.flatten(0, 1)[None]

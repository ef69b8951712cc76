"""Fit the colours of live previews to the embedded VAE: ComfyUI's own are those of Wan's.

    python -m tools.train_embedded.preview_colours

Writes preview_colours.json beside the VAE, and prints how much of the colour the fit explains. Run it again
when the VAE was trained again.
"""

from __future__ import annotations

import json

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from wan_duet.pipelines.embedded.toy_model import PREVIEW_COLOURS

from .fold import normalise
from .one_pass import encode_clip
from .pool import scene_clips
from .preview import frames_to_tensor

_CLIPS = 200
_SQUARE = [(64, 64)]


@torch.inference_mode()
def fit() -> tuple[torch.Tensor, float]:
    """Return the factors (channels + 1, 3), of which the last row is the bias, and the explained variance.

    A preview shows the first latent frame, which stands for the first frame alone. Its pixels are colours in
    -1..1, averaged over the 8 x 8 that a latent covers.
    """
    vae = AutoencoderKLWan.from_pretrained(PREVIEW_COLOURS.parent)
    clips = scene_clips("preview", _CLIPS, sizes=_SQUARE)
    pixels = frames_to_tensor(np.stack([clip.frames()[:1] for clip in clips]), torch.device("cpu"))
    latents = normalise(encode_clip(vae, pixels).chunk(2, dim=1)[0], vae)
    seen = torch.nn.functional.avg_pool2d(pixels[:, :, 0], 8).movedim(1, -1).reshape(-1, 3)
    channels = latents[:, :, 0].movedim(1, -1).reshape(len(seen), -1)
    known = torch.cat([channels, torch.ones(len(seen), 1)], dim=1)
    factors = torch.linalg.lstsq(known, seen).solution
    unexplained = (seen - known @ factors).var() / seen.var()
    return factors, 1 - float(unexplained)


def main() -> None:
    factors, explained = fit()
    rounded = [[round(value, 4) for value in row] for row in factors.tolist()]
    PREVIEW_COLOURS.write_text(
        json.dumps({"factors": rounded[:-1], "bias": rounded[-1]}) + "\n", encoding="utf-8"
    )
    print(f"explains {explained:.1%} of the colours: {PREVIEW_COLOURS}")


if __name__ == "__main__":
    main()

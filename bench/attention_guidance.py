"""What NAG does on the embedded model without guidance, and what it costs.

    nice python bench/attention_guidance.py [--seeds 48] [--steps 6] [-o OUT.json]

Prompts name no colour. A first drawing without NAG gives each seed its colour. Then NAG draws every seed
again, once with an empty negative prompt and once with that colour, and the detector of the tests counts how
often the colour is there. The difference of the two shares has a 95 % interval by the bootstrap over seeds.

The cost is the processor time of a forward with NAG over one without, in alternating pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from pairs import ratio_of

from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.networks.transformer import replace_transformer_forward
from wan_duet.pipelines.request.local_settings import NAG_TAU
from wan_duet.pipelines.sampling.nag import AttentionGuidance

sys.path.append(str(Path(__file__).parents[1]))  # tools.train_embedded
sys.path.append(str(Path(__file__).parents[1] / "tests"))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "embedded"))
from drawing import draw

from tools.train_embedded.grammar import SHAPES
from wan_duet.pipelines.embedded.detector import look_at

SETTINGS = {"nag_scale": 11.0, "nag_tau": NAG_TAU, "nag_alpha": 0.5}
_RESAMPLES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=48)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--scale", type=float, default=SETTINGS["nag_scale"])
    parser.add_argument("--alpha", type=float, default=SETTINGS["nag_alpha"])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)

    settings = {**SETTINGS, "nag_scale": options.scale, "nag_alpha": options.alpha}
    began = time.perf_counter()
    result: dict[str, Any] = {"date": date.today().isoformat(), "torch": torch.__version__}
    result["settings"] = {**settings, "steps": options.steps, "guidance_scale": 1.0}
    result["named colour"] = named_colour(load_model("toy"), options.seeds, options.steps, settings)
    print(json.dumps(result, indent=2), f"{time.perf_counter() - began:.0f} s", flush=True)
    result["cost"] = cost(options.pairs, settings)
    print(json.dumps(result["cost"], indent=2), f"{time.perf_counter() - began:.0f} s", flush=True)
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def named_colour(model: WanModel, seeds: int, steps: int, settings: dict[str, float]) -> dict[str, Any]:
    """Count how often the colour of a seed is drawn when NAG avoids it, and when it avoids nothing."""
    prompts = [f"a {SHAPES[seed % len(SHAPES)]} moving right on a white background" for seed in range(seeds)]

    def colours(avoided: Sequence[str], **fields: Any) -> list[str | None]:
        clips = draw(
            model, prompts, negative_prompts=avoided, guided=False, num_inference_steps=steps, **fields
        )
        return [look_at(clip).colour for clip in clips]

    first = colours([""] * seeds)
    names = [colour or "" for colour in first]
    empty = colours([""] * seeds, local=settings)
    avoided = colours(names, local=settings)
    kept = np.array([colour == name for colour, name in zip(empty, names, strict=True) if name], float)
    still = np.array([colour == name for colour, name in zip(avoided, names, strict=True) if name], float)
    seen = sum(colour is not None for colour in empty), sum(colour is not None for colour in avoided)
    return {
        "seeds": seeds,
        "with a colour without NAG": len(kept),
        "drawn with an empty negative prompt": int(kept.sum()),
        "drawn with it as the negative prompt": int(still.sum()),
        "difference of the shares": round(float((kept - still).mean()), 3),
        "95 % interval": interval(kept - still),
        "with any colour, empty negative prompt": seen[0],
        "with any colour, it as the negative prompt": seen[1],
    }


def interval(differences: np.ndarray) -> list[float]:
    """Return the 2.5th and 97.5th percentile of the mean, by the bootstrap over seeds."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(differences), (_RESAMPLES, len(differences)))
    return [round(float(end), 3) for end in np.percentile(differences[picks].mean(1), [2.5, 97.5])]


def cost(pairs: int, settings: dict[str, float]) -> dict[str, Any]:
    """Time a forward of a small network with the proportions of A14B: 512 text tokens, 2112 latent ones."""
    torch.manual_seed(0)
    network = WanTransformer3DModel(
        num_attention_heads=4, attention_head_dim=128, ffn_dim=1382, num_layers=2, text_dim=512
    )
    network = network.eval().requires_grad_(False)
    replace_transformer_forward(network, FloatChoices())
    latents, time_, text = torch.randn(1, 16, 8, 24, 44), torch.tensor([500.0]), torch.randn(2, 1, 512, 512)
    guidance = AttentionGuidance(text[1], *settings.values())

    def forward(**options: Any) -> None:
        with torch.inference_mode():
            network(latents, time_, text[0], return_dict=False, **options)

    ratio = ratio_of(lambda: forward(guidance=guidance), forward, pairs)
    return {
        "network": "2 blocks of width 512, float32, one CPU thread, 2112 tokens and 512 of text",
        "pairs": pairs,
        "processor time with NAG / without, median": round(ratio.median, 3),
        "quartiles": [round(ratio.low, 3), round(ratio.high, 3)],
    }


if __name__ == "__main__":
    main()

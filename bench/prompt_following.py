"""How well the embedded model draws what its prompt says, judged by the detector of the tests.

    python bench/prompt_following.py [--prompts 96] [--aspect-ratio 1:1] [--guidance 3.5] [-o OUT.json]

Prompts are of scenes that no training saw, at the default settings of a request. Prints the share of videos
in which each property is right.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from wan_duet.pipelines.memory import DeviceMemory
from wan_duet.pipelines.models.wan_model import load_model
from wan_duet.pipelines.plan import make_plan
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import t2v_request
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.noise import draw_noise
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.stages import decode, encode_prompts, sample
from wan_duet.pipelines.toy.grammar import held_out_scenes, prompt_of, random_scene

sys.path.append(str(Path(__file__).parents[1] / "tests" / "toy"))
from detector import look_at

PROPERTIES = ("colour", "background", "motion", "shape")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--aspect-ratio", default="1:1")
    parser.add_argument(
        "--guidance", type=float, default=3.5, help="of the high expert; the low one gets 0.5 more"
    )
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()

    rng, right = np.random.default_rng(options.seed), dict.fromkeys(PROPERTIES, 0)
    began = time.perf_counter()
    for number in tqdm(range(options.prompts)):
        scene = random_scene(rng, held_out_scenes())
        frames = draw(prompt_of(scene, rng), number, options.aspect_ratio, options.guidance)
        seen = look_at(frames)
        for name in PROPERTIES:
            right[name] += getattr(seen, name) == getattr(scene, name)
    result = {
        "prompts": options.prompts,
        "aspect_ratio": options.aspect_ratio,
        "guidance": options.guidance,
        "right_percent": {name: round(100 * count / options.prompts, 1) for name, count in right.items()},
        "seconds_per_clip": round((time.perf_counter() - began) / options.prompts, 2),
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def draw(prompt: str, seed: int, aspect_ratio: str, guidance: float) -> np.ndarray:
    """The generated frames, (T, H, W, 3) uint8, before encoding."""
    model, memory = load_model("toy"), DeviceMemory("cpu")
    low = 1.0 if guidance == 1 else guidance + 0.5
    request = t2v_request(
        prompt=prompt, aspect_ratio=aspect_ratio, guidance_scale=guidance, guidance_scale_2=low
    )
    plan = make_plan(request, model.family, seed)
    positive, negative = encode_prompts(model, [prompt, ""], memory, Silent())
    prompts = Prompts(Condition(positive.embeddings), Condition(negative.embeddings))
    shape = (1, *plan.latent_shape)
    noise, empty = draw_noise(shape, seed), torch.zeros(shape)
    schedule = Schedule.of_plan(plan)
    latents = sample(model, schedule, plan.solver, empty, noise, prompts, plan.guidance, memory, Silent())
    frames = torch.stack(list(decode(model, latents, memory, Silent(), frames=plan.frames_delivered)))
    return ((frames.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


if __name__ == "__main__":
    main()

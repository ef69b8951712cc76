"""What a speaking video takes in memory on its way into a file, at most, by its number of clips.

    python bench/speech_memory.py [--clips 2 5] [--size 128 64]

Prints JSON: bytes above the start, per number of clips. Each case is a fork of its own. The networks are so
small that frames and latents, and not they, are what counts. Linux only.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from media_memory import peak_of

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.speech_clips import ClipSampling, SpeechInputs, speech_frames
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.networks.s2v_network_kind import SPEECH_EXPERT
from wan_duet.pipelines.plan.sigmas import linear_grid
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.streaming.executor import Executor, unit_sizes
from wan_duet.pipelines.streaming.residency import MemoryBudget, choose_residency
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.frames import video_frames
from wan_duet.pipelines.weights.folder import read_component

CLIP_FRAMES = 76  # of the first, 73 are shown: as many as the next one remembers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[2, 5])
    parser.add_argument("--size", type=int, nargs=2, default=[128, 64], metavar=("W", "H"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        AutoencoderKLWan(base_dim=2, z_dim=16, num_res_blocks=1).save_pretrained(folder)
        model = replace(load_model("toy-speech"), vae=read_component(Path(folder)))
        speak(model, 1, 64, 64, Path(folder))  # what is loaded once does not count
        peaks = {
            clips: peak_of(lambda n=clips: speak(model, n, *given.size, Path(folder)))
            for clips in given.clips
        }
    print(json.dumps(peaks))


def speak(model: WanModel, clips: int, width: int, height: int, folder: Path) -> None:
    """A video of that many clips, one step each, into a file."""
    recipe, memory, silent = model.experts["high"], DeviceMemory("cpu"), Silent()
    config = recipe.config
    sizes = unit_sizes({"high": recipe}, SPEECH_EXPERT.dtypes(torch.float32), memory.device)
    budget = MemoryBudget(memory.free_bytes(), 0)
    inputs = SpeechInputs(
        model=model,
        memory=memory,
        progress=silent,
        frames=clips * CLIP_FRAMES,
        clip_frames=CLIP_FRAMES,
        latent_shape=(1, 16, CLIP_FRAMES // 4, height // 8, width // 8),
        image=torch.zeros(3, height, width),
        sampling=ClipSampling(
            speaker=Executor(
                {"high": recipe},
                torch.float32,
                memory,
                silent.check,
                residency=choose_residency("auto", sizes, budget, own_memory=False),
                kind=SPEECH_EXPERT,
            ),
            sampling=Sampling(Schedule.of_grid(linear_grid(1, 3.0), None), "euler", {"high": 1.0}),
            seed=0,
            prompts=Prompts(Condition(torch.zeros(1, 512, config["text_dim"])), None),
            features=torch.zeros(1, config["audio_states"], config["audio_dim"], clips * CLIP_FRAMES),
        ),
    )
    frames = video_frames(speech_frames(inputs, []))
    clip = {"width": width, "height": height, "fps": Fraction(16), "frame_count": inputs.frames}
    encode_video(frames, folder / "clip.mp4", **clip)


if __name__ == "__main__":
    main()

"""Trains the embedded speech model: its transformer. Its wav2vec 2.0 is frozen, with random weights.

    python -m tools.train_embedded.train_speech --out DIR [--minutes M] [--resume]

It learns by flow matching, on faces whose mouth follows the sound. The random audio encoder tells the
loudness because its biases compete with the sound (speech_networks.py). VAE, text encoder and tokenizer are
those of the embedded model.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call, vmap

from wan_duet.pipelines.embedded.toy_model import TOY_SPEECH, toy_folder
from wan_duet.pipelines.networks.s2v import SpeechTransformer
from wan_duet.pipelines.networks.s2v_features import frame_features
from wan_duet.pipelines.networks.s2v_motion import MOTION_LATENTS
from wan_duet.pipelines.networks.s2v_network_kind import SPEECH_EXPERT

from .checkpoint import TrainingState, randomness, torch_randomness
from .clips import FPS
from .faces import SIDE, Face, random_face, render_face
from .flow import shifted
from .latents import encode_frames
from .muon import Muon
from .networks import TEXT_DIM
from .schedule import Figures, Run, fast_in_bfloat16, train_steps
from .sounds import mouth_openings, speech_like, write_sound
from .speech_networks import AUDIO_ENCODER, TRANSFORMER, hidden_states, new_audio_encoder, new_speaker

__all__ = ["CLIP_LATENTS", "export_speech", "main", "velocities"]

log = logging.getLogger(__name__)

CLIP_LATENTS = 5  # 20 frames
_HEARD, _STEPS, _VIDEOS, _VOICES = 24, 8000, 56, 8
_LATENTS = 13  # of a training video, beginning with the picture alone
_FRAMES = 4 * (_LATENTS - 1)  # with sound
_BATCH = 4
_GROUPS = 2  # in a step: each has one noise level, for the network takes one
_SHIFT = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, latents and the export")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop and save after this time")
    parser.add_argument("--by-clock", action="store_true", help="train until --minutes are over")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    handlers = [logging.StreamHandler(), logging.FileHandler(options.out / "train.log")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    run = Run(
        options.out,
        torch.device("cpu"),
        time.monotonic() + 60 * options.minutes,
        resume=options.resume,
        by_clock=options.by_clock,
    )
    encoder = new_audio_encoder().half().float().eval()  # as it is stored
    done = _train_speaker(run, encoder, _opening(encoder))
    export_speech(run, options.out / "export")
    return 0 if done else 3


def _sound(name: str, index: int, voice: int = 0) -> np.ndarray:
    """A sound as long as a training video, mean 0 and variance 1, float32."""
    sound = speech_like(_FRAMES / FPS, randomness(name, index), randomness(f"{name}-{voice}", index))
    return ((sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)).astype(np.float32)


def _opening(encoder: nn.Module) -> Tensor:
    """Return the direction (D,) of the encoder's vectors in which a mouth opens, by ridge regression."""
    heard, wanted = [], []
    for index in range(_HEARD):
        sound = _sound("hearing", index)
        heard.append(_heard(encoder, sound).mean(0))
        wanted.append(torch.from_numpy(mouth_openings(sound, FPS, _FRAMES)))
    vectors, openings = torch.cat(heard, 1).T.double(), torch.cat(wanted).double()
    centred = vectors - vectors.mean(0)
    ridge = 1e-4 * torch.eye(centred.shape[1]) * len(centred)
    direction = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (openings - openings.mean()))
    told = torch.corrcoef(torch.stack([centred @ direction, openings]))[0, 1]
    log.info("hearing: what the frozen encoder tells linearly has correlation %.3f with openings", told)
    return (direction / (centred @ direction).std()).float()


@torch.no_grad()
def _heard(encoder: nn.Module, sound: np.ndarray) -> Tensor:
    """Return (states, D, _FRAMES)."""
    return frame_features(hidden_states(encoder, torch.from_numpy(sound)[None])[0], FPS, _FRAMES)[0]


def _dataset(run: Run, encoder: nn.Module) -> tuple[Tensor, Tensor]:
    """Return latents (videos, 16, _LATENTS, 8, 8) and features (videos, voices, states, D, _FRAMES)."""
    file = run.out / "latents" / "speech.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    known: list[tuple[Tensor, Tensor]] = torch.load(file, weights_only=True) if file.exists() else []
    vae = AutoencoderKLWan.from_pretrained(toy_folder() / "vae").float()
    for index in range(len(known), _VIDEOS):
        rng = randomness("faces", index)
        sounds = [_sound("spoken", index, voice) for voice in range(_VOICES)]
        openings = mouth_openings(sounds[0], FPS, _FRAMES)
        picture = rng.uniform(0, 1) if rng.random() < 0.5 else 0.0
        frames = render_face(random_face(rng), np.concatenate([[np.float32(picture)], openings]))
        heard = torch.stack([_heard(encoder, sound) for sound in sounds])
        known.append((encode_frames(vae, frames[None], run)[0].half(), heard.half()))
        if index % 4 == 3:
            torch.save(known, file)
            log.info("videos encoded: %d of %d", index + 1, _VIDEOS)
    return torch.stack([pair[0] for pair in known]), torch.stack([pair[1] for pair in known])


def _train_speaker(run: Run, encoder: nn.Module, opening: Tensor) -> bool:
    latents, features = _dataset(run, encoder)
    network = new_speaker(opening)
    matrices = [
        p for n, p in network.named_parameters() if p.ndim >= 2 and "blocks" in n and "scale" not in n
    ]
    chosen = {id(parameter) for parameter in matrices}
    others = [p for p in network.parameters() if id(p) not in chosen]
    state = TrainingState(
        {"speech": network}, [Muon(matrices, lr=0.02), torch.optim.AdamW(others, 4e-3, weight_decay=0.0)]
    )
    state.decay = 0.995
    moving = latents[:, :, 1:].float().std(2).mean(1)  # (videos, 8, 8): largest where the mouth is
    weights = 1 + 4 * moving / moving.amax((1, 2), keepdim=True)
    dtype = torch.bfloat16 if fast_in_bfloat16(run.device) else torch.float32

    def step(index: int) -> tuple[Tensor, Figures]:
        rng, noise_of = randomness("speech", index), torch_randomness("speech", index, torch.device("cpu"))
        loss = torch.zeros(())
        for group in range(_GROUPS):
            later = group == index % 2  # every second group continues a clip
            rows = rng.integers(len(latents), size=_BATCH)
            starts = rng.integers(4 if later else 1, _LATENTS - CLIP_LATENTS + 1, size=_BATCH)
            if not later:  # a first clip begins at the picture
                starts[: _BATCH // 2] = 1
            cut = starts[:, None] + np.arange(CLIP_LATENTS)
            clean = latents[rows[:, None], :, cut].transpose(1, 2).float()
            said = features[:, rng.integers(_VOICES)]
            sounding = 4 * (starts[:, None] - 1) + np.arange(4 * CLIP_LATENTS)
            heard = said[rows[:, None], :, :, sounding].movedim(1, -1).float()
            heard = heard * torch.from_numpy(rng.random(_BATCH) > 0.08).view(-1, 1, 1, 1)  # for guidance
            sigma = float(shifted(np.array((group + rng.random()) / _GROUPS), _SHIFT))
            noise = torch.randn(clean.shape, generator=noise_of)
            motion = None
            if later:  # the three latents before the clip, and earlier ones at random
                far = np.sort(rng.integers(0, starts[:, None], (_BATCH, MOTION_LATENTS - 3)), axis=1)
                before = np.concatenate([far, starts[:, None] - [3, 2, 1]], axis=1)
                motion = latents[rows[:, None], :, before].transpose(1, 2)
            with run.short_attention():
                found = velocities(
                    network,
                    (1 - sigma) * clean + sigma * noise,
                    1000 * sigma,
                    heard,
                    latents[rows, :, :1],
                    motion,
                    dtype,
                )
            off = (found.float() - (noise - clean)).square() * weights[rows][:, None, None]
            loss = loss + off.mean() / _GROUPS
        return loss, {}

    return train_steps("speech", run, _STEPS, state, step)


def velocities(
    network: SpeechTransformer,
    noisy: Tensor,
    timestep: float,
    heard: Tensor,
    picture: Tensor,
    motion: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Ask the network, which takes one clip, for a batch: each tensor has one more dimension."""
    rule = SPEECH_EXPERT.dtypes(dtype)
    values = {name: value.to(rule(name)) for name, value in network.named_parameters()}
    # No prompt: 512 tokens of zeros, as a model reads after the end of every prompt, attend as one does.
    text = torch.zeros(1, 1, TEXT_DIM, dtype=dtype)

    def one(noisy: Tensor, heard: Tensor, picture: Tensor, motion: Tensor | None) -> Tensor:
        before = None if motion is None else motion[None].to(dtype)
        given = (noisy[None].to(dtype), timestep, text, heard[None], picture[None].to(dtype), before, None)
        made: Tensor = functional_call(network, values, given)[0]
        return made

    return vmap(one, in_dims=(0, 0, 0, None if motion is None else 0))(noisy, heard, picture, motion)


def export_speech(run: Run, folder: Path) -> None:
    """Write the averaged weights in float16, in the layout of the embedded model, and a face and a sound."""
    weights = torch.load(run.checkpoint("speech"), weights_only=True)["averages"]["speech"]
    encoder = new_audio_encoder().state_dict()
    index = {"_class_name": "WanSpeechPipeline", "wan_duet": {"family": TOY_SPEECH}}
    for part, file, tensors, config in (
        ("transformer", "diffusion_pytorch_model.safetensors", weights, TRANSFORMER),
        ("audio_encoder", "model.safetensors", encoder, AUDIO_ENCODER),
    ):
        (folder / part).mkdir(parents=True, exist_ok=True)
        save_file({name: value.half().contiguous() for name, value in tensors.items()}, folder / part / file)
        _write(folder / part / "config.json", config)
    _write(folder / "model_index.json", index)
    rng = randomness("example", 0)
    face = Face("orange", "navy", SIDE / 2, SIDE / 2, 24.0)
    Image.fromarray(render_face(face, np.zeros(1, np.float32))[0]).save(folder / "face.png")
    write_sound(folder / "speech.wav", speech_like(2.5, rng))


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())

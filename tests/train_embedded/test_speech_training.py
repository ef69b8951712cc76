"""The training of the embedded speech model asks the network as a run does, and exports what a run loads."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tools.train_embedded.checkpoint import TrainingState
from tools.train_embedded.schedule import Run
from tools.train_embedded.speech_networks import AUDIO_ENCODER, TRANSFORMER, new_speaker
from tools.train_embedded.train_speech import CLIP_LATENTS, export_speech, velocities
from wan_duet.pipelines.embedded.toy_model import toy_folder
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.networks.s2v import SpeechTransformer
from wan_duet.pipelines.networks.s2v_motion import MOTION_LATENTS


@pytest.fixture(scope="module")
def network() -> SpeechTransformer:
    made = new_speaker(torch.randn(AUDIO_ENCODER["hidden_size"], generator=torch.Generator().manual_seed(3)))
    torch.nn.init.normal_(made.proj_out.weight, std=0.1)
    return made


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("later", [False, True])
@torch.no_grad()
def test_a_batch_is_what_its_clips_are_alone(network: SpeechTransformer, later: bool) -> None:
    noisy, picture = drawn(1, 2, 16, CLIP_LATENTS, 8, 8), drawn(2, 2, 16, 1, 8, 8)
    heard = drawn(3, 2, TRANSFORMER["audio_states"], TRANSFORMER["audio_dim"], 4 * CLIP_LATENTS)
    motion = drawn(4, 2, 16, MOTION_LATENTS, 8, 8) if later else None
    together = velocities(network, noisy, 700.0, heard, picture, motion, torch.float32)
    text = torch.zeros(1, 512, TRANSFORMER["text_dim"])  # a run has 512 tokens, and training one
    for row in range(2):
        before = None if motion is None else motion[row, None]
        given = (noisy[row, None], 700.0, text, heard[row, None], picture[row, None], before, None)
        torch.testing.assert_close(together[row], network(*given)[0], atol=1e-4, rtol=1e-3)


def test_an_export_is_loaded(network: SpeechTransformer, tmp_path: Path) -> None:
    run = Run(tmp_path, torch.device("cpu"), time.monotonic())
    TrainingState({"speech": network}, []).save(run.checkpoint("speech"))
    export_speech(run, tmp_path / "export")
    beside = toy_folder()
    model = load_model(
        tmp_path / "export",
        vae=beside / "vae",
        text_encoder=beside / "text_encoder",
    )
    assert (model.family.name, len(model.experts["high"].tensors)) == (
        "toy-speech",
        len(network.state_dict()),
    )
    assert model.audio_encoder is not None

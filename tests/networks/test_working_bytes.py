"""Whether the estimates of what work takes beside the weights cover what is counted, at full size.

Counted on meta tensors: every storage that a forward makes, from where it is made to where it dies.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from tiny_transformer import own, stock
from torch import Tensor
from traffic import Traffic
from transformers import UMT5Config, Wav2Vec2Config, Wav2Vec2Model

from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.networks.expert import EXPERT, expert_dtypes, forward_bytes, token_count
from wan_duet.pipelines.networks.text_encoder import text_encoder_bytes
from wan_duet.pipelines.networks.transformer import replace_transformer_forward
from wan_duet.pipelines.networks.umt5 import Umt5Encoder
from wan_duet.pipelines.networks.wav2vec import SAMPLE_RATE, audio_encoder_bytes
from wan_duet.pipelines.plan.context_windows import ContextWindows
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.sampling.windowed_experts import WindowedExperts, WindowProgress

A14B = {"num_attention_heads": 40, "ffn_dim": 13824, "in_channels": 16, "out_channels": 16}
TI2V = {"num_attention_heads": 24, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48}


@pytest.mark.parametrize("parts", [1, 2, 4, 6])
@pytest.mark.parametrize(
    ("config", "shape", "dtype"),
    [
        (A14B, (16, 21, 60, 104), torch.bfloat16),
        (A14B, (16, 21, 90, 160), torch.bfloat16),
        (A14B, (16, 21, 60, 104), torch.float32),
        (A14B, (16, 1, 90, 160), torch.float16),
        (TI2V, (48, 31, 44, 80), torch.bfloat16),
    ],
)
@torch.inference_mode()
def test_a_forward_takes_what_is_foretold(
    config: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype, parts: int
) -> None:
    chunk_tokens = 0 if parts == 1 else max(4096, -(-token_count(config, shape) // parts))
    dtype_of = expert_dtypes(dtype)
    with torch.device("meta"):
        network = WanTransformer3DModel(**config, num_layers=2).eval()
        latents, text = torch.zeros(1, *shape, dtype=dtype), torch.zeros(1, 512, 4096, dtype=dtype)
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(dtype_of(name))
    replace_transformer_forward(network, FloatChoices(chunk_tokens=chunk_tokens))
    with Traffic() as live:
        network(latents, torch.zeros(1, device="meta"), text, return_dict=False)
    assert live.peak <= forward_bytes(config, shape, dtype, chunk_tokens) <= 1.2 * live.peak


@pytest.mark.parametrize("seconds", [5, 300])
@torch.inference_mode()
def test_hearing_a_sound_takes_what_is_foretold(seconds: int) -> None:
    """Of wav2vec2-large-xlsr-53-english, on a device whose attention writes its scores out."""
    config = Wav2Vec2Config(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
        conv_bias=True,
        attn_implementation="eager",
    )
    with torch.device("meta"):
        network, samples = Wav2Vec2Model(config).eval(), torch.empty(1, seconds * SAMPLE_RATE)
    with Traffic() as live:
        network(samples, output_hidden_states=True)
    foretold = audio_encoder_bytes(config.to_dict(), seconds * SAMPLE_RATE)
    assert live.peak <= foretold <= 2.2 * live.peak


@torch.inference_mode()
def test_reading_a_prompt_takes_what_is_foretold() -> None:
    config = UMT5Config(d_model=64, d_ff=160, d_kv=8, num_heads=16, num_layers=2, vocab_size=32)
    network, tokens = Umt5Encoder(config.to_dict()).eval(), torch.zeros(1, 512, dtype=torch.long)
    with Traffic() as live:
        network(tokens)
    foretold = text_encoder_bytes(config.to_dict(), 512)
    assert live.peak <= foretold <= 2 * live.peak


@torch.inference_mode()
def test_a_clip_in_windows_takes_the_memory_of_one_window_however_long_it_is() -> None:
    network, condition = own(stock(num_attention_heads=8)), Condition(torch.zeros(1, 4, 16))

    class Engine:
        def use(self, _: str) -> Engine:
            return self

        def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
            return EXPERT.velocity(network, latents, timestep, condition, torch.float32)

    def taken(frames: int, length: int) -> int:
        latents, schedule = torch.zeros(1, 16, frames, 8, 10), Schedule((1.0, 0.0), (1000.0,), ("high",))
        windows = ContextWindows(frames, length, 2, "standard_static", 1, False, "pyramid", False, False)
        experts = WindowedExperts(Engine(), schedule, windows, WindowProgress(Silent(), 1))
        with Traffic() as live:
            experts.use("high").predict(latents, 1000.0, condition)
        return live.peak

    short, long, whole = taken(11, 5), taken(61, 5), taken(61, 61)
    velocity_of_the_rest = 4 * 16 * 50 * 80
    assert long - short <= 1.1 * velocity_of_the_rest
    assert whole > 4 * long

"""Makes official_preset.safetensors: the official settings of Wan 2.2 T2V A14B, run by the official code.

    PYTHONPATH=.:tests/weights python tests/golden/make_official_preset.py --wan22 PATH_OF_A_CHECKOUT

Made with https://github.com/Wan-Video/Wan2.2 at commit 42bf4cf (2026-03-17), torch 2.13.0, on a CPU in
float32. The numbers are those of its wan/configs/wan_t2v_A14B.py, copied in plan/official_settings.json.
Networks and solver are the checkout's own; the loop around them is written here after wan/text2video.py,
which cannot run without CUDA. The embeddings of the two prompts are ours: the test compares the sampling.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import make_official
import tiny
import tiny_files
import tiny_preset
import torch
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.stages import encode_prompts
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent

HERE = Path(__file__).parent
SETTINGS = json.loads((HERE.parent / "plan" / "official_settings.json").read_text(encoding="utf-8"))


def embeddings(pieces: Tensor, prompts: list[str]) -> list[Tensor]:
    """(tokens, D) for each prompt, by the text encoder of the tiny model."""
    with tempfile.TemporaryDirectory() as folder:
        files = tiny_preset.save_files(Path(folder), pieces)
        model = load_model(
            files["--model"], low=files["--low-model"], vae=files["--vae"],
            text_encoder=files["--text-encoder"], precision="fp32",
        )  # fmt: skip
        encoded = encode_prompts(model, prompts, DeviceMemory("cpu"), Silent())
        return [prompt.embeddings[0, : prompt.tokens].clone() for prompt in encoded]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wan22", type=Path, required=True)
    checkout, numbers = parser.parse_args().wan22, SETTINGS["wan2.2"]["models"]["wan2.2-t2v-a14b"]
    module = make_official.load(checkout, "wan.modules.model")
    module.flash_attention = make_official.attention
    unipc = make_official.load(checkout, "wan.utils.fm_solvers_unipc")

    def expert(name: str) -> torch.nn.Module:
        model = module.WanModel(
            dim=tiny.DIM, ffn_dim=tiny.FFN, freq_dim=tiny.FREQ_DIM, text_dim=tiny.TEXT_DIM,
            num_heads=tiny.HEADS, num_layers=tiny.LAYERS,
        )  # fmt: skip
        model.load_state_dict(tiny.expert_weights(tiny.SEEDS[name]))
        return model.eval()

    pieces = tiny_files.spiece_tensor(tiny_files.spiece_model()).to(torch.uint8)
    context, context_null = embeddings(pieces, [tiny_preset.PROMPT, numbers["sample_neg_prompt"]])
    high, low = expert("high"), expert("low")
    scheduler = unipc.FlowUniPCMultistepScheduler(
        num_train_timesteps=1000, shift=1, use_dynamic_shifting=False
    )
    scheduler.set_timesteps(numbers["sample_steps"], device="cpu", shift=numbers["sample_shift"])
    seed_g = torch.Generator("cpu").manual_seed(tiny_preset.SEED)
    latents = torch.randn(tiny.LATENT_SHAPE[1:], generator=seed_g)
    tokens = tiny.LATENT_SHAPE[2] * tiny.LATENT_SHAPE[3] * tiny.LATENT_SHAPE[4] // 4
    scale_low, scale_high = numbers["sample_guide_scale"]
    for t in scheduler.timesteps:
        first = t.item() >= numbers["boundary"] * 1000
        model, scale = (high, scale_high) if first else (low, scale_low)
        cond, uncond = (
            model([latents], t=t.reshape(1), context=[text], seq_len=tokens)[0]
            for text in (context, context_null)
        )
        velocity = uncond + scale * (cond - uncond)
        latents = scheduler.step(velocity[None], t, latents[None], return_dict=False)[0][0]
    save_file(
        {"latents": latents, "pieces": pieces},
        HERE / "official_preset.safetensors",
        metadata={"made_by": "tests/golden/make_official_preset.py", "source": "Wan-Video/Wan2.2 42bf4cf"},
    )


if __name__ == "__main__":
    main()

"""Makes speech.safetensors: the numbers of the official speech-to-video code on the tiny model.

    python tests/golden/make_speech.py --wan22 PATH_OF_A_CHECKOUT

Made with https://github.com/Wan-Video/Wan2.2 at commit 42bf4cf (2026-03-17), torch 2.13.0, transformers
4.50.3 (the official code takes at most 4.51.3), diffusers 0.37.1, einops 0.8.2, on a CPU in float32. What the
official code needs a GPU, a dataset or a picture library for is replaced here: its attention by torch's
scaled_dot_product_attention, resizing of a picture that has its size already by nothing, reading a sound file
by the sound. The rest is the official code as it stands: the network, the bucketing of features, the VAE, and
`WanS2V.generate` with its loop over clips.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import make_official
import numpy as np
import tiny_files
import tiny_speech as tiny
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC


def stand_in(name: str, **content: Any) -> None:
    module = sys.modules.setdefault(name, types.ModuleType(name))
    for key, value in content.items():
        setattr(module, key, value)


def attention(q: Tensor, k: Tensor, v: Tensor, *_: object, **__: object) -> Tensor:
    return make_official.attention(q, k, v)


def prepare(checkout: Path) -> types.SimpleNamespace:
    """The official modules, with stand-ins for what they import and this run does not use."""
    nothing = lambda *_, **__: None  # noqa: E731
    same = lambda *_: lambda value: value  # noqa: E731
    to_tensor = lambda: lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255  # noqa: E731
    stand_in("librosa", load=lambda *_, **__: (tiny.sound(), 16000))
    stand_in("decord", VideoReader=nothing)
    transforms = {"Resize": same, "CenterCrop": same, "ToTensor": to_tensor}
    stand_in("torchvision.transforms.functional")
    stand_in(
        "torchvision.transforms", functional=sys.modules["torchvision.transforms.functional"], **transforms
    )
    stand_in("torchvision", transforms=sys.modules["torchvision.transforms"])
    stand_in("wan.distributed")
    parallel = "distributed_attention gather_forward get_rank get_world_size sp_attn_forward sp_dit_forward"
    stand_in("wan.distributed.sequence_parallel", **dict.fromkeys(parallel.split(), nothing))
    stand_in("wan.distributed.fsdp", shard_model=nothing)
    stand_in("wan.distributed.util", get_world_size=nothing)
    stand_in("wan.modules.t5", T5EncoderModel=nothing)
    sys.modules["wan.modules.s2v"] = types.ModuleType("wan.modules.s2v")
    make_official.load(checkout, "wan.modules.attention").flash_attention = attention
    sys.modules["wan.modules.s2v"].__path__ = [str(checkout / "wan/modules/s2v")]  # type: ignore[attr-defined]
    model = make_official.load(checkout, "wan.modules.model")
    model.flash_attention = attention
    loaded = {}
    for name in ("auxi_blocks", "s2v_utils", "audio_utils", "motioner", "model_s2v", "audio_encoder"):
        loaded[name] = make_official.load(checkout, f"wan.modules.s2v.{name}")
    loaded["model_s2v"].flash_attention = attention
    vae = make_official.load(checkout, "wan.modules.vae2_1")
    for name in ("fm_solvers", "fm_solvers_unipc"):
        make_official.load(checkout, f"wan.utils.{name}")
    return types.SimpleNamespace(**loaded, vae=vae, speech=make_official.load(checkout, "wan.speech2video"))


def network(official: types.SimpleNamespace) -> torch.nn.Module:
    made = official.model_s2v.WanModel_S2V(
        cond_dim=16, audio_dim=tiny.AUDIO_DIM, num_audio_token=tiny.TOKENS, enable_adain=True,
        audio_inject_layers=list(tiny.HEARING), zero_timestep=True, enable_motioner=False,
        enable_framepack=True, framepack_drop_mode="padd", dim=tiny.DIM, ffn_dim=tiny.FFN,
        freq_dim=tiny.FREQ_DIM, text_dim=tiny.TEXT_DIM, num_heads=tiny.HEADS, num_layers=tiny.LAYERS,
    )  # fmt: skip
    state = tiny.weights()
    states = made.casual_audio_encoder.weights.shape  # the class knows only the released number of layers
    made.casual_audio_encoder.weights = torch.nn.Parameter(state["casual_audio_encoder.weights"])
    assert len(states) == 4
    made.load_state_dict(state)
    return made.eval()


def autoencoder(official: types.SimpleNamespace) -> Any:
    """The official wrapper around the official network, narrow as the tests' VAE."""
    made = object.__new__(official.vae.Wan2_1_VAE)
    narrow = official.vae.WanVAE_(
        dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
        temperal_downsample=[False, True, True], dropout=0.0,
    )  # fmt: skip
    narrow.load_state_dict(tiny_files.wan_vae_names(tiny_files.vae("2.1")))
    made.model, made.dtype, made.device = narrow.eval(), torch.float32, torch.device("cpu")
    mean, std = official_statistics()
    made.mean, made.std = mean, std
    made.scale = [mean, 1.0 / std]
    return made


def official_statistics() -> tuple[Tensor, Tensor]:
    """As the constructor of Wan2_1_VAE has them; diffusers' class has the same as its defaults."""
    from diffusers import AutoencoderKLWan

    config = AutoencoderKLWan.from_config(tiny_files.VAES["2.1"]).config
    return torch.tensor(config.latents_mean), torch.tensor(config.latents_std)


def listener(official: types.SimpleNamespace) -> Any:
    made = object.__new__(official.audio_encoder.AudioEncoder)
    config, weights = tiny.wav2vec()
    made.model = Wav2Vec2ForCTC(config).eval()
    made.model.load_state_dict(weights)
    made.processor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    made.video_rate = 30
    return made


def modules(official: types.SimpleNamespace, model: Any) -> dict[str, Tensor]:
    """One forward with everything there is, the first clip's, and what is inside."""
    found: dict[str, Tensor] = {}
    audio = tiny.draw("audio", 1, tiny.STATES, tiny.AUDIO_DIM, tiny.CLIP_FRAMES)
    motion = tiny.draw("motion", 1, 16, 19, *tiny.CLIP_SHAPE[-2:])
    latents = tiny.draw("latents", *tiny.CLIP_SHAPE)

    def keep(name: str, make: Any) -> Any:
        def hook(module: Any, given: Any, made: Any) -> None:
            found[name] = make(made)

        return hook

    handles = [
        model.casual_audio_encoder.register_forward_hook(keep("heard", lambda m: m[1])),
        model.casual_audio_encoder.register_forward_hook(keep("whole", lambda m: m[0])),
        model.frame_packer.register_forward_hook(keep("packed", lambda m: m[0][0])),
        model.audio_injector.injector[1].register_forward_hook(keep("injected", lambda m: m)),
    ]
    given = {
        "t": torch.tensor([700.0]), "context": [tiny.text("prompt")[0]], "seq_len": 0, "audio_input": audio,
        "motion_latents": motion, "ref_latents": tiny.draw("reference", 1, 16, 1, *tiny.CLIP_SHAPE[-2:]),
        "motion_frames": [73, 19],
    }  # fmt: skip
    pose = tiny.draw("pose", *tiny.CLIP_SHAPE)
    found["forward"] = model(latents, **given, cond_states=pose, drop_motion_frames=False)[0][None]
    # rotary tables: complex numbers of every token, of one head
    found["rotary"] = torch.view_as_real(model.pre_compute_freqs[0, ::29, 0]).float()
    for handle in handles:
        handle.remove()
    found["first clip"] = model(latents, **given, cond_states=pose * 0, drop_motion_frames=True)[0][None]
    thin = {"heard": 16, "whole": 16, "packed": 16, "injected": 64, "forward": 8, "first clip": 8}
    return {name: tensor[..., :: thin.get(name, 1)].contiguous().clone() for name, tensor in found.items()}


def run(official: types.SimpleNamespace, model: Any) -> dict[str, Tensor]:
    """`WanS2V.generate`, two clips."""
    made = object.__new__(official.speech.WanS2V)
    texts = {"prompt": tiny.text("prompt")[0], "negative": tiny.text("negative")[0]}
    made.device, made.param_dtype, made.rank = torch.device("cpu"), torch.float32, 0
    made.t5_cpu, made.init_on_cpu, made.num_train_timesteps = True, False, 1000
    made.text_encoder = lambda prompts, _: [texts[prompt] for prompt in prompts]
    made.vae, made.noise_model, made.audio_encoder = autoencoder(official), model, listener(official)
    made.motion_frames, made.drop_first_motion, made.fps, made.audio_sample_m = 73, True, 16, 0
    features, clips = made.encode_audio("sound", infer_frames=tiny.CLIP_FRAMES)
    assert clips == 2
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "picture.png"
        Image.fromarray(tiny.picture()).save(image)
        frames = made.generate(
            "prompt", str(image), "sound", False, None, None, None, num_repeat=None,
            max_area=tiny.WIDTH * tiny.HEIGHT, infer_frames=tiny.CLIP_FRAMES, shift=tiny.SHIFT,
            sampling_steps=tiny.STEPS, guide_scale=tiny.GUIDANCE, n_prompt="negative", seed=tiny.SEED,
            offload_model=False,
        )  # fmt: skip
    assert frames.shape == (3, 77, tiny.HEIGHT, tiny.WIDTH), frames.shape
    return {
        "features": features[:, :, ::32].contiguous(),
        "frames": frames[:, ::6, ::8, ::8].contiguous(),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wan22", type=Path, required=True)
    official = prepare(parser.parse_args().wan22)
    model = network(official)
    save_file(
        modules(official, model) | run(official, model),
        Path(__file__).with_name("speech.safetensors"),
        metadata={"made_by": "tests/golden/make_speech.py", "source": "Wan-Video/Wan2.2 42bf4cf"},
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "weights"))
    main()

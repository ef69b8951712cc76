"""Makes official_kinds.safetensors: the official code's numbers for runs that begin with a picture, for the
5B, for Wan 2.1 and for FastVideo, on the tiny models of tiny_kinds.py.

    python tests/golden/make_official_kinds.py --wan22 CHECKOUT --wan21 CHECKOUT --fastvideo CHECKOUT

Made with https://github.com/Wan-Video/Wan2.2 at commit 42bf4cf, https://github.com/Wan-Video/Wan2.1 at
9737cba and https://github.com/hao-ai-lab/FastVideo at 2f3d407, torch 2.13.0, on a CPU in float32. Networks,
solvers, the CLIP encoder and FastVideo's scheduler are the checkouts' own; the loops around them are written
here after image2video.py, textimage2video.py, first_last_frame2video.py and stages/denoising.py, which cannot
run without CUDA. Attention is torch's scaled_dot_product_attention, the same mathematics as their kernels.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from pathlib import Path

import make_official
import tiny
import tiny_kinds
import torch
from safetensors.torch import save_file
from torch import Tensor


def modules(checkout: Path, *names: str) -> list[types.ModuleType]:
    """Fresh ones: both checkouts call their package wan."""
    for loaded in [name for name in sys.modules if name == "wan" or name.startswith("wan.")]:
        del sys.modules[loaded]
    return [make_official.load(checkout, name) for name in names]


def network(module: types.ModuleType, kind: tiny_kinds.Kind, model_type: str) -> torch.nn.Module:
    model = module.WanModel(
        model_type=model_type, in_dim=kind.channels, out_dim=kind.out, dim=tiny.DIM, ffn_dim=tiny.FFN,
        freq_dim=tiny.FREQ_DIM, text_dim=tiny.TEXT_DIM, num_heads=tiny.HEADS, num_layers=tiny.LAYERS,
    )  # fmt: skip
    if kind.clip:
        width = tiny_kinds.CLIP["dim"]
        model.img_emb = module.MLPProj(width, tiny.DIM)
        if kind.pictures:
            tokens = kind.pictures * tiny_kinds.TOKENS
            model.img_emb.emb_pos = torch.nn.Parameter(torch.zeros(1, tokens, width))
    model.load_state_dict(kind.weights())
    return model.eval()


def official_mask(frames: int, rows: int, columns: int, *, last: bool) -> Tensor:
    """As image2video.py makes it; with `last` as first_last_frame2video.py does."""
    mask = torch.ones(1, frames, rows, columns)
    mask[:, 1 : -1 if last else None] = 0
    mask = torch.concat([torch.repeat_interleave(mask[:, 0:1], repeats=4, dim=1), mask[:, 1:]], dim=1)
    return mask.view(1, mask.shape[1] // 4, 4, rows, columns).transpose(1, 2)[0]


def walk(unipc: types.ModuleType, latent: Tensor, velocity: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    scheduler = unipc.FlowUniPCMultistepScheduler(
        num_train_timesteps=1000, shift=1, use_dynamic_shifting=False
    )
    scheduler.set_timesteps(tiny_kinds.STEPS, device="cpu", shift=tiny_kinds.SHIFT)
    for t in scheduler.timesteps:
        latent = scheduler.step(velocity(latent, t)[None], t, latent[None], return_dict=False)[0][0]
    return latent


def guided(model: torch.nn.Module, latent: Tensor, timestep: Tensor, tokens: int, **extra: object) -> Tensor:
    positive, negative = (
        model([latent], t=timestep, context=[tiny.text(name)[0]], seq_len=tokens, **extra)[0]
        for name in ("positive", "negative")
    )
    return negative + tiny_kinds.GUIDANCE * (positive - negative)


def with_channels(
    model: torch.nn.Module, unipc: types.ModuleType, kind: tiny_kinds.Kind, *, last: bool, **extra: object
) -> Tensor:
    _, _, frames, rows, columns = kind.latent
    y = torch.concat([official_mask(tiny_kinds.FRAMES, rows, columns, last=last), kind.given()[0]])
    tokens = frames * rows * columns // 4
    return walk(
        unipc,
        kind.noise()[0],
        lambda latent, t: guided(model, latent, t[None], tokens, y=[y], **extra),
    )


def with_frames(model: torch.nn.Module, unipc: types.ModuleType, kind: tiny_kinds.Kind) -> Tensor:
    _, _, frames, rows, columns = kind.latent
    z, tokens = kind.given()[0][:, :1], frames * rows * columns // 4
    mask = torch.ones(kind.latent[1:])
    mask[:, 0] = 0
    scheduler = unipc.FlowUniPCMultistepScheduler(
        num_train_timesteps=1000, shift=1, use_dynamic_shifting=False
    )
    scheduler.set_timesteps(tiny_kinds.STEPS, device="cpu", shift=tiny_kinds.SHIFT)
    latent = (1.0 - mask) * z + mask * kind.noise()[0]
    for t in scheduler.timesteps:
        per_token = (mask[0][:, ::2, ::2] * t).flatten()[None]
        velocity = guided(model, latent, per_token, tokens)
        latent = scheduler.step(velocity[None], t, latent[None], return_dict=False)[0][0]
        latent = (1.0 - mask) * z + mask * latent
    return latent


def text_only(model: torch.nn.Module, unipc: types.ModuleType, kind: tiny_kinds.Kind) -> Tensor:
    """As text2video of textimage2video.py: every token has the same time, each told apart."""
    tokens = kind.latent[2] * kind.latent[3] * kind.latent[4] // 4
    return walk(
        unipc, kind.noise()[0], lambda latent, t: guided(model, latent, t.expand(1, tokens) * 1.0, tokens)
    )


def unneeded(name: str, **has: object) -> None:
    """A module that is imported and not used here."""
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(has)


def clip_features(checkout: Path, pictures: list[Tensor]) -> Tensor:
    """CLIPModel.visual of clip.py, of pictures (3, H, W) in [-1, 1]."""
    nothing = type("Nothing", (torch.nn.Module,), {})
    unneeded("wan.modules.tokenizers", HuggingfaceTokenizer=nothing)
    unneeded("wan.modules.xlm_roberta", XLMRoberta=nothing)
    unneeded("torchvision", transforms=None)
    unneeded("torchvision.transforms")
    clip = make_official.load(checkout, "wan.modules.clip")
    clip.flash_attention = make_official.attention
    size, settings = tiny_kinds.CLIP["image"], tiny_kinds.CLIP
    visual = clip.VisionTransformer(
        image_size=size, patch_size=settings["patch"], dim=settings["dim"], mlp_ratio=settings["ratio"],
        out_dim=settings["dim"], num_heads=settings["heads"], num_layers=settings["layers"],
        activation="gelu",
    )  # fmt: skip
    visual.load_state_dict(tiny_kinds.clip_weights())
    visual.eval()
    scaled = torch.cat(
        [
            torch.nn.functional.interpolate(
                picture[None], size=(size, size), mode="bicubic", align_corners=False
            )
            for picture in pictures
        ]
    )
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    return visual((scaled * 0.5 + 0.5 - mean) / std, use_31_block=True)


def fast_video(checkout: Path, kind: tiny_kinds.Kind) -> Tensor:
    """DmdDenoisingStage.forward around a velocity field that needs no network."""
    for name in ("fastvideo", "fastvideo.models", "fastvideo.models.schedulers"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(checkout / name.replace(".", "/"))]  # type: ignore[attr-defined]
    unneeded("fastvideo.logger", init_logger=lambda _: None)
    unneeded("scipy", stats=None)
    unneeded("scipy.stats")
    scheduling = make_official.load(
        checkout, "fastvideo.models.schedulers.scheduling_flow_match_euler_discrete"
    )
    scheduler = scheduling.FlowMatchEulerDiscreteScheduler(shift=tiny_kinds.DMD_SHIFT)
    source = (checkout / "fastvideo/models/utils.py").read_text()
    start = source.index("def pred_noise_to_pred_video(")
    body = source[start:].split("\n\n\n")[0]
    space: dict[str, object] = {"torch": torch, "Any": object}
    exec(compile(body, "utils.py", "exec"), space)  # noqa: S102  one function, without what needs CUDA
    to_video = space["pred_noise_to_pred_video"]
    generator = torch.Generator("cpu").manual_seed(kind.seed + 4)
    latents = torch.randn(kind.latent, generator=generator)
    steps = [1000, 757, 522]
    for index, step in enumerate(steps):
        time = torch.tensor([step])
        clean = to_video(  # type: ignore[operator]
            pred_noise=tiny.velocity(latents, float(step)).flatten(0, 1),
            noise_input_latent=latents.flatten(0, 1),
            timestep=time,
            scheduler=scheduler,
        )
        if index == len(steps) - 1:
            return clean.view(kind.latent)
        noise = torch.randn(kind.latent, generator=generator).flatten(0, 1)
        noised = scheduler.add_noise(clean, noise, torch.tensor([steps[index + 1]]))
        latents = noised.view(kind.latent)
    raise AssertionError


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--wan22", "--wan21", "--fastvideo"):
        parser.add_argument(name, type=Path, required=True)
    options, kinds, made = parser.parse_args(), tiny_kinds.KINDS, {}

    model, unipc = modules(options.wan22, "wan.modules.model", "wan.utils.fm_solvers_unipc")
    model.flash_attention = make_official.attention
    for name, last in (("i2v-a14b", False), ("i2v-a14b", True)):
        expert = network(model, kinds[name], "i2v")
        made[f"{name} last" if last else name] = with_channels(expert, unipc, kinds[name], last=last)
    small = network(model, kinds["ti2v-5b"], "ti2v")
    made["ti2v-5b"] = with_frames(small, unipc, kinds["ti2v-5b"])
    made["ti2v-5b text"] = text_only(small, unipc, kinds["ti2v-5b"])

    model, unipc = modules(options.wan21, "wan.modules.model", "wan.utils.fm_solvers_unipc")
    model.flash_attention = make_official.attention
    pictures = [tiny_kinds.picture(), tiny_kinds.second_picture()]
    for name, count, model_type in (("i2v-2.1", 1, "i2v"), ("flf2v-2.1", 2, "flf2v")):
        features = clip_features(options.wan21, pictures[:count])
        made[f"{name} clip"] = features
        expert = network(model, kinds[name], model_type)
        made[name] = with_channels(expert, unipc, kinds[name], last=count == 2, clip_fea=features)

    made["fastvideo"] = fast_video(options.fastvideo, kinds["ti2v-5b"])
    save_file(
        {name: tensor.float().contiguous() for name, tensor in made.items()},
        Path(__file__).with_name("official_kinds.safetensors"),
        metadata={"made_by": "tests/golden/make_official_kinds.py"},
    )


if __name__ == "__main__":
    main()

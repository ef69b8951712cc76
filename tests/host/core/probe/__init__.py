"""Nodes that only tests need: what comes from elsewhere, and what is going on inside the process."""

import copy
import gc
import hashlib
import importlib
import json
import sys
from pathlib import Path

import folder_paths
import torch
from comfy import ops, sd
from comfy.clip_vision import Output
from comfy.ldm.wan import model as wan
from comfy.ldm.wan import model_animate, vae2_2
from comfy.model_patcher import ModelPatcher
from comfy.taesd.taehv import TAEHV
from comfy.text_encoders.wan import WanT5Tokenizer
from safetensors.torch import save_file
from torch.nn import functional

try:  # new in ComfyUI 0.33
    from comfy.ldm.wan import model_animate2
except ImportError:
    model_animate2 = None

# ruff: noqa: N802 (ComfyUI's names)

HEAVY = ("diffusers", "transformers", "av")
NETWORKS = ("OwnTransformer", "OwnVae", "Umt5Encoder")


class _Always:
    @classmethod
    def IS_CHANGED(cls, **_inputs):
        return float("nan")


class ProbeConditioning:
    """Embeddings as another text encoder would give them, with the keys that core's adds."""

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "run", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"tokens": ("INT",), "padded_to": ("INT",), "seed": ("INT",), "extra": ("STRING",)}
        }

    def run(self, tokens, padded_to, seed, extra):
        text = torch.zeros(1, padded_to, 4096)
        text[:, :tokens] = torch.randn(1, tokens, 4096, generator=torch.Generator().manual_seed(seed))
        mask = torch.zeros(1, padded_to, dtype=torch.int64)
        mask[:, :tokens] = 1
        return ([[text, {"pooled_output": None, "attention_mask": mask, **json.loads(extra)}]],)


class _Clip:
    """A text encoder of the real width with ComfyUI's tokenizer: random numbers that follow from tokens."""

    def __init__(self):
        files = [Path(folder) / "pieces.model" for folder in folder_paths.get_folder_paths("text_encoders")]
        (pieces,) = (file.read_bytes() for file in files if file.exists())
        self.tokenizer = WanT5Tokenizer(tokenizer_data={"spiece_model": pieces})

    def tokenize(self, text):
        return self.tokenizer.tokenize_with_weights(text)

    def encode_from_tokens_scheduled(self, tokens):
        seed = int.from_bytes(hashlib.sha256(str(tokens).encode()).digest()[:4], "big")
        return [[torch.randn(1, 512, 4096, generator=torch.Generator().manual_seed(seed)), {}]]


class ProbeClip:
    """A CLIP without the eleven gigabytes of the real one."""

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "run", ("CLIP",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (_Clip(),)


class _ClipVision:
    """An image encoder of the real width: numbers that follow from the mean colour of the image."""

    def encode_image(self, image, crop=True):
        found = Output()
        colour = image.mean((0, 1, 2))
        pattern = torch.randn(3, 257, 1280, generator=torch.Generator().manual_seed(3))
        found.penultimate_hidden_states = torch.einsum("c,ctd->td", colour, pattern)[None]
        found.last_hidden_state = found.image_embeds = found.mm_projected = None
        return found


class ProbeClipVision:
    """A CLIP_VISION without the gigabyte of the real one."""

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "run", ("CLIP_VISION",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (_ClipVision(),)


class ProbeSmallVae:
    """The VAE of the 5B in ComfyUI's own class, a fortieth as wide."""

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "run", ("VAE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"like": ("VAE",)}}

    def run(self, like):
        network = vae2_2.WanVAE(dim=4, dec_dim=4, z_dim=48, temperal_downsample=[False, True, True])
        generator = torch.Generator().manual_seed(8)
        for name, tensor in network.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(noise * min(0.1, tensor[0].numel() ** -0.5) + name.endswith("gamma"))
        made = copy.copy(like)
        made.first_stage_model = network.eval().to(like.vae_dtype)
        made.patcher = ModelPatcher(made.first_stage_model, like.device, like.patcher.offload_device)
        made.latent_channels, made.downscale_ratio, made.upscale_ratio = (
            48,
            (like.downscale_ratio[0], 16, 16),
            (like.upscale_ratio[0], 16, 16),
        )
        made.downscale_index_formula = made.upscale_index_formula = (4, 16, 16)
        return (made,)


class _FlatVae:
    """Means of squares as latents, and squares of one colour as frames."""

    latent_dim, first_stage_model = 3, torch.nn.Identity()

    def __init__(self, channels, side):
        self.latent_channels, self.side, self.vae_dtype = channels, side, torch.float32

    def throw_exception_if_invalid(self):
        pass

    def spacial_compression_decode(self):
        return self.side

    def encode(self, frames):
        means = functional.avg_pool2d(frames.movedim(-1, 1), self.side)[::4]
        return means.repeat(1, self.latent_channels // 3 + 1, 1, 1)[:, : self.latent_channels].movedim(1, 0)[
            None
        ]

    def decode(self, latents):
        colours = torch.sigmoid(latents[0, :3]).movedim(1, 0).repeat_interleave(4, 0)[3:]
        return functional.interpolate(colours, scale_factor=self.side).movedim(1, -1)[None]


class ProbeFlatVae:
    """A VAE that only ComfyUI could run, and that takes no time."""

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "run", ("VAE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"channels": ("INT",), "side": ("INT",)}}

    def run(self, channels, side):
        return (_FlatVae(channels, side),)


class ProbeTinyAutoencoder:
    """A VAE of another kind that makes Wan's frames of Wan's latents, as ComfyUI loads lighttaew2_1."""

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "run", ("VAE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (sd.VAE(sd=_tiny_autoencoder()),)


class ProbePreviewFile(_Always):
    """Writes lighttaew2_1, with which core decodes previews."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "probe", "run", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        *_, folder = folder_paths.get_folder_paths("vae_approx")  # that of the tests
        save_file(_tiny_autoencoder(), f"{folder}/lighttaew2_1.safetensors")
        return ()


def _tiny_autoencoder():
    generator = torch.Generator().manual_seed(9)
    weights = TAEHV(latent_channels=16).state_dict()
    for name, tensor in weights.items():
        spread = max(1, tensor[0].numel()) ** -0.5
        weights[name] = torch.randn(tensor.shape, generator=generator) * spread
    return weights


class ProbeWindows(_Always):
    """Our loop with context windows, which only a request has, on what samplers get."""

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "run", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        sockets = {"model": "WAN_MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING"}
        sockets |= {"latent": "LATENT", "sigmas": "SIGMAS", "seed": "INT"}
        texts = dict.fromkeys(("windows", "guidance"), ("STRING",))
        return {"required": {**{name: (kind,) for name, kind in sockets.items()}, **texts}}

    def run(self, model, positive, negative, latent, sigmas, seed, windows, guidance):
        pack = type(model).__module__.partition(".pipelines.")[0]

        def of(module):
            return importlib.import_module(f"{pack}.{module}")

        sampling, engine = of("pipelines.sampling.schedule"), of("pipelines.sampling.engine")
        windows = of("pipelines.plan.context_windows").ContextWindows(**json.loads(windows))
        grid = of("pipelines.plan.sigmas").from_sigmas(sigmas.tolist())
        latents, kept = of("nodes.latents").latents_to_sample(
            latent, frames_stay=model.family.image_form == "frames"
        )
        noise = of("pipelines.sampling.noise").initial_noise(latents.shape, seed)
        if windows.freenoise:
            noise = of("pipelines.sampling.windowed_experts").free_noise(noise, windows, seed)
        finished = of("pipelines.generate.stages").sample(
            model,
            sampling.Sampling(
                sampling.Schedule.of_grid(grid, of("nodes.inputs").chosen_boundary(-1, model)),
                "euler",
                json.loads(guidance),
                windows=windows,
            ),
            of("pipelines.sampling.noise").StartLatents(latents, noise, kept),
            engine.Prompts(
                *(
                    of("nodes.conditioning").from_conditioning(given, name, model)
                    for name, given in (("positive", positive), ("negative", negative))
                )
            ),
            of("nodes.host_memory").HostMemory(model.keep_alive),
            of("pipelines.progress").Silent(),
        )
        return ({"samples": finished},)


class ProbeSave(_Always):
    """Writes a tensor, so that a test can compare every bit of it."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "probe", "run", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "name": ("STRING",)}}

    def run(self, value, name):
        tensor = value["samples"] if isinstance(value, dict) else value
        save_file({"value": tensor.contiguous()}, Path(folder_paths.get_output_directory()) / name)
        return {}


_SMALL = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 2}
# The layouts of Wan models that no request describes: ComfyUI's own class of each, narrow and short.
_LAYOUTS = {
    "vace": (wan.VaceWanModel, {"in_dim": 16, "vace_layers": 1, "vace_in_dim": 96}),
    "fun control": (wan.WanModel, {"model_type": "i2v", "in_dim": 48}),
    "fun control 2.2": (wan.WanModel, {"model_type": "t2v", "in_dim": 52, "in_dim_ref_conv": 16}),
    "camera": (wan.CameraWanModel, {"model_type": "camera", "in_dim": 32}),
    "animate": (model_animate.AnimateWanModel, {"in_dim": 36, "num_layers": 5}),  # an adapter every fifth
}
if model_animate2 is not None:
    _LAYOUTS["animate2"] = (model_animate2.WanAnimate2Model, {"in_dim": 36})


class ProbeTinyModel:
    """A MODEL with seeded weights in one of these layouts, loaded as ComfyUI loads a file of it."""

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "run", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"layout": ("STRING",), "seed": ("INT",)}}

    def run(self, layout, seed):
        network, config = _LAYOUTS[layout]
        made = network(**{**_SMALL, **config}, operations=ops.disable_weight_init)
        generator, weights = torch.Generator().manual_seed(seed), {}
        for name, tensor in made.state_dict().items():
            deviation = min(0.05, max(1, tensor[0].numel()) ** -0.5) if tensor.ndim else 0.05
            noise = torch.randn(tensor.shape, generator=generator) * deviation
            weights[name] = noise + ("norm" in name and name.endswith("weight"))
        # ComfyUI knows this layout from its metadata alone: the tensors are those of image to video.
        told = {"config": json.dumps({"transformer": {"model_type": layout}})} if layout == "animate2" else {}
        return (sd.load_diffusion_model_state_dict(weights, metadata=told),)


class ProbeText(_Always):
    """Writes a text."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "probe", "run", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "name": ("STRING",)}}

    def run(self, value, name):
        (Path(folder_paths.get_output_directory()) / name).write_text(value, encoding="utf-8")
        return {}


class ProbeOtherModel:
    """A MODEL of another family."""

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "run", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        cpu = torch.device("cpu")
        return (ModelPatcher(torch.nn.Linear(2, 2), cpu, cpu),)


class ProbeProcess(_Always):
    """What is in the process: libraries, networks that somebody still holds, how much was compiled."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "probe", "run", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        gc.collect()
        alive = [type(thing).__name__ for thing in gc.get_objects() if type(thing).__name__ in NETWORKS]
        dynamo = sys.modules.get("torch._dynamo.utils")  # loaded by who compiles
        compiled = 0 if dynamo is None else dynamo.counters["stats"]["unique_graphs"]
        modules = [name for name in HEAVY if name in sys.modules]
        found = {"modules": modules, "networks": alive, "compiled": compiled}
        return {"ui": {"text": [json.dumps(found)]}}


_NODES = (
    ProbeConditioning,
    ProbeClip,
    ProbeClipVision,
    ProbeFlatVae,
    ProbeOtherModel,
    ProbePreviewFile,
    ProbeProcess,
    ProbeSave,
    ProbeWindows,
    ProbeSmallVae,
    ProbeText,
    ProbeTinyAutoencoder,
    ProbeTinyModel,
)
NODE_CLASS_MAPPINGS = {node.__name__: node for node in _NODES}

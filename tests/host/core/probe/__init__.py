"""Nodes that only tests need: what comes from elsewhere, and what is going on inside the process."""

import gc
import hashlib
import json
import sys
from pathlib import Path

import folder_paths
import torch
from comfy import ops, sd
from comfy.ldm.wan import model as wan
from comfy.ldm.wan import model_animate
from comfy.model_patcher import ModelPatcher
from safetensors.torch import save_file

# ruff: noqa: N802 (ComfyUI's names)

HEAVY = ("diffusers", "transformers", "av")
NETWORKS = ("WanTransformer3DModel", "AutoencoderKLWan", "UMT5EncoderModel")


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
    """A text encoder of the real width: random numbers that follow from the text."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        return [[torch.randn(1, 512, 4096, generator=torch.Generator().manual_seed(seed)), {}]]


class ProbeClip:
    """A CLIP without the eleven gigabytes of the real one."""

    CATEGORY, FUNCTION, RETURN_TYPES = "probe", "run", ("CLIP",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (_Clip(),)


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
        return (sd.load_diffusion_model_state_dict(weights),)


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
    """What is loaded in the process: libraries, and networks that somebody still holds."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "probe", "run", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        gc.collect()
        alive = [type(thing).__name__ for thing in gc.get_objects() if type(thing).__name__ in NETWORKS]
        found = {"modules": [name for name in HEAVY if name in sys.modules], "networks": alive}
        return {"ui": {"text": [json.dumps(found)]}}


_NODES = (ProbeConditioning, ProbeClip, ProbeOtherModel, ProbeTinyModel, ProbeText, ProbeSave, ProbeProcess)
NODE_CLASS_MAPPINGS = {node.__name__: node for node in _NODES}

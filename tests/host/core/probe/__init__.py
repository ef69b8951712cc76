"""Nodes that only tests need: what comes from elsewhere, and what is going on inside the process."""

import gc
import json
import sys
from pathlib import Path

import folder_paths
import torch
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


NODE_CLASS_MAPPINGS = {node.__name__: node for node in (ProbeConditioning, ProbeSave, ProbeProcess)}

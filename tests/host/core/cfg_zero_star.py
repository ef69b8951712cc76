"""Prints how far our CFG-Zero* is from that of ComfyUI's node, for several scales and noise levels."""

import json
import sys

import torch
from comfy_extras.nodes_cfg import CFGZeroStar
from pack.pipelines.sampling.guidance import cfg_zero_star


class Model:
    """Keeps what the node patches onto a MODEL."""

    def clone(self):
        return self

    def set_model_sampler_post_cfg_function(self, function):
        self.function = function


def comfyuis(positive, negative, scale, latents, sigma):
    """The velocity of the node's clean estimate, from velocities in float64."""
    model = CFGZeroStar.execute(Model()).args[0]
    cond, uncond = latents - sigma * positive, latents - sigma * negative
    clean = model.function(
        {
            "cond_scale": scale,
            "input": latents,
            "cond_denoised": cond,
            "uncond_denoised": uncond,
            "denoised": uncond + scale * (cond - uncond),
        }
    )
    return (latents - clean) / sigma


apart = []
for seed, scale in enumerate((0.5, 1.5, 3.5, 6.0)):
    for sigma in (0.1, 0.6, 1.0):
        generator = torch.Generator().manual_seed(seed)
        given = torch.randn(3, 2, 16, 3, 8, 10, generator=generator, dtype=torch.float64)
        exact = comfyuis(given[0], given[1], scale, given[2], sigma)
        ours = cfg_zero_star(*given[:2].float(), scale, given[2].float(), sigma).double()
        apart.append(float((ours - exact).norm() / exact.norm()))
sys.stdout.write(json.dumps(apart) + "\n")

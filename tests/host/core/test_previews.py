"""Previews are those of core's own sampler on the same weights, by colours and by a small decoder."""

from __future__ import annotations

import asyncio

import numpy as np
from graphs import STEPS, Node, core_stage, node, our_stage, ours, start

from wan_duet.pipelines.headless.server import HeadlessComfyUI

from ..test_progress import previews


def test_previews_are_those_of_core(core: HeadlessComfyUI) -> None:
    def shown(method: str, **samplers: Node) -> np.ndarray:
        last = [*samplers][-1]
        save = node("ProbeSave", value=[last, 0], name=f"{last}.safetensors")
        pictures = asyncio.run(previews(core.url, {**start(), **samplers, "save": save}, method))
        return np.stack([np.asarray(picture, float) for picture in pictures])

    core.run({"file": node("ProbePreviewFile")})
    stages = {"first": our_stage("high", ["latent", 0]), "second": our_stage("low", ["first", 0])}
    native = {}
    for method in ("latent2rgb", "taesd"):
        expected = shown(method, high=core_stage("high", ["latent", 0]), low=core_stage("low", ["high", 0]))
        assert len(expected) == STEPS["steps"]
        for mine in (shown(method, both=ours()), shown(method, **stages)):
            assert np.abs(mine - expected).mean() < 0.01  # of 255
        native[method] = expected
    assert np.abs(native["taesd"] - native["latent2rgb"]).mean() > 10  # core has found its decoder

"""The last decisions before anything is loaded: residency, kernels, ranks, safety checker."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..device.memory import Memory
from ..kernels.choices import FloatChoices
from ..loading.host_model import HostModel
from ..parallel.gpu_world import GpuWorld
from ..plan.plan_text import describe
from ..progress import Progress
from ..request.base import WanRequest
from ..vae.latent_space import vae_kernels
from .checked_run import Checked
from .gpu_choice import layout_of_run
from .memory_estimate import estimate_host_memory, estimate_memory
from .planned_video import require_format
from .prepared_run import Run
from .safety import required_checker
from .speech_run import SPEECH, estimate_speech_memory
from .stages import float_choices
from .stored_findings import stored_findings

__all__ = ["decide"]

log = logging.getLogger(__name__)


def decide(
    request: WanRequest,
    ready: Checked,
    memory: Memory,
    progress: Progress,
    out: Path,
    *,
    world: GpuWorld | None = None,
    **options: Any,
) -> Run:
    """Make the remaining decisions, before anything is loaded. options: further fields of `Run`.

    world: the ranks that compute together; None for one device.

    Raises RequestError or MediaError when `out` cannot be such a file, ModelError when the device cannot do
    the run.
    """
    plan, model, inputs = ready.plan, ready.model, ready.inputs
    require_format(out, plan)
    report = ready.report.with_findings(stored_findings(model, memory.device))
    log.info("%s", describe(plan))
    options["tell"](report.told)
    vae = vae_kernels(model, memory)
    if isinstance(model, HostModel):
        estimate = estimate_host_memory(model, memory, plan.latent_shape)
        choices = FloatChoices(kernels=vae.kernels, refused=vae.refused)
    elif request.task == SPEECH:
        estimate = estimate_speech_memory(model, plan, inputs, memory)
        # The choice is for the VAE. The blocks of a speech model have none.
        choices = FloatChoices(kernels=vae.kernels, refused=vae.refused)
    else:
        steps = plan.networks[plan.start_step :]
        cached = ready.cache is not None and ready.cache.keeps_hidden_states
        estimate = estimate_memory(model, memory, plan.forward_shape, steps, cached=cached)
        choices = float_choices(model, plan.forward_shape, memory)
    # Decided once, so that the VAE is loaded with what the receipt says.
    model = replace(model, preferences=replace(model.preferences, vae=vae))
    ranks = None if world is None else world.arrange(layout_of_run(model, plan, len(world.devices)))
    if ranks is not None:
        log.info("%s", ranks.text())
    log.info("%s", estimate.text())
    if options["check_memory"]:
        estimate.require_room()
    checker = required_checker(request, model, inputs)
    return Run(
        request,
        report,
        plan,
        model,
        inputs,
        memory,
        progress,
        estimate,
        choices,
        vae,
        checker,
        out,
        cache=ready.cache,
        ranks=ranks,
        **options,
    )

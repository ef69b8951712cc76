"""A run of a receipt, made again: the same files, the same latents, the same frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from ..device.memory import Memory
from ..embedded.toy_model import embedded_loras
from ..interpolation.found_interpolators import Interpolators
from ..loading.host_model import AnyModel
from ..progress import Progress
from ..request.check import check
from ..request.report import Tell, silent
from ..weights.lora.find import LoraSources
from .checked_run import Checked, attach_loras, with_lora_findings
from .cpu_settings import threads_of
from .decided_run import decide
from .executed_run import execute
from .local_abilities import local_abilities
from .local_receipt import Recorded, require_same_files
from .media_inputs import read_media_inputs
from .planned_video import require_interpolator
from .recorded_inputs import recorded_inputs
from .required_weights import with_lightning
from .result import Result
from .speech_run import SPEECH, make_speech

__all__ = ["repeat"]


def repeat(
    recorded: Recorded,
    model: AnyModel,
    *,
    out: Path,
    memory: Memory,
    progress: Progress,
    media: Mapping[str, Path] = MappingProxyType({}),
    lora_sources: LoraSources | None = None,
    interpolators: Interpolators | None = None,
    check_memory: bool = True,
    pose_video: Path | None = None,
    tell: Tell = silent,
) -> Result:
    """Generate the video or image of a receipt again.

    media: {field: file} of the inputs. A missing one is looked up by name and hash in the current folder and
           beside the receipt.
    check_memory, pose_video, tell: as for `run`.

    Raises ModelError when weight files or inputs differ from the recorded ones, and SamplingError when the
    latents or the frames differ. The message then names the differences between the two machines.
    """
    sources = lora_sources or LoraSources(embedded=embedded_loras())
    plain = model = with_lightning(model, recorded.request.task, sources)
    # A partial LoRA was allowed in the first run, and the files must be the same.
    model = attach_loras(recorded.request, model, recorded.plan, sources, progress, allow_partial=True)
    require_same_files(recorded, model)
    model = replace(model, preferences=recorded.preferences)
    available = interpolators or Interpolators()
    require_interpolator(recorded.plan, available)
    found = recorded_inputs(recorded.inputs, (Path.cwd(), recorded.folder))
    inputs = read_media_inputs(recorded.request, {**found, **media})
    inputs.require(recorded.inputs)
    abilities = replace(local_abilities(available, plain), step_cache=recorded.cache is not None)
    report = check(recorded.request, family=model.family, abilities=abilities, media=inputs.facts)
    report = with_lora_findings(report, recorded.request, sources, model)
    decided = decide(
        recorded.request,
        Checked(report, recorded.plan, model, inputs, recorded.cache),
        memory,
        progress,
        out,
        prompt=recorded.prompt,
        interpolators=available,
        check_memory=check_memory,
        tell=tell,
    )
    with threads_of(recorded.cpu):
        if recorded.request.task == SPEECH:
            return make_speech(decided, pose_video, recorded)
        return execute(decided, recorded)

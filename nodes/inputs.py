"""Inputs shared by several nodes, and request fields as inputs."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from ..pipelines.plan import GRIDS
from ..pipelines.request import SEED_MAX, FieldRow, kinds_of
from ..pipelines.request.contracts import DESCRIPTIONS
from ..pipelines.request.field_rows import MEDIA_LISTS
from .comfy_interface import io
from .widgets import Widget, fields_of, sockets_of, widgets

if TYPE_CHECKING:
    from ..pipelines.loading.host_model import AnyModel

__all__ = [
    "DYNAMIC",
    "boundary_input",
    "chosen_boundary",
    "field_input",
    "field_inputs",
    "filename_input",
    "guidance_input",
    "rate",
    "rate_input",
    "save_input",
    "seed_input",
    "shift_input",
    "solver_input",
    "steps_input",
]

DYNAMIC = (
    "{a|b} becomes one of the two, and // comments are left out, each time the graph is queued: at a "
    "provider, each queueing is another purchase."
)
_PROMPTS = ("prompt", "negative_prompt", "nag_negative_prompt")
_MODEL_BOUNDARY = -1.0
_SLOWEST_FPS, _FASTEST_FPS = 0.01, 300.0
_LARGEST_DENOMINATOR = 1001  # of a rate
_TENTH = {"step": 0.1, "round": 0.001}  # arrows move by a tenth, typed values keep three digits


def field_inputs(task: str, names: tuple[str, ...]) -> list[io.Input]:
    """Return the inputs for these fields of `task`. A media field gets a socket, or several, and a text."""
    known = fields_of(task)
    inputs: list[io.Input] = []
    for name in names:
        if known[name].media is not None:
            inputs += _sockets(known[name], kinds_of(task)[0].remote_only)
        inputs += [field_input(widget) for widget in widgets(task, (name,))]
    return inputs


def seed_input() -> io.Input:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=SEED_MAX,
        control_after_generate=io.ControlAfterGenerate.fixed,
        tooltip="Seed of the noise: the same seed and settings give the same result.",
    )


def steps_input() -> io.Input:
    return io.Int.Input("steps", default=27, min=1, max=200, tooltip=DESCRIPTIONS["num_inference_steps"])


def shift_input() -> io.Input:
    return io.Float.Input("shift", default=5.0, min=0.1, max=100.0, tooltip=DESCRIPTIONS["shift"], **_TENTH)


def guidance_input(name: str, default: float, tooltip: str = "") -> io.Input:
    tooltip = tooltip or DESCRIPTIONS[name]
    return io.Float.Input(name, default=default, min=0.0, max=100.0, tooltip=tooltip, **_TENTH)


def solver_input(tooltip: str) -> io.Input:
    return io.Combo.Input("solver", options=list(GRIDS), default="unipc", tooltip=tooltip)


def boundary_input() -> io.Input:
    return io.Float.Input(
        "boundary",
        default=_MODEL_BOUNDARY,
        min=_MODEL_BOUNDARY,
        max=1.0,
        step=0.005,
        round=0.001,
        tooltip="Noise level (0-1) above which the high-noise expert is used. -1 uses the model's own value "
        "(0.875 or 0.9).",
    )


def chosen_boundary(setting: float, model: AnyModel) -> float | None:
    """Return the boundary set in the widget, or the model's own for any value below 0."""
    return model.boundary if setting < 0 else setting


def rate_input(tooltip: str = "Frame rate. Wan 2.2 A14B was trained at 16.") -> io.Input:
    return io.Float.Input(
        "frames_per_second",
        default=16.0,
        min=_SLOWEST_FPS,
        max=_FASTEST_FPS,
        step=1.0,
        round=0.001,
        tooltip=tooltip,
    )


def rate(frames_per_second: float) -> Fraction:
    """Return the value of `rate_input` as an exact fraction: 23.976 is 24000/1001."""
    return Fraction(frames_per_second).limit_denominator(_LARGEST_DENOMINATOR)


def filename_input() -> io.Input:
    return io.String.Input(
        "filename_prefix",
        default="video/WanDuet",
        tooltip="Start of the file name; may contain folders. %date:yyyy-MM-dd%, %width% and %height% are "
        "replaced.",
    )


def save_input(ending: str) -> io.Input:
    """Return the switch for saving. ending: the node that ends a graph instead of this one."""
    return io.Boolean.Input(
        "save",
        default=False,
        tooltip="On: save the file in the output folder. "
        "Off: write it to temp, which ComfyUI empties when it starts. Either way this node does not end a "
        f"graph: connect its video to Save Video, or use {ending}.",
    )


def _sockets(row: FieldRow, remote_only: bool) -> list[io.Input]:
    kind = {"image": io.Image, "video": io.Video, "audio": io.Audio}[str(row.media)]
    what = row.description.split(":")[0].rstrip(".")
    batch = ""
    if row.is_list:
        batch = " A batch gives several." if row.media == "image" else ""
    elif row.media != "video" and not remote_only:
        batch = " Run Local makes one result of each of a batch."
    tooltip = f"{what}. Alternatively, give its URL in {row.name}.{batch}"
    return [kind.Input(socket, optional=True, tooltip=tooltip) for socket in sockets_of(row)]


def field_input(widget: Widget) -> io.Input:
    """Return the input of a widget."""
    common = {"default": widget.default, "tooltip": widget.tooltip, "optional": widget.optional}
    bounds = {"min": widget.min, "max": widget.max}
    if widget.name == "seed":
        return io.Int.Input("seed", **bounds, **common, control_after_generate=io.ControlAfterGenerate.fixed)
    if widget.type == "COMBO":
        return io.Combo.Input(widget.name, options=list(widget.options), **common)
    if widget.type == "BOOLEAN":
        return io.Boolean.Input(widget.name, **common)
    if widget.type == "STRING" and widget.name in _PROMPTS:
        common["tooltip"] = f"{widget.tooltip} {DYNAMIC}"
        return io.String.Input(widget.name, multiline=not widget.optional, dynamic_prompts=True, **common)
    if widget.type == "STRING":
        many_lines = not widget.optional or widget.name in MEDIA_LISTS
        return io.String.Input(widget.name, multiline=many_lines, **common)
    if widget.type == "FLOAT":
        return io.Float.Input(widget.name, **bounds, **_TENTH, **common)
    return io.Int.Input(widget.name, **bounds, **common)

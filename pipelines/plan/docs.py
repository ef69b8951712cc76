"""Writes docs/requests.md from the contracts.

python -m wan_duet.pipelines.plan.docs
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..request import KINDS, FieldRow, WanRequest, field_table, local_row
from ..request.contracts import ALIASES
from ..request.distilled import DISTILLED_WEIGHTS
from ..request.implied import IMAGE_TASKS
from ..request.local_rules import LOCAL_RULES
from ..request.local_settings_rules import SETTING_MEANINGS
from ..request.prices import PRICES
from .families import DISTILLED_TASKS, FAMILIES, Family

__all__ = [
    "PAGE",
    "WRITE",
    "distilled_markdown",
    "field_markdown",
    "local_markdown",
    "official_markdown",
    "price_markdown",
    "requests_page",
    "settings_markdown",
    "sizes_markdown",
]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "requests.md"
WRITE = "python -m wan_duet.pipelines.plan.docs"


def _aliases() -> str:
    """Return a sentence for each older name of a kind."""
    return " ".join(
        f"`{name}` is another name of `{alias['kind']}`. Its page of the same endpoint has other defaults, "
        f"used for fields that a request of that name leaves out: {_stated(alias['defaults'])}."
        for name, alias in ALIASES.items()
    )


def _stated(defaults: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in defaults.items())


_INTRODUCTION = f"""# Requests

This page is generated from `pipelines/request/contracts.json` by `{WRITE}`.

A request is a JSON object. Its kind decides which fields it has. Each kind mirrors one published contract of
a provider. A value equal to the default is a preference: a runner may adjust it, and reports that. Any other
value is a demand: a runner uses it unchanged, or refuses the request. A field without a default is not sent
until you set it.

A range "at" a provider holds there alone: a request outside it runs on this machine, and is refused by that
provider, in *Check* and before anything is sent. Where its sources disagree, the newest one counts. A value
that only an older source refuses gets a warning there. `wan-duet schema KIND --on fal` prints the JSON Schema
as the provider states it.

{_aliases()}

"""
_SIZES = """Width x height in pixels. `auto` keeps the shape of the input, with the area of the tier's 16:9
size and each side rounded to a multiple of 16 (5B: 32). An input in one of the three shapes gets the size in
the table.

"""
_PRESETS = """`--preset NAME` fills in what a request leaves out; what it states itself wins. *Check* says how
a request differs from the official settings of its model.

- `official`: what the official code uses for the model, in the table, with its negative prompt and UniPC.
  Kinds of distilled weights (turbo, distill, FastVideo) have none.
- `fal`: the defaults that fal states.
- `draft`: a quick look: the smallest tier, 12 steps, no frames in between.
- the names in the second table: for weights or LoRAs that are distilled for few steps. *Check* recognises
  them by their names, and says when a request has other settings.

"""
_LOCAL = """Every kind runs on this machine, but those that a provider alone offers. If some values of a field
are impossible here, its line says which, and what to do instead.

"""
_SETTINGS = """Every kind has one more field, `local`: an object with settings that only this machine has. It
is never sent, and a provider refuses a request with any of them. On the command line they are flags such as
`--local-nag-scale 5`; in ComfyUI they are the node *Wan Duet Request Local*.

NAG ([paper](https://arxiv.org/abs/2505.21179)) makes a negative prompt act at guidance scale 1, where
distilled models run. CFG-Zero* ([paper](https://arxiv.org/abs/2503.18886)) changes guidance above 1; the
factor is the paper's, applied as ComfyUI's CFGZeroStar applies it, to the clean estimate. Both are *lossy by
choice*: they change the result, and check and receipt say so. A MODEL of ComfyUI is patched with ComfyUI's
nodes instead.

Models are trained on clips of 81 frames, or 121 for the 5B; longer ones tend to repeat or to drift. Two
settings are for those, and both are *lossy by choice*. With `context_frames` each step predicts
overlapping windows of so many frames and averages them, as ComfyUI's *Wan Context Windows* does, with
equal results: memory follows the window, and time the number of windows, which plan and progress count. A
window knows nothing of the others but what overlaps, so it suits motion that goes on and not a story;
`freenoise` and `context_retain_first` hold the windows together. `riflex` is the number k of
[RIFLEx](https://arxiv.org/abs/2502.15894): it lowers one frequency of the positions in time to 0.9 * 2 pi
/ L, with L latent frames of `riflex_frames`, so that up to twice the frames are drawn at once without
repeating.

`prompt_ranges` changes the prompt during a clip: "A fox in a wood." with `0-2s: it runs | 2-5s: it jumps`
draws the first frames with "A fox in a wood. it runs" and the others with "A fox in a wood. it jumps". Each
latent frame attends to its own text in the cross-attention, and to all frames in the self-attention, so
subject and background go on. Borders lie between latent frames, after 4n+1 frames; `plan` and *Check* say
where. `prompt_overlap` lets so many frames on either side of a border attend to both texts. One range has the
bits of a request with that prompt, and the number of forwards stays the same.

`step_cache` skips work in steps that are expected to change little; off, the default, computes every step.
`first-block` compares what the first block adds, `magcache` ([paper](https://arxiv.org/abs/2506.09045)) knows
from measurements of each network how the size of what the blocks add falls with the noise level, and
`easycache` ([paper](https://arxiv.org/abs/2507.02860)) expects the change of the velocity from that of the
latents. All three are *lossy by choice*, decide for each expert by itself, and count what they skipped in the
receipt. MagCache was measured by its authors on Wan 2.2 (A14B, 5B) and 2.1, and here on the embedded model.
[What they save and cost](performance.md#step-caches). A MODEL of ComfyUI is patched with ComfyUI's
*EasyCache* instead.

`container`, `codec` and `bit_depth` say how the file is stored, `scene_threshold` where frames in between
see a cut. On the command line they are also called as in `media convert`: `--codec h265`, and `-o OUT.mov`
sets the container. Nothing that is sampled depends on them. A model draws SDR, so there is no HDR to keep;
alpha, WebM, MKV, WebP and GIF are for `media convert` and *Encode Video*, because the receipt in the file
takes the hash of its frames in MP4 and MOV alone.

"""


def requests_page() -> str:
    """Return the page as Markdown."""
    parts = [_INTRODUCTION, "## Kinds\n\n", _kinds_table(), "\n"]
    for kind in KINDS:
        parts += [f"## {kind}\n\n", _heading(KINDS[kind]), field_markdown(kind), "\n"]
    parts += ["## local\n\n", _SETTINGS, _fields(local_row().fields), "\n", settings_markdown(), "\n"]
    parts += ["## Presets\n\n", _PRESETS, official_markdown(), "\n", distilled_markdown(), "\n"]
    parts += ["## Sizes\n\n", _SIZES, sizes_markdown(), "\n"]
    parts += ["## What a field means on this machine\n\n", _LOCAL, local_markdown(), "\n"]
    parts += ["## Prices\n\n", price_markdown()]
    return "".join(parts)


def field_markdown(kind: str) -> str:
    """Return the fields of a kind as a Markdown table, followed by a table for each object in them."""
    return _fields(field_table(kind))


def sizes_markdown() -> str:
    """Return a Markdown table of the size for every tier and shape, for each family with sizes of its own."""
    groups: dict[str, tuple[Family, list[str]]] = {}
    for family in FAMILIES.values():
        groups.setdefault(repr(family.sizes), (family, []))[1].append(family.name)
    parts = []
    for family, names in groups.values():
        shapes = tuple(next(iter(family.sizes.values())))
        lines = (
            (tier, *("{}x{}".format(*row[shape]) for shape in shapes)) for tier, row in family.sizes.items()
        )
        parts.append(f"{', '.join(names)}:\n\n{_table(('tier', *shapes), lines)}")
    return "\n".join(parts)


def local_markdown() -> str:
    """Return what each field means on this machine, as a Markdown table."""
    return _table(
        ("field", "on this machine"), ((f"`{name}`", rule.meaning) for name, rule in LOCAL_RULES.items())
    )


def settings_markdown() -> str:
    """What each setting of `local` does, in a Markdown table."""
    lines = ((f"`{name}`", meaning) for name, meaning in SETTING_MEANINGS.items())
    return _table(("setting", "on this machine"), lines)


def official_markdown() -> str:
    """Return the settings of the official code for each model, as a Markdown table."""
    head = (
        "model",
        "steps",
        "shift",
        "boundary",
        "guidance, high noise first",
        "frames",
        "per second",
        "source",
    )
    lines = []
    for family in FAMILIES.values():
        if family.steps is None:
            continue
        task = next(iter(sorted(family.tasks - set(DISTILLED_TASKS) - set(IMAGE_TASKS))))
        values = family.official_values(task)
        shift = f"{family.default_shift:g}"
        if family.shift_480p is not None:
            shift += f"; {family.shift_480p:g} at 480p"
        boundary = "" if family.boundary is None else f"{family.boundary:g}"
        scales = ", ".join(f"{scale:g}" for scale in family.guidance)
        times = values["num_frames"], values["frames_per_second"]
        lines.append((family.name, family.steps, shift, boundary, scales, *times, family.source))
    return _table(head, lines)


def distilled_markdown() -> str:
    """Return the settings of distilled weights, as a Markdown table."""
    head = (
        "distilled weights",
        "ask with",
        "steps",
        "shift or sigmas",
        "guidance",
        "boundary",
        "source",
        "as of",
    )
    lines = []
    for known in DISTILLED_WEIGHTS:
        sigmas = ", ".join(f"{sigma:.4g}" for sigma in known.local.get("sigmas", ()))
        levels = sigmas or ("" if known.shift is None else f"shift {known.shift:g}")
        boundary, asked = known.local.get("boundary", ""), f"`--preset {known.preset}`"
        lines.append(
            (known.title, asked, known.steps, levels, known.guidance, boundary, known.source, known.as_of)
        )
    return _table(head, lines)


def price_markdown() -> str:
    """Return the prices of the providers, as a Markdown table."""
    lines = []
    for endpoint, entry in PRICES.items():
        usd = entry["usd"]
        amount = ", ".join(f"{k}: ${v}" for k, v in usd.items()) if isinstance(usd, dict) else f"${usd}"
        unit = entry["unit"].replace("_", " ")
        lines.append((f"`{endpoint}`", amount, f"per {unit}", entry["source"], entry["as_of"]))
    return _table(("endpoint", "price", "unit", "source", "as of"), lines)


def _kinds_table() -> str:
    return _table(
        ("kind", "what", "provider"),
        ((f"[`{kind}`](#{kind})", cls.title, cls.provider) for kind, cls in KINDS.items()),
    )


def _heading(cls: type[WanRequest]) -> str:
    return f"{cls.__doc__}\n\nContract `{cls.contract}` of {cls.provider}, `{cls.endpoint}`.\n\n"


def _fields(table: Sequence[FieldRow]) -> str:
    text = _table(
        ("field", "type", "default", "allowed", "what it is"),
        ((f"`{row.name}`", row.type, _default(row), _allowed(row), row.description) for row in table),
    )
    for row in table:
        if row.fields:
            of = "each of" if row.type.startswith("array") else "the object in"
            text += f"\nIn {of} `{row.name}`:\n\n{_fields(row.fields)}"
    return text


def _default(row: FieldRow) -> str:
    if row.required:
        return "required"
    return "unset" if row.default is None else f"`{json.dumps(row.default, ensure_ascii=False)}`"


def _allowed(row: FieldRow) -> str:
    anywhere = "" if row.range is None else str(row.range)
    if row.enum is not None:
        anywhere = ", ".join(map(str, row.enum))
    elif row.offered and row.type == "string":
        anywhere = row.wanted()
    stated = (f"{row.limit_text(limit)} ({limit.as_of})" for limit in reversed(row.limits))
    return "; ".join(part for part in (anywhere, *stated) if part)


def _table(head: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    head = tuple(head)
    rules = ("---" for _ in head)
    cells = (tuple(str(cell).replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rules, *cells))


if __name__ == "__main__":
    PAGE.write_text(requests_page(), encoding="utf-8")

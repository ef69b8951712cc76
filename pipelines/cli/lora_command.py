"""`wan-duet lora inspect`: prints what a LoRA file contains and what of it fits a model.

Reads the numbers of the LoRA, but no weights of a model.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from ..embedded.toy_model import embedded_loras
from ..errors import RequestError
from .lora_bench_command import add_lora_bench
from .subcommands import add_command, add_group

if TYPE_CHECKING:
    from ..weights.lora.coverage import LoraReport
    from ..weights.lora.lora_file import LoraFile

__all__ = ["add_lora_command"]


def add_lora_command(commands: Any) -> None:
    """Add `lora inspect` and `lora bench` to the commands (what `add_subparsers` returned)."""
    text = "inspect and compare LoRA files"
    verbs = add_group(commands, "lora", text)
    text = (
        "print what a LoRA file contains and, with --model, what of it fits; exit code 2 if nothing fits, or "
        "if it has NaN or only zeros"
    )
    inspect = add_command(verbs, "inspect", _inspect, text)
    inspect.add_argument(
        "file", metavar="FILE", help="a .safetensors file in any LoRA format, a folder of PEFT, or toy/NAME"
    )
    inspect.add_argument("--model", metavar="toy|FOLDER|FILE", help="the model to compare it with")
    inspect.add_argument("--low-model", metavar="FILE", help="its low-noise expert, where --model is a file")
    add_lora_bench(verbs)


def _inspect(options: argparse.Namespace) -> int:
    from ..weights.lora.coverage import describe_lora
    from ..weights.lora.find import LoraSources
    from ..weights.lora.lora_file import read_lora
    from ..weights.lora.values import read_values

    if options.low_model is not None and options.model is None:
        raise RequestError.of("--low-model", "given without --model", "give the high-noise expert as --model")
    lora = read_lora(LoraSources(embedded=embedded_loras()).find(options.file))
    facts, values = describe_lora(lora), read_values(lora)
    others = {network: len(keys) for network, keys in lora.other_networks.items()}
    reports = [] if options.model is None else _reports(lora, options.model, options.low_model)
    if options.json:
        answer = {"file": lora.file.name, **facts.as_dict(), "strangers": len(lora.unknown_keys)}
        answer |= {
            "other_networks": others,
            "without_effect": values.without_effect,
            "damaged": list(values.damaged),
        }
        if reports:
            answer["experts"] = {
                report.expert: {**report.coverage.as_dict(), "refused": reason or None}
                for report, reason in reports
            }
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        print(lora.file.name)
        print(facts.text())
        if lora.unknown_keys:
            print(f"{len(lora.unknown_keys)} unknown keys, such as {', '.join(lora.unknown_keys[:3])}")
        for network, count in others.items():
            print(f"{count} keys of {network}, which have no effect here")
        for line in values.lines():
            print(f"warning: {line}")
        for report, reason in reports:
            print(f"refused: {reason}" if reason else report.summary())
    usable = any(not reason for _, reason in reports) if reports else bool(lora.changes)
    return 0 if usable and values.usable else 2


def _reports(lora: LoraFile, model: str, low: str | None) -> list[tuple[LoraReport, str]]:
    """Return, for each expert, the report at strength 1 and the reason to refuse it, if any."""
    from ..loading.wan_model import read_experts
    from ..weights.lora.attach import cover, refusal
    from ..weights.lora.coverage import LoraReport, describe_lora

    facts = describe_lora(lora)
    found = [
        LoraReport(lora.file, expert, 1.0, facts, cover(recipe, lora, expert))
        for expert, recipe in read_experts(model, low).items()
    ]
    return [(report, refusal(report)) for report in found]

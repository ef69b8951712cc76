"""Reports what is in a LoRA file, and how much of it fits an expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .delta import by
from .guess import Base, Intended, guess_base, guess_expert
from .lora_file import LoraFile

__all__ = ["Coverage", "LoraFacts", "LoraReport", "Misfit", "describe_lora"]

_EXAMPLES = 3


@dataclass(frozen=True)
class LoraFacts:
    """What a LoRA file contains. Ranks, alphas and scales: the distinct values, ascending.

    alphas_elsewhere: as `LoraFile.alphas_elsewhere`.
    """

    dialect: str
    kinds: tuple[str, ...]
    keys: int
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    scales: tuple[float, ...]
    base: Base
    intended: Intended
    alphas_elsewhere: bool = False

    def text(self) -> str:
        alphas = f"alpha {_span(self.alphas)}" if self.alphas else "no alpha"
        lines = [
            f"dialect: {self.dialect}",
            f"contains: {', '.join(self.kinds) or 'nothing'} in {self.keys} keys",
            f"rank {_span(self.ranks) if self.ranks else 'none'}, {alphas}, effective scale "
            f"{_span(self.scales) if self.scales else 1}",
            f"made for: {self.base.name}{_according_to(self.base.evidence)}",
        ]
        if self.intended.expert:
            lines.append(f"intended for: {self.intended.expert}{_according_to([self.intended.evidence])}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        return {
            "dialect": self.dialect,
            "kinds": list(self.kinds),
            "ranks": list(self.ranks),
            "alphas": list(self.alphas),
            "scales": list(self.scales),
            "base": {
                "name": self.base.name,
                "version": self.base.version,
                "size": self.base.size,
                "task": self.base.task,
                "evidence": list(self.base.evidence),
            },
            "intended": {"expert": self.intended.expert, "evidence": self.intended.evidence},
        }


@dataclass(frozen=True)
class Misfit:
    """A change whose shape differs from the parameter's: (out, everything else) of both."""

    key: str
    found: tuple[int | None, int | None]
    needed: tuple[int, int]

    def __str__(self) -> str:
        rows, columns = self.found
        if rows is not None and columns is not None:
            found = f"shape {by((rows, columns))}"
        elif rows is not None:
            found = f"{rows} rows"
        else:
            found = "rotations of another width" if columns is None else f"{columns} columns"
        return f"{self.key} has {found}, the model has {by(self.needed)}"


@dataclass(frozen=True)
class Coverage:
    """How the keys of a file match the parameters of one expert.

    tensors:    number of parameters that are changed.
    matched:    keys that change them, with alphas and magnitudes.
    unmatched:  keys of modules that the expert does not have, and unknown keys.
    image_path: keys of the image encoder path of Wan 2.1, for an expert without one. They do not count.
    misfits:    changes of another shape; `misfit_keys` is the number of their keys.
    blocks:     share of the weight matrices of each block that are changed, 0 to 1.
    other_networks: keys of networks that no LoRA changes here, by network. They do not count.
    """

    tensors: int
    matched: int
    unmatched: tuple[str, ...] = field(repr=False)
    image_path: tuple[str, ...] = field(repr=False)
    misfits: tuple[Misfit, ...] = field(repr=False)
    misfit_keys: int
    blocks: tuple[float, ...] = field(default=(), repr=False)
    other_networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @property
    def share(self) -> float:
        """The share of matched keys among those that count, 0 to 1."""
        counted = self.matched + len(self.unmatched) + self.misfit_keys
        return self.matched / counted if counted else 0.0

    def strip(self) -> str:
        """One character a block; ASCII, because not every console writes more."""
        return "".join(
            "#" if share == 1 else "+" if share >= 0.5 else "-" if share else "." for share in self.blocks
        )

    def lines(self) -> list[str]:
        found = [f"{self.matched} keys matched, {self.tensors} tensors changed"]
        if self.unmatched:
            found.append(f"{len(self.unmatched)} keys not in this model, such as {self.unmatched[0]}")
        if self.misfits:
            found.append(f"{self.misfit_keys} keys of another shape: {self.misfits[0]}")
        if self.image_path:
            found.append(
                f"{len(self.image_path)} keys of the image encoder path of Wan 2.1, which this model does "
                f"not have, such as {self.image_path[0]}"
            )
        for network, keys in self.other_networks.items():
            found.append(f"{len(keys)} keys of {network}, which have no effect here, such as {keys[0]}")
        return found

    def as_dict(self) -> dict[str, Any]:
        return {
            "matched": self.matched,
            "unmatched": len(self.unmatched),
            "image_path": len(self.image_path),
            "mismatched": self.misfit_keys,
            "other_networks": {network: len(keys) for network, keys in self.other_networks.items()},
            "examples": {
                "unmatched": list(self.unmatched[:_EXAMPLES]),
                "image_path": list(self.image_path[:_EXAMPLES]),
                "mismatched": [str(misfit) for misfit in self.misfits[:_EXAMPLES]],
            },
        }


@dataclass(frozen=True)
class LoraReport:
    """One LoRA on one expert at one strength. The file's own scale is multiplied with the strength."""

    file: Path
    expert: str
    strength: float
    facts: LoraFacts
    coverage: Coverage

    @property
    def of_other_expert(self) -> bool:
        """Whether header or file name say that the file was made for the other expert."""
        return self.facts.intended.expert not in ("", "both", self.expert)

    def text(self) -> str:
        return "\n".join((self.file.name, _indented(self.facts.text()), _indented(self.summary())))

    def summary(self) -> str:
        """Return the report without the facts of the file, which are equal for both experts."""
        first, *others = self.coverage.lines()
        notes = [f"{self.expert} at {self.strength:g}: {first}", *(f"  {line}" for line in others)]
        if self.coverage.matched and self.coverage.blocks:
            last = len(self.coverage.blocks) - 1
            notes.append(f"  blocks 0-{last}: {self.coverage.strip()} (# all, + most, - some, . no weights)")
        if self.strength == 0:
            notes.append("  strength 0: no effect")
        if any("DoRA" in kind for kind in self.facts.kinds):
            notes.append(
                "  DoRA: strength interpolates linearly from the base weight (0) to the trained weight (1)"
            )
        if self.of_other_expert:
            intended = self.facts.intended
            source = _according_to([intended.evidence])
            notes.append(f"  note: seems to be made for the {intended.expert}-noise expert{source}")
        return "\n".join(notes)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, with the name of the file, without its folder."""
        return {
            "file": self.file.name,
            "expert": self.expert,
            "strength": self.strength,
            "tensors": self.coverage.tensors,
            "keys": self.coverage.as_dict(),
            **self.facts.as_dict(),
        }


def describe_lora(lora: LoraFile) -> LoraFacts:
    strange = [lora.unknown_keys, *lora.other_networks.values()]
    keys = sum(len(change.keys) for change in lora.changes) + sum(map(len, strange))
    factored = [change for change in lora.changes if change.rank is not None]
    return LoraFacts(
        dialect=lora.dialect,
        kinds=tuple(sorted({change.kind for change in lora.changes})),
        keys=keys,
        ranks=tuple(sorted({change.rank for change in lora.changes if change.rank is not None})),
        alphas=tuple(sorted({change.alpha for change in lora.changes if change.alpha is not None})),
        scales=tuple(sorted({change.scale for change in factored})),
        base=guess_base(lora),
        intended=guess_expert(lora),
        alphas_elsewhere=lora.alphas_elsewhere,
    )


def _span(values: Sequence[float]) -> str:
    few = len(values) <= 2
    return " and ".join(f"{v:g}" for v in values) if few else f"{values[0]:g} to {values[-1]:g}"


def _according_to(evidence: Sequence[str]) -> str:
    return f" (according to {', '.join(evidence)})" if evidence else ""


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())

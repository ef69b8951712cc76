"""The result of a check: one finding per field, the price, and the resolved request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ..errors import Problem, RequestError
from .lora_weight import bare_path
from .prices import Price
from .resolved import Resolved

__all__ = [
    "TOLD",
    "Finding",
    "Report",
    "Status",
    "Tell",
    "found_for_provider",
    "problems_of",
    "side_by_side",
    "silent",
]

_ADDRESS = re.compile(r"://[^\s'\"]+")  # may hold a password or a token

Status = Literal["supported", "adjusted", "impossible", "warning"]
TOLD: tuple[Status, ...] = ("adjusted", "warning")
"""What every run says: what is not used as asked, and what may not be expected."""


@dataclass(frozen=True)
class Finding:
    """What a runner does with one field. `asked` and `used` are JSON values. None means unset."""

    field: str
    status: Status
    asked: Any
    used: Any
    reason: str

    def text(self) -> str:
        change = (
            f"{_shown(self.asked)} -> {_shown(self.used)}"
            if self.status == "adjusted"
            else _shown(self.asked)
        )
        return f"{self.status}: {self.field} {change}: {self.reason}"

    def line(self) -> str:
        """Return the finding as a run says it: the field and the reason."""
        return f"{self.status} {self.field}: {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_share(self) -> dict[str, Any]:
        """Return JSON values for a receipt, which is passed on: a path without its folders."""
        if not self.field.endswith(".path"):
            return self.as_dict()
        paths = {"asked": self.asked, "used": self.used}
        return {**self.as_dict(), **{name: path and bare_path(path) for name, path in paths.items()}}


Tell = Callable[[Sequence[Finding]], None]  # how a run says findings to its user


def silent(findings: Sequence[Finding]) -> None:
    """Say nothing: whoever calls reads the findings in the receipt."""
    del findings


@dataclass(frozen=True)
class Report:
    """The result of a check.

    model:    name of the model family; None for a provider, or without a model.
    resolved: the request with every value decided; None if a value is impossible.
    official: how it differs from what the official code uses for the model; empty if it does not.
    expected_s: seconds that the run is expected to take; None if unknown.
    """

    runner: str
    kind: str
    model: str | None
    findings: tuple[Finding, ...]
    price: Price
    resolved: Resolved | None = None
    expected_s: float | None = None
    official: str = ""

    def require(self) -> Resolved:
        """Return the resolved request. Raises RequestError that lists all impossible values."""
        if self.resolved is None:
            raise RequestError(self.problems)
        return self.resolved

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def adjustments(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.status == "adjusted")

    @property
    def told(self) -> tuple[Finding, ...]:
        """The findings that every run says."""
        return tuple(finding for finding in self.findings if finding.status in TOLD)

    def with_findings(self, more: Iterable[Finding]) -> Report:
        """Return the report with findings that only the run could make, without those that it has."""
        new = (finding for finding in more if finding not in self.findings)
        return replace(self, findings=(*self.findings, *new))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The impossible values, for a RequestError."""
        return problems_of(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, for receipts and `--json`."""
        return {
            "runner": self.runner,
            "kind": self.kind,
            "model": self.model,
            "findings": [finding.as_dict() for finding in self.findings],
            "price": asdict(self.price),
            "ok": self.ok,
            "resolved": None if self.resolved is None else self.resolved.as_dict(),
            "expected_s": self.expected_s,
            "official": self.official,
        }

    def table(self) -> dict[str, Any]:
        """Return the report as JSON values for a table by field, with values as `text` shows them."""
        return {
            "runner": self.runner if self.model is None else f"{self.runner} on {self.model}",
            "kind": self.kind,
            "ok": self.ok,
            "price": self.price.text(),
            "amount": self.price.amount(),
            "seconds": _seconds(self),
            "official": self.official,
            "findings": [
                {
                    "field": finding.field,
                    "status": finding.status,
                    "asked": _shown(finding.asked),
                    "used": _shown(finding.used),
                    "reason": finding.reason,
                }
                for finding in self.findings
            ],
        }

    def text(self) -> str:
        """Return the report as text: can run or not, then every field that is not used as asked."""
        where = self.runner if self.model is None else f"{self.runner} on {self.model}"
        others = [finding for finding in self.findings if finding.status != "supported"]
        as_asked = sum(finding.status == "supported" for finding in self.findings)
        verdict = "can run" if self.ok else "cannot run"
        return "\n".join(
            [
                f"{self.kind} {verdict} ({where})",
                *(f"  {finding.text()}" for finding in others),
                f"  {as_asked} fields as asked",
                *([f"  {self.official}"] if self.official else []),
                f"  price: {self.price.text()}",
            ]
        )


def problems_of(findings: Iterable[Finding]) -> tuple[Problem, ...]:
    """Return the impossible values among findings, for a RequestError."""
    return tuple(
        Problem(finding.field, f"asked for {_shown(finding.asked)}", finding.reason)
        for finding in findings
        if finding.status == "impossible"
    )


def side_by_side(reports: Sequence[Report]) -> str:
    """Return a table of several runners as text, with the reasons of adjustments and refusals below it."""
    fields = dict.fromkeys(finding.field for report in reports for finding in report.findings)
    table = [["", *(report.runner for report in reports)]]
    table.append(["can run", *("yes" if report.ok else "no" for report in reports)])
    table.append(["price", *(report.price.amount() for report in reports)])
    table.append(["seconds", *(_seconds(report) for report in reports)])
    table += [[field, *(_verdict(report, field) for report in reports)] for field in fields]
    return "\n\n".join(["\n".join(aligned(table)), *(report.text() for report in reports)])


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of a table as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _seconds(report: Report) -> str:
    return "unknown" if report.expected_s is None else f"about {report.expected_s:.0f}"


def _verdict(report: Report, field: str) -> str:
    found = {finding.status: finding for finding in report.findings if finding.field == field}
    for status in ("impossible", "adjusted", "warning", "supported"):
        if status in found:
            used = _shown(found[status].used)
            return f"{status}: {used[:30]}" if status == "adjusted" else status
    return "-"


def _shown(value: Any) -> str:
    text = "unset" if value is None else _ADDRESS.sub("://...", str(value))
    return text if len(text) <= 60 else text[:57] + "..."


def found_for_provider(found: Sequence[Finding], findings: Sequence[Finding], provider: str) -> list[Finding]:
    """Leave out what is wrong with files of a field that is refused: no other file would help.

    found: in the files. findings: about the fields of the request.
    """
    refused = {_field_of(finding) for finding in findings if finding.status == "impossible"}
    left = [finding for finding in found if _field_of(finding) not in refused]
    return [_without_expert(finding) for finding in left] if provider == "novita" else left


def _without_expert(finding: Finding) -> Finding:
    """Change the remedy for a LoRA of the other expert: Novita has no field for it."""
    if not finding.field.endswith(".transformer"):
        return finding
    fact = finding.reason.rpartition(": ")[0]
    return replace(finding, reason=f"{fact}: at Novita no expert can be chosen, so it may not act as made")


def _field_of(finding: Finding) -> str:
    return finding.field.partition("[")[0]

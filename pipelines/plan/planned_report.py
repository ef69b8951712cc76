"""What only a plan can tell of a request, as findings of its check."""

from __future__ import annotations

from dataclasses import replace

from ..errors import RequestError
from ..request.report import Finding, Report
from .families import Family
from .plan import make_plan

__all__ = ["planned_report"]


def planned_report(report: Report, family: Family) -> Report:
    """Return the report of a local run with what its plan refuses, such as a phase that gets no step.

    Unchanged while the size is unknown, because it is that of an input that was not measured.
    """
    if report.resolved is None or report.resolved.size is None:
        return report
    try:
        make_plan(report.resolved, family, 0)
    except RequestError as error:
        refused = [
            Finding(problem.field, "impossible", None, None, f"{problem.found}; {problem.fix}")
            for problem in error.problems
        ]
        return replace(report.with_findings(refused), resolved=None)
    return report

"""Says the findings of a run: in its node, in the console, and in the history of ComfyUI's API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from server import PromptServer

from ..pipelines.request import Finding

if TYPE_CHECKING:
    from pathlib import Path

    from ..pipelines.loading.host_model import AnyModel
    from .comfy_interface import ui

__all__ = ["FINDINGS", "NodeFindings", "colour_findings", "notes_of_model", "with_findings"]

log = logging.getLogger(__name__)

FINDINGS = "wan_duet_findings"  # the key in the history, and the event for the page

_LEVELS = {"warning": logging.WARNING}

_shown: set[str] = set()  # nodes that show findings of their last run


class NodeFindings:
    """The findings of one execution of a node."""

    def __init__(self, node_id: str | None) -> None:
        self._node_id = node_id
        self.found: list[Finding] = []

    def tell(self, findings: Sequence[Finding]) -> None:
        """Show these findings below the earlier ones, each once. With none, removes those of the last run."""
        findings = [finding for finding in findings if finding not in self.found]
        self.found.extend(findings)
        for finding in findings:
            log.log(_LEVELS.get(finding.status, logging.INFO), "%s", finding.line())
        if self._node_id is None or not (self.found or self._node_id in _shown):
            return
        # Not as progress text: clients of the API take that for a result.
        shown = {"node": self._node_id, FINDINGS: _as_dicts(self.found)}
        PromptServer.instance.send_sync(FINDINGS, shown, PromptServer.instance.client_id)
        (_shown.add if self.found else _shown.discard)(self._node_id)

    def notes_on(self, field: str, name: str) -> Callable[[str], None]:
        """Return a function that shows a note on the file `name` of an input."""
        return lambda note: self.tell([Finding(field, "warning", name, None, note)])


def with_findings(
    shown: ui.SavedImages | ui.PreviewImage | ui.PreviewVideo | None, findings: Sequence[Finding]
) -> dict[str, Any] | None:
    """Return what a node shows, and beside it its findings; None for nothing at all."""
    preview = {} if shown is None else shown.as_dict()
    found = {FINDINGS: _as_dicts(findings)} if findings else {}
    return {**preview, **found} or None


def colour_findings(field: str, file: Path, name: str) -> list[Finding]:
    """Return what readers do with the colours of HDR. name: of the file, for its user."""
    from ..pipelines.video.hdr import note_on_colours

    note = note_on_colours(file)
    return [Finding(field, "warning", name, None, note)] if note else []


def _as_dicts(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [finding.as_dict() for finding in findings]


def notes_of_model(node_id: str | None, model: AnyModel) -> dict[str, Any] | None:
    """Say in the node that loads a model what its user should know, such as exchanged files."""
    findings, name = NodeFindings(node_id), model.family.name
    findings.tell([Finding("model", "warning", name, name, note) for note in model.notes])
    return with_findings(None, findings.found)

"""An order, the job that comes of it as the journal knows it, and how its states may follow each other.

    intent ──> submitting ──> submitted ──> running ──> completed ──> done
                   │              ^
                   └──> unknown ──┘

Any of them may also end as failed, what is at the provider as lost, and what is not completed as cancelled.
`Journal.reopen` leads back from failed and lost, when the user wants the provider asked once more.

`intent`: nothing was sent. `submitting`: a request may be on its way. `unknown`: it was, and the answer is
lost. `completed`: paid for and its result known, the file not here yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import JobFailedError, JobLostError, JobStoppedError, JournalError, Money, RemoteError
from ..request.prices import Price
from ..request.report import Finding
from .provider import Outcome, Payload, RemoteFile, Submitted

__all__ = ["FOLLOWS", "OPEN", "Job", "Order", "State", "outcome_json"]

State = Literal[
    "intent",
    "submitting",
    "unknown",
    "submitted",
    "running",
    "completed",
    "done",
    "failed",
    "cancelled",
    "lost",
]

FOLLOWS: Mapping[State, frozenset[State]] = {
    "intent": frozenset({"submitting", "failed", "cancelled"}),
    "submitting": frozenset({"submitted", "unknown", "failed"}),
    "unknown": frozenset({"submitted", "failed"}),
    "submitted": frozenset({"running", "completed", "failed", "cancelled", "lost"}),
    "running": frozenset({"completed", "failed", "cancelled", "lost"}),
    "completed": frozenset({"done", "lost"}),
}
OPEN: frozenset[State] = frozenset(FOLLOWS)


@dataclass(frozen=True)
class Order:
    """What to buy.

    payload: for `endpoint` of `provider`, with an explicit seed. A file to upload is written as "sha256:...",
             so equal orders are equal.
    out:     the wanted path of the file; its suffix is replaced by that of the result.
    about:   what the receipt says about the request; JSON.
    """

    provider: str
    endpoint: str
    payload: Payload
    out: Path
    price: Price
    about: Mapping[str, Any]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the provider does otherwise than asked, or than the user may expect."""
        return _findings(self.about)


@dataclass(frozen=True)
class Job:
    """One row; the fields are the columns. Times are seconds since 1970, prices US dollars.

    payload_sha256: of what was ordered: with provider, endpoint and account it tells whether two jobs are the
                    same. payload_json: its written form.
    sent_json:      the written form of what was sent, with addresses where the order has hashes.
    about_json:     what the receipt says of the request.
    out_path:       where the user wants the file; file_path is where it is, or will be, without replacing
                    another one.
    money:          of this row; an open job that has none spent is still counted as if, because it may be.
    stop_asked:     the user wants it stopped, and whoever owns the job has to see to it.
    told:           the user knows that the state of this job is unknown, and may buy it again.
    owner:          the token of who works on it.
    price_high:     the most of what it was expected to cost, None where unknown.
    charged:        what it did cost, None where the provider does not say.
    known_at:       when the provider was last seen to have the job under way, to about a minute.
    completed_at:   when the provider was first seen to have it completed.
    """

    job_id: str
    provider: str
    account: str
    endpoint: str
    payload_sha256: str
    payload_json: str
    about_json: str
    out_path: str
    state: State
    money: Money
    stop_asked: bool
    told: bool
    owner: str | None
    price_usd: float | None
    price_high: float | None
    price_text: str
    charged: float | None
    created_at: float
    updated_at: float
    sent_at: float | None = None
    closed_at: float | None = None
    sent_json: str | None = None
    request_id: str | None = None
    status_url: str | None = None
    response_url: str | None = None
    cancel_url: str | None = None
    outcome_json: str | None = None
    file_path: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    error: str | None = None
    known_at: float | None = None
    completed_at: float | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """As of the order. Empty for a job of an older version."""
        return _findings(json.loads(self.about_json))

    @property
    def is_open(self) -> bool:
        return self.state in OPEN

    def delivered(self) -> Job:
        """Return the job if its file is here. Else raises a RemoteError that says what happened to it."""
        if self.file is not None:
            return self
        if self.state == "done":
            text = f"its file was saved as {self.file_path}, and has since been moved, changed or deleted"
            raise self.as_error(JobLostError, text)
        kinds = {"cancelled": JobStoppedError, "lost": JobLostError}
        kind = kinds.get(self.state, JobFailedError)
        raise self.as_error(kind, self.error or f"the job is {self.state}")

    def as_error(self, kind: Callable[..., RemoteError], message: str) -> RemoteError:
        """Return an error of `kind` with the provider, the request and whether money was spent."""
        return kind(message, provider=self.provider, money=self.money, request_id=self.request_id)

    @property
    def submitted(self) -> Submitted:
        """The ids to ask the provider about the job. Only for jobs with a request id."""
        if self.request_id is None:
            raise JournalError(f"job {self.job_id} is {self.state} and has no request id")
        return Submitted(self.endpoint, self.request_id, self.status_url, self.response_url, self.cancel_url)

    @property
    def outcome(self) -> Outcome:
        """The result. Only for completed jobs."""
        values = json.loads(self.outcome_json or "null")
        return Outcome(**{**values, "files": tuple(RemoteFile(**file) for file in values["files"])})

    @property
    def seed(self) -> int | None:
        """The seed that was used, or None if it is not known. Only for completed jobs."""
        reported, ordered = self.outcome.seed, self.ordered("seed")
        return ordered if reported is None else reported

    @property
    def prompt(self) -> str | None:
        """The prompt that was used, or None if it is not known. Only for completed jobs."""
        reported, ordered = self.outcome.prompt, self.ordered("prompt")
        return ordered if reported is None else reported

    def ordered(self, field: str) -> Any:
        """Return a value of the payload, also from the groups of some endpoints. None if it is not there."""
        payload: dict[str, Any] = json.loads(self.payload_json)
        groups = [payload, *(payload.get(group) for group in ("input", "parameters"))]
        return next((group[field] for group in groups if isinstance(group, dict) and field in group), None)

    @property
    def kind(self) -> str:
        """The kind of the request, such as "text-to-video"."""
        return str(json.loads(self.about_json)["kind"])

    @property
    def file(self) -> Path | None:
        """The finished file, if it still exists as it was written, else None."""
        if self.state != "done" or self.file_path is None:
            return None
        file = Path(self.file_path)
        try:
            return file if file.stat().st_size == self.size_bytes else None
        except OSError:
            return None


def _findings(about: Mapping[str, Any]) -> tuple[Finding, ...]:
    return tuple(Finding(**finding) for finding in about.get("findings", ()))


def outcome_json(outcome: Outcome) -> str:
    """Return an outcome as JSON text. The inverse of `Job.outcome`."""
    files = [vars(file) for file in outcome.files]
    return json.dumps({**vars(outcome), "files": files, "raw": dict(outcome.raw)}, ensure_ascii=False)

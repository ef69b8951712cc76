"""What Novita takes that is not about the video."""

from __future__ import annotations

from typing import ClassVar, Literal

from .base import StrictModel

__all__ = ["NovitaExtra", "NovitaTestMode", "NovitaWebhook"]


class NovitaTestMode(StrictModel):
    """Answers without a run, to try the wiring."""

    contract: ClassVar[str] = "NovitaTestMode"

    enabled: bool = False
    return_task_status: Literal["TASK_STATUS_SUCCEED", "TASK_STATUS_FAILED"]


class NovitaWebhook(StrictModel):
    """Where Novita reports the end of a task."""

    contract: ClassVar[str] = "NovitaWebhook"

    url: str
    test_mode: NovitaTestMode | None = None


class NovitaExtra(StrictModel):
    """What is not about the video."""

    contract: ClassVar[str] = "NovitaExtra"

    webhook: NovitaWebhook | None = None

"""The file object in the result of a provider."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["ResultFile"]


class ResultFile(BaseModel):
    """A result file at a provider. Unknown keys are ignored, because a provider may add some.

    file_size: in bytes.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    url: str
    content_type: str | None = None
    file_name: str | None = None
    file_size: int | None = None
    file_data: str | None = None

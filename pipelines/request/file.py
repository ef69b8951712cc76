"""A file as a provider names it in a result."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["File"]


class File(BaseModel):
    """Where a result is. A provider may add keys: what is not named here is left aside.

    file_size: in bytes.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    url: str
    content_type: str | None = None
    file_name: str | None = None
    file_size: int | None = None
    file_data: str | None = None

"""The request language: kinds of request, their fields and limits, and the check against a runner."""

from __future__ import annotations

from .base import WanRequest
from .check import check
from .fields import SEED_MAX
from .kinds import (
    KINDS,
    WanLoRAT2VRequest,
    WanLoRAT2VRequest_llms_161,
    WanT2VRequest,
    class_of,
    describe_kinds,
    field_table,
    json_schema,
    kind_of,
)
from .local_rules import LocalAbilities
from .lora import LoRAWeight
from .parse import parse, t2v_request
from .report import Finding, Report
from .rows import FieldRow
from .socket import RequestWithMedia

__all__ = [
    "KINDS",
    "SEED_MAX",
    "FieldRow",
    "Finding",
    "LoRAWeight",
    "LocalAbilities",
    "Report",
    "RequestWithMedia",
    "WanLoRAT2VRequest",
    "WanLoRAT2VRequest_llms_161",
    "WanRequest",
    "WanT2VRequest",
    "check",
    "class_of",
    "describe_kinds",
    "field_table",
    "json_schema",
    "kind_of",
    "parse",
    "t2v_request",
]

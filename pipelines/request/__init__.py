"""The request language: kinds of request, their fields and limits, and the check against a runner."""

from __future__ import annotations

from .base import WanRequest
from .check import RUNNERS, check, check_all
from .fields import SEED_MAX
from .file import File
from .image_size import ImageSize
from .kinds import KINDS, class_of, describe_kinds, field_table, json_schema, kind_of, kinds_of, seed_of
from .local_rules import LocalAbilities
from .lora import LegacyLoRAWeight, LoRAWeight, NovitaLoRA
from .novita_rules import for_novita
from .parse import parse, read_json, request_for, t2v_request, with_lora
from .prices import Price, estimate
from .report import Finding, Report, side_by_side
from .rows import MEDIA, FieldRow
from .socket import Medium, RequestWithMedia, bind, bind_task

__all__ = [
    "KINDS",
    "MEDIA",
    "RUNNERS",
    "SEED_MAX",
    "FieldRow",
    "File",
    "Finding",
    "ImageSize",
    "LegacyLoRAWeight",
    "LoRAWeight",
    "LocalAbilities",
    "Medium",
    "NovitaLoRA",
    "Price",
    "Report",
    "RequestWithMedia",
    "WanRequest",
    "bind",
    "bind_task",
    "check",
    "check_all",
    "class_of",
    "describe_kinds",
    "estimate",
    "field_table",
    "for_novita",
    "json_schema",
    "kind_of",
    "kinds_of",
    "parse",
    "read_json",
    "request_for",
    "seed_of",
    "side_by_side",
    "t2v_request",
    "with_lora",
]

"""Defines what can be asked for, and checks a request against a runner: kinds, fields, limits, prices."""

from __future__ import annotations

from .base import WanRequest
from .check import RUNNERS, check
from .comparison import check_all
from .field_case import LocalAbilities
from .field_rows import MEDIA, FieldRow, local_row
from .image_size import ImageSize
from .kinds import (
    KIND_NAMES,
    KINDS,
    LOCAL_KINDS,
    SENDABLE,
    class_of,
    describe_kinds,
    field_table,
    json_schema,
    kinds_of,
)
from .lora_weight import LegacyLoRAWeight, LoRAWeight, NovitaLoRA
from .media_facts import MediaFacts
from .novita_words import NOVITA_MODELS, NovitaModel, for_novita
from .parse import parse, read_json, read_list, read_loras, request_for, t2v_request, with_local, with_lora
from .prices import Price, estimate
from .report import Finding, Report, side_by_side
from .request_with_media import Medium, RequestWithMedia, bind, bind_task
from .resolved import Resolved
from .seeds import SEED_MAX, seed_for_run, seed_of

__all__ = [
    "KINDS",
    "KIND_NAMES",
    "LOCAL_KINDS",
    "MEDIA",
    "NOVITA_MODELS",
    "RUNNERS",
    "SEED_MAX",
    "SENDABLE",
    "FieldRow",
    "Finding",
    "ImageSize",
    "LegacyLoRAWeight",
    "LoRAWeight",
    "LocalAbilities",
    "MediaFacts",
    "Medium",
    "NovitaLoRA",
    "NovitaModel",
    "Price",
    "Report",
    "RequestWithMedia",
    "Resolved",
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
    "kinds_of",
    "local_row",
    "parse",
    "read_json",
    "read_list",
    "read_loras",
    "request_for",
    "seed_for_run",
    "seed_of",
    "side_by_side",
    "t2v_request",
    "with_local",
    "with_lora",
]

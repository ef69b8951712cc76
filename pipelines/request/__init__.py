"""The request language: kinds of request, their fields and limits, and the check against a runner."""

from __future__ import annotations

from .a14b_image import WanI2IRequest, WanLoRAT2IRequest, WanT2IRequest
from .a14b_video import (
    WanI2VRequest,
    WanI2VRequest_llms_121,
    WanLoRAI2VRequest,
    WanLoRAT2VRequest,
    WanLoRAT2VRequest_llms_161,
    WanS2VRequest,
    WanT2VRequest,
    WanTurboI2VRequest,
    WanTurboT2VRequest,
    WanV2VRequest,
)
from .base import WanRequest
from .case import LocalAbilities
from .check import RUNNERS, check, check_all
from .file import File
from .image_size import ImageSize
from .kinds import (
    KINDS,
    SENDABLE,
    class_of,
    describe_kinds,
    field_table,
    json_schema,
    kind_of,
    kinds_of,
)
from .legacy import Wan22LoRAT2VRequest, Wan22T2VRequest
from .lora import LegacyLoRAWeight, LoRAWeight, NovitaLoRA
from .media_facts import MediaFacts
from .novita import NovitaWan21I2VRequest, NovitaWan21T2VRequest
from .novita22 import NovitaWan22I2VRequest, NovitaWan22T2VRequest
from .novita_words import NOVITA_MODELS, NovitaModel, for_novita
from .parse import parse, read_json, read_list, read_loras, request_for, t2v_request, with_lora
from .prices import Price, estimate
from .report import Finding, Report, side_by_side
from .resolved import Resolved
from .rows import MEDIA, FieldRow
from .seeds import SEED_MAX, seed_for_run, seed_of
from .small import (
    WanDistillT2VRequest,
    WanSmallFastVideoT2VRequest,
    WanSmallI2VRequest,
    WanSmallT2IRequest,
    WanSmallT2VRequest,
)
from .socket import Medium, RequestWithMedia, bind, bind_task

__all__ = [
    "KINDS",
    "MEDIA",
    "NOVITA_MODELS",
    "RUNNERS",
    "SEED_MAX",
    "SENDABLE",
    "FieldRow",
    "File",
    "Finding",
    "ImageSize",
    "LegacyLoRAWeight",
    "LoRAWeight",
    "LocalAbilities",
    "MediaFacts",
    "Medium",
    "NovitaLoRA",
    "NovitaModel",
    "NovitaWan21I2VRequest",
    "NovitaWan21T2VRequest",
    "NovitaWan22I2VRequest",
    "NovitaWan22T2VRequest",
    "Price",
    "Report",
    "RequestWithMedia",
    "Resolved",
    "Wan22LoRAT2VRequest",
    "Wan22T2VRequest",
    "WanDistillT2VRequest",
    "WanI2IRequest",
    "WanI2VRequest",
    "WanI2VRequest_llms_121",
    "WanLoRAI2VRequest",
    "WanLoRAT2IRequest",
    "WanLoRAT2VRequest",
    "WanLoRAT2VRequest_llms_161",
    "WanRequest",
    "WanS2VRequest",
    "WanSmallFastVideoT2VRequest",
    "WanSmallI2VRequest",
    "WanSmallT2IRequest",
    "WanSmallT2VRequest",
    "WanT2IRequest",
    "WanT2VRequest",
    "WanTurboI2VRequest",
    "WanTurboT2VRequest",
    "WanV2VRequest",
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
    "read_list",
    "read_loras",
    "request_for",
    "seed_for_run",
    "seed_of",
    "side_by_side",
    "t2v_request",
    "with_lora",
]

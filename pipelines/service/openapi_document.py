"""The OpenAPI document of the service, made from its routes and from the schemas of the requests."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from ..request.kinds import LOCAL_KINDS, class_of, json_schema
from ..version import VERSION
from .http_routes import ROUTES, HttpRoute

__all__ = ["openapi_document"]

_TEXT, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
_TIME = {"type": ["number", "null"], "description": "Seconds since 1970."}
_FILE_TYPES = ("video/mp4", "image/png", "image/jpeg")

_QUERY: dict[str, dict[str, Any]] = {
    "webhook_url": {"type": "string", "description": "https address that is told when the job has ended."},
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    "after": {"type": "string", "description": "Id of the job before the first one of the answer."},
    "variant": {"type": "string", "enum": ["video"], "default": "video"},
}


def openapi_document(kind: str) -> dict[str, Any]:
    """Return the document. kind: of a request that does not say its own."""
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wan Duet",
            "version": VERSION,
            "description": f"Makes videos and images. A request without `kind` is {kind}.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**_SCHEMAS, **_request_schemas(kind)},
        },
    }


def _operation(route: HttpRoute) -> dict[str, Any]:
    success = {"description": route.summary, "content": _content(route.answer)}
    answers = {str(status): success for status in route.success}
    answers |= {str(status): _error(status) for status in route.errors}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": answers,
    }
    if route.body:
        operation["requestBody"] = {"required": True, "content": _body(route.body)}
    if route.is_open:
        operation["security"] = []
    return operation


def _parameters(route: HttpRoute) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": _QUERY[name]} for name in route.query
    ]
    if "{job_id}" in route.path:
        found.append({"name": "job_id", "in": "path", "required": True, "schema": _TEXT})
    if route.body:
        text = "A request with the key of an earlier one is that one, and is not run again."
        limits = {"type": "string", "minLength": 1, "maxLength": 255}
        found.append({"name": "Idempotency-Key", "in": "header", "description": text, "schema": limits})
    return found


def _content(answer: str) -> dict[str, Any]:
    if answer == "file":
        return {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _FILE_TYPES}
    if answer in ("receipt", "openapi"):
        return {"application/json": {"schema": {"type": "object"}}}
    return {"application/json": {"schema": _reference(answer)}}


def _body(form: str) -> dict[str, Any]:
    if form == "job":
        return {"application/json": {"schema": _reference("request")}}
    properties = {**_VIDEO_FORM["properties"], "input_reference": {"type": "string", "format": "binary"}}
    multipart = {**_VIDEO_FORM, "properties": properties}
    return {
        "application/json": {"schema": _reference("video_form")},
        "multipart/form-data": {"schema": multipart},
    }


def _error(status: int) -> dict[str, Any]:
    said: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": _reference("error")}},
    }
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        said["headers"] = {"Retry-After": {"schema": _WHOLE, "description": "Seconds."}}
    return said


def _request_schemas(default: str) -> dict[str, Any]:
    """Return the schema of a request, and those of all kinds that run on this machine.

    A media field takes a data URI alone here, which the schemas of the kinds do not say.
    """
    kinds = {f"request_{kind}": _of_kind(kind, default) for kind in LOCAL_KINDS}
    return {"request": {"anyOf": [_reference(name) for name in kinds]}, **kinds}


def _of_kind(kind: str, default: str) -> dict[str, Any]:
    at = f"#/components/schemas/request_{kind}/$defs/"
    schema: dict[str, Any] = json.loads(json.dumps(json_schema(kind)).replace("#/$defs/", at))
    schema["properties"] = {"kind": {"const": kind}, **schema["properties"]}
    if class_of(kind) is not class_of(default):
        schema["required"] = ["kind", *schema.get("required", ())]
    return schema


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: bool = True, **properties: Any) -> dict[str, Any]:
    named = list(properties) if required else []
    return {"type": "object", "properties": properties, "required": named, "additionalProperties": False}


def _or_null(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"]}


_RESULT = _object(
    url=_TEXT,
    receipt_url=_TEXT,
    media_type={"enum": list(_FILE_TYPES)},
    size_bytes=_WHOLE,
    sha256=_TEXT,
    frames_sha256=_or_null("string"),
)
_JOB = _object(
    id=_TEXT,
    object={"const": "job"},
    kind=_TEXT,
    state={"enum": ["waiting", "running", "publishing", "done", "failed", "cancelled"]},
    place=_or_null("string"),
    attempt=_WHOLE,
    seed=_WHOLE,
    created_at=_NUMBER,
    started_at=_TIME,
    ended_at=_TIME,
    seconds=_NUMBER,
    usd=_NUMBER,
    progress={"anyOf": [_object(stage=_TEXT, done=_WHOLE, total=_WHOLE), {"type": "null"}]},
    error=_or_null("string"),
    result={"anyOf": [_RESULT, {"type": "null"}]},
    webhook={"anyOf": [_object(url=_TEXT, state=_or_null("string"), tries=_WHOLE), {"type": "null"}]},
    request={"type": "object"},
)
_VIDEO = _object(
    id=_TEXT,
    object={"const": "video"},
    created_at=_WHOLE,
    completed_at=_or_null("integer"),
    expires_at={"type": "null"},
    status={"enum": ["queued", "in_progress", "completed", "failed"]},
    progress={"type": "integer", "minimum": 0, "maximum": 100},
    model=_TEXT,
    prompt=_or_null("string"),
    seconds=_or_null("string"),
    size=_or_null("string"),
    remixed_from_video_id={"type": "null"},
    error={"anyOf": [_object(code=_TEXT, message=_TEXT), {"type": "null"}]},
)
_VIDEO_FORM: dict[str, Any] = {
    **_object(
        required=False,
        model=_TEXT,
        prompt=_TEXT,
        seconds={"type": "string", "pattern": r"^[0-9]{1,4}(\.[0-9]{1,6})?$"},
        size={"type": "string", "pattern": "^[1-9][0-9]{1,4}x[1-9][0-9]{1,4}$"},
        seed={"type": "string", "pattern": "^[0-9]{1,20}$"},
        input_reference={"type": "string", "description": "A data URI."},
    ),
    "required": ["prompt"],
}
_SCHEMAS: dict[str, Any] = {
    "job": _JOB,
    "jobs": _object(
        object={"const": "list"},
        data={"type": "array", "items": _reference("job")},
        has_more={"type": "boolean"},
    ),
    "video": _VIDEO,
    "videos": _object(
        object={"const": "list"},
        data={"type": "array", "items": _reference("video")},
        has_more={"type": "boolean"},
    ),
    "video_form": _VIDEO_FORM,
    "deleted": _object(id=_TEXT, object={"enum": ["job.deleted", "video.deleted"]}, deleted={"const": True}),
    "health": _object(status={"const": "ok"}, version=_TEXT, model=_TEXT, waiting=_WHOLE, lanes=_WHOLE),
    "error": _object(
        error=_object(
            message=_TEXT,
            type=_TEXT,
            param=_or_null("string"),
            code=_TEXT,
            problems={"type": "array", "items": _object(field=_TEXT, found=_TEXT, fix=_TEXT)},
        )
    ),
}

"""`/openapi.json`: OpenAPI 3.1 from the records and the table of operations, with this server's limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, TypeAlias

import msgspec

from omnirt_lab.records import MAX_PROMPT_CHARS, AnyEvent
from omnirt_lab.records.api import ErrorBody, GenerateBody
from omnirt_lab.records.images import ImageEditForm, ImageGenerateBody
from omnirt_server.limits import Limits
from omnirt_server.operations import FORM, JSON, OPERATIONS, SOCKETS, Answer, Operation, Socket, Type

Schema: TypeAlias = dict[str, Any]
"""A part of the document: JSON of its own specification."""

REF: Final = "#/components/schemas/{name}"

EVERYWHERE: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""Errors that each route may answer; 404 also where another site's page asks."""

_SECURITY: Final[list[Schema]] = [{"bearer": []}, {"token": []}]

_SECURITY_SCHEMES: Final[Schema] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The server's token."},
    "token": {"type": "apiKey", "in": "query", "name": "token", "description": "The same, where no header can be set."},
}

_ABOUT: Final = (
    "Runs requests as jobs, and shows every job of the journal, live. `x-limits` has what this server takes at most, "
    "`x-websockets` its WebSockets, and `x-event` what their messages and the `data` of server-sent events are."
)

_SAYS_SOMETHING: Final[Schema] = {"type": "string", "pattern": r"\S"}


def contract(limits: Limits, *, base_url: str, is_metrics_open: bool) -> Schema:
    """The document of a server with these limits below `base_url`."""
    return _Contract(limits, is_metrics_open=is_metrics_open).document(base_url)


class _Contract:
    def __init__(self, limits: Limits, *, is_metrics_open: bool) -> None:
        self._limits = limits
        self._open = {operation.path for operation in OPERATIONS if operation.is_open}
        self._open |= {"/metrics"} if is_metrics_open else set()
        types = _types()
        schemas, self._components = msgspec.json.schema_components(types, ref_template=REF)
        self._schema_of = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}

    def document(self, base_url: str) -> Schema:
        paths: Schema = {}
        for operation in OPERATIONS:
            paths.setdefault(operation.path, {})[operation.method] = self._operation(operation)
        return {
            "openapi": "3.1.0",
            "info": {"title": "OmniRT Lab", "version": version("omnirt-lab"), "description": _ABOUT},
            "servers": [{"url": base_url}],
            "security": _SECURITY,
            "paths": paths,
            "components": {"schemas": self._components, "securitySchemes": _SECURITY_SCHEMES},
            "x-limits": msgspec.to_builtins(self._limits) | {"prompt_chars": MAX_PROMPT_CHARS},
            "x-event": self._schema(AnyEvent),
            "x-websockets": {socket.path: self._socket(socket) for socket in SOCKETS},
        }

    def _operation(self, operation: Operation) -> Schema:
        errors = {*EVERYWHERE, *operation.errors} - operation.answers.keys()
        answers = {str(status): self._answer(answer) for status, answer in operation.answers.items()}
        failure = {JSON: {"schema": self._schema(ErrorBody)}} if operation.method != "head" else {}
        failures = {
            str(int(status)): {"description": HTTPStatus(status).phrase, "content": failure} for status in errors
        }
        described: Schema = {
            "operationId": operation.name,
            "summary": operation.summary,
            "parameters": [*_path_parameters(operation.path), *self._parameters(operation)],
            "responses": dict(sorted((answers | failures).items())),
        }
        if operation.path in self._open:
            described["security"] = []
        if operation.body is not None:
            described["requestBody"] = {"required": True, "content": {operation.body_type: self._body(operation)}}
        return described

    def _answer(self, answer: Answer) -> Schema:
        content = {
            media_type: {} if kind is None else {"schema": self._schema(kind)}
            for media_type, kind in answer.content.items()
        }
        links = {
            name: {"operationId": name, "parameters": {"job_id": "$response.body#/job_id"}} for name in answer.links
        }
        return {"description": answer.description, "content": content} | ({"links": links} if links else {})

    def _parameters(self, operation: Operation) -> list[Schema]:
        headers = [
            {"name": header.name, "in": "header", "description": header.description, "schema": dict(header.schema)}
            for header in operation.headers
        ]
        if operation.query is None:
            return headers
        fields = self._components[_name_of(self._schema(operation.query))]["properties"]
        return headers + [{"name": name, "in": "query", "schema": _given(field)} for name, field in fields.items()]

    def _body(self, operation: Operation) -> Schema:
        """The record, and what this server asks of it beyond its shape."""
        narrower = _NARROWER[operation.body](self._limits)
        schema = {"allOf": [self._schema(operation.body), narrower]}
        if operation.body_type == FORM:
            schema = self._form(operation, narrower)
        return {"schema": schema}

    def _form(self, operation: Operation, narrower: Schema) -> Schema:
        """The record's fields and the files, in one object: a form has no other way to hold both."""
        record = self._components[_name_of(self._schema(operation.body))]
        properties = {name: _given(field) for name, field in record["properties"].items()}
        for name, field in narrower["properties"].items():
            properties[name] = properties.get(name, {}) | field
        return {**record, "properties": properties, "required": [*record["required"], *narrower["required"]]}

    def _socket(self, socket: Socket) -> Schema:
        return {
            "summary": socket.summary,
            "parameters": _path_parameters(socket.path),
            "takes": self._schema(socket.takes),
            "sends": {"anyOf": [self._schema(kind) for kind in socket.sends]},
            "maxMessageBytes": self._limits.message_bytes,
            "closeCodes": {str(code): why for code, why in socket.close_codes.items()},
        }

    def _schema(self, kind: Type) -> Schema:
        return self._schema_of[id(kind)]


def _types() -> list[Type]:
    """Every record that the document shows."""
    answers = (
        kind for operation in OPERATIONS for answer in operation.answers.values() for kind in answer.content.values()
    )
    asked = (kind for operation in OPERATIONS for kind in (operation.query, operation.body))
    messages = (kind for socket in SOCKETS for kind in (socket.takes, *socket.sends))
    return [ErrorBody, AnyEvent, *(kind for kind in (*answers, *asked, *messages) if kind is not None)]


def _path_parameters(path: str) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _given(field: Schema) -> Schema:
    """A field's schema where there is no null: in a query or a form it is left out instead."""
    if "anyOf" not in field:
        return field
    (schema,) = (choice for choice in field["anyOf"] if choice != {"type": "null"})
    return dict(schema)


def _name_of(schema: Mapping[str, str]) -> str:
    return schema["$ref"].rpartition("/")[2]


def _narrower_generate(limits: Limits) -> Schema:
    inputs = {"type": "object", "required": ["prompt"], "properties": {"prompt": _SAYS_SOMETHING}}
    adapters: Schema = {"items": {"properties": {"source": {"enum": list(limits.allowed_adapters)}}}}
    compiling: Schema = {} if limits.allow_compile else {"properties": {"compile": {"enum": [False, None]}}}
    properties = {
        "inputs": inputs,
        "config": compiling,
        "adapters": adapters if limits.allowed_adapters else {"maxItems": 0},
    }
    return {"type": "object", "required": ["inputs"], "properties": properties}


def _narrower_images(limits: Limits) -> Schema:  # noqa: ARG001  # as the others
    return {"type": "object", "properties": {"prompt": _SAYS_SOMETHING}}


def _narrower_edit(limits: Limits) -> Schema:
    about = f"A picture of at most {limits.picture_px:,} pixels."
    picture = {"type": "string", "format": "binary", "description": about}
    return {"required": ["image"], "properties": {"prompt": _SAYS_SOMETHING, "image": picture, "mask": picture}}


_NARROWER: Final[dict[Type, Callable[[Limits], Schema]]] = {
    GenerateBody: _narrower_generate,
    ImageGenerateBody: _narrower_images,
    ImageEditForm: _narrower_edit,
}
"""A body → what this server wants of it that its record cannot say, since not every server does."""

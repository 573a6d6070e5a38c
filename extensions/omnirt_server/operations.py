"""The routes as the contract describes them: one line each, by the records that the handlers take and answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

from omnirt_lab.records import AnyEvent, GenerateResult, RunReport
from omnirt_lab.records.api import (
    CancelAcknowledged,
    CancelAction,
    GenerateBody,
    Health,
    JobPage,
    JobView,
    Model,
    ModelList,
    RunPage,
    StreamError,
)
from omnirt_lab.records.images import ImageEditForm, ImageGenerateBody, ImagesAnswer
from omnirt_lab.records.realtime import ClientMessage, ServerMessage
from omnirt_server.queries import EventsQuery, JobsQuery, RunsQuery, TraceQuery

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"

Type: TypeAlias = Any
"""A record, or a union of some: what `msgspec.json.schema_components` takes."""


@dataclass(frozen=True)
class Header:
    """A header of a request."""

    name: str

    description: str

    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True)
class Answer:
    """What a route answers when all is well."""

    description: str

    content: Mapping[str, Type | None] = field(default_factory=dict)
    """Media type → record; None for what is no JSON."""

    links: tuple[str, ...] = ()
    """Operations that take the `job_id` that stands in the answer."""


@dataclass(frozen=True)
class Operation:
    """One method of one route."""

    method: str

    path: str
    """As OpenAPI writes it: `/v1/jobs/{job_id}`."""

    name: str

    summary: str

    answers: Mapping[int, Answer]

    query: Type | None = None

    headers: tuple[Header, ...] = ()

    body: Type | None = None

    body_type: str = JSON

    errors: tuple[int, ...] = ()
    """Statuses beside those that every route may answer."""

    is_open: bool = False
    """Answers without a token."""


@dataclass(frozen=True)
class Socket:
    """One WebSocket."""

    path: str

    summary: str

    takes: Type

    sends: tuple[Type, ...]

    close_codes: Mapping[int, str]


_LAST_EVENT_ID: Final = Header(
    "Last-Event-ID",
    "Id of the last event that the client got; the stream goes on behind it.",
    {"type": "string", "pattern": "^[0-9]{1,18}$"},
)

_MAKES_A_JOB: Final = (
    Header("traceparent", "W3C Trace Context, which the job's trace continues; a malformed one is ignored."),
    Header(
        "Idempotency-Key",
        "A second request with the same key gets the first one's job.",
        {"type": "string", "pattern": "^[\\x21-\\x7e]{1,200}$"},
    ),
)

_JOB_ERRORS: Final = (
    HTTPStatus.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.INSUFFICIENT_STORAGE,
)
"""The job was cancelled, failed, found no place, was lost with its worker; the disk is full."""

_OF_A_JOB: Final = ("getJob", "cancelJob", "getJobEvents", "getJobTrace")

_FILE: Final = dict.fromkeys(("image/png", "video/mp4", "audio/wav", "application/octet-stream"))

_CONDITIONS: Final = (
    Header("If-None-Match", "The file's ETag, its sha256 in quotes: answered 304."),
    Header("Range", "A part of the file, `bytes=first-last`."),
)


def _artifact(method: str, summary: str, content: Mapping[str, Type | None]) -> Operation:
    return Operation(
        method,
        "/v1/artifacts/{sha256}",
        f"{method}Artifact",
        summary,
        {
            200: Answer("The file.", content),
            206: Answer("The part that was asked for.", content),
            304: Answer("The client has it."),
        },
        headers=_CONDITIONS,
        errors=(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,),
    )


OPERATIONS: Final = (
    Operation(
        "get",
        "/healthz",
        "getHealth",
        "Whether the server lives",
        {200: Answer("It does.", {JSON: Health})},
        is_open=True,
    ),
    Operation(
        "get",
        "/readyz",
        "getReadiness",
        "Whether the server can do its work",
        {200: Answer("It can.", {JSON: Health}), 503: Answer("It cannot, and why.", {JSON: Health})},
        is_open=True,
    ),
    Operation(
        "get",
        "/metrics",
        "getMetrics",
        "The server's and the jobs' series, for Prometheus",
        {200: Answer("By `Accept`.", dict.fromkeys((CONTENT_TYPE_PLAIN_0_0_4, CONTENT_TYPE_LATEST)))},
    ),
    Operation("get", "/openapi.json", "getContract", "This document", {200: Answer("OpenAPI 3.1.", {JSON: None})}),
    Operation(
        "get",
        "/v1/models",
        "listModels",
        "The models that requests may name, and who serves them",
        {200: Answer("Allowed and published ones.", {JSON: ModelList})},
    ),
    Operation(
        "get",
        "/v1/models/{model}",
        "getModel",
        "One model",
        {200: Answer("The model.", {JSON: Model})},
    ),
    Operation(
        "post",
        "/v1/generate",
        "generate",
        "Run a request, and wait for its result or not",
        {
            200: Answer("The result.", {JSON: GenerateResult}),
            202: Answer("The queued job, where `async_run` is set.", {JSON: JobView}, _OF_A_JOB),
        },
        headers=_MAKES_A_JOB,
        body=GenerateBody,
        errors=_JOB_ERRORS,
    ),
    Operation(
        "post",
        "/v1/images/generations",
        "generateImages",
        "OpenAI's Images API: pictures from a prompt",
        {200: Answer("The pictures.", {JSON: ImagesAnswer}, _OF_A_JOB)},
        headers=_MAKES_A_JOB,
        body=ImageGenerateBody,
        errors=_JOB_ERRORS,
    ),
    Operation(
        "post",
        "/v1/images/edits",
        "editImage",
        "OpenAI's Images API: a picture, changed",
        {200: Answer("The pictures.", {JSON: ImagesAnswer}, _OF_A_JOB)},
        headers=_MAKES_A_JOB,
        body=ImageEditForm,
        body_type=FORM,
        errors=_JOB_ERRORS,
    ),
    Operation(
        "get",
        "/v1/jobs",
        "listJobs",
        "Jobs, the latest first",
        {200: Answer("A page.", {JSON: JobPage})},
        query=JobsQuery,
    ),
    Operation(
        "get", "/v1/jobs/{job_id}", "getJob", "One job, with its result", {200: Answer("The job.", {JSON: JobView})}
    ),
    Operation(
        "delete",
        "/v1/jobs/{job_id}",
        "cancelJob",
        "Stop a job",
        {200: Answer("It has ended.", {JSON: JobView}), 202: Answer("It will be stopped.", {JSON: JobView})},
    ),
    Operation(
        "get",
        "/v1/jobs/{job_id}/events",
        "getJobEvents",
        "A job's events as server-sent events, up to the terminal one; each `data` is one of the records in x-event",
        {200: Answer("The stream.", {"text/event-stream": None})},
        query=EventsQuery,
        headers=(_LAST_EVENT_ID,),
    ),
    Operation(
        "get",
        "/v1/jobs/{job_id}/preview",
        "getJobPreview",
        "The picture that a running job predicts, at most 256 px; never to be kept",
        {200: Answer("The latest one; `X-OmniRT-Step` says after how many steps.", {"image/jpeg": None})},
    ),
    Operation(
        "get",
        "/v1/jobs/{job_id}/trace",
        "getJobTrace",
        "A job's spans, as far as it has come, without the prompts: times in nanoseconds since it was enqueued, "
        "OTLP/JSON, or a Chrome trace",
        {200: Answer("The trace, in the `format` that was asked for.", {JSON: None})},
        query=TraceQuery,
    ),
    Operation(
        "get",
        "/v1/runs",
        "listRuns",
        "The history, newest first",
        {200: Answer("The runs that match.", {JSON: RunPage})},
        query=RunsQuery,
    ),
    Operation(
        "get", "/v1/runs/{run_id}", "getRun", "One run's report", {200: Answer("The report.", {JSON: RunReport})}
    ),
    _artifact("get", "A file that a run made", _FILE),
    _artifact("head", "Whether the file is there, and how large it is", {}),
)

SOCKETS: Final = (
    Socket(
        "/v1/jobs/{job_id}/stream",
        "A job's events, and cancelling it",
        CancelAction,
        (AnyEvent, CancelAcknowledged, StreamError),
        {1000: "the terminal event was sent", 1009: "the message is too large", 4404: "there is no such job"},
    ),
    Socket(
        "/v1/realtime",
        "OpenAI's Realtime API, for pictures; the key may come as the subprotocol `openai-insecure-api-key.KEY`",
        ClientMessage,
        (ServerMessage,),
        {1009: "the message is too large"},
    ),
)

"""What the hosted API takes and answers, shared by the server, its contract and its client."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from omnirt_lab.records.base import JobState, Record, Task
from omnirt_lab.records.history import RunRow
from omnirt_lab.records.report import GenerateResult
from omnirt_lab.records.requests import Adapter, Config, GenerateRequest, Inputs

MAX_PRIORITY: Final = 9

Priority: TypeAlias = Annotated[int, msgspec.Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]
"""Bounded, since each priority is a series of `omnirt_queue_depth`."""


class GenerateBody(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/generate`: a request, and how to wait for it."""

    task: Task = "text2image"

    model: str = "tiny-shapes"

    backend: str = "local"

    inputs: Inputs = msgspec.field(default_factory=Inputs)

    config: Config = msgspec.field(default_factory=Config)

    adapters: tuple[Adapter, ...] = ()

    async_run: bool = False
    """Answer 202 with the job at once, rather than the result when it is there."""

    priority: Priority = 0
    """Higher runs first."""

    def to_request(self) -> GenerateRequest:
        """What is wanted, without how to wait for it."""
        return GenerateRequest(
            task=self.task,
            model=self.model,
            backend=self.backend,
            inputs=self.inputs,
            config=self.config,
            adapters=self.adapters,
        )


class JobView(Record, frozen=True, kw_only=True):
    """A job as the API shows it."""

    job_id: str
    """32 hex digits."""

    run_id: str
    """16 hex digits."""

    trace_id: str
    """32 hex digits."""

    state: JobState

    task: Task

    model: str

    prompt: str

    priority: int

    is_async: bool

    cancel_requested: bool

    worker_id: str | None

    enqueued_at_ms: int
    """Wall clock, milliseconds since 1970."""

    started_at_ms: int | None

    ended_at_ms: int | None

    result: GenerateResult | None = None
    """Of a job that ended, where one job was asked for; a failed one's report is partial."""


class JobPage(Record, frozen=True, kw_only=True):
    """Jobs, the latest first."""

    jobs: tuple[JobView, ...]

    next_before: str | None
    """`before` of the next page; None on the last one."""


class RunPage(Record, frozen=True, kw_only=True):
    """Runs, the latest first."""

    runs: tuple[RunRow, ...]


class ApiError(Record, frozen=True, kw_only=True):
    """What went wrong, in the shape that OpenAI's clients read."""

    message: str

    type: str
    """`invalid_request_error`, `authentication_error`, `not_found_error`, `rate_limit_error`, `server_error` …"""

    code: str
    """A stable slug, such as `unknown_model`."""

    param: str | None = None

    hint: str | None = None
    """What to do next."""


class ErrorBody(Record, frozen=True, kw_only=True):
    """Body of every answer that is an error."""

    error: ApiError


class CancelAction(Record, frozen=True, kw_only=True):
    """The one message that a job's WebSocket takes: stop the job."""

    action: Literal["cancel"]


class CancelAcknowledged(Record, frozen=True, kw_only=True, tag_field="type", tag="cancel_acknowledged"):
    """The wish to cancel is stored; the terminal event follows when the worker has stopped."""

    job_id: str

    state: JobState


class StreamError(Record, frozen=True, kw_only=True, tag_field="type", tag="error"):
    """A message of the client that was not understood; the connection stays."""

    error: ApiError


class Model(Record, frozen=True, kw_only=True):
    """One entry of `GET /v1/models`, with OpenAI's fields first."""

    id: str

    object: Literal["model"] = "model"

    created: int
    """Seconds since 1970."""

    owned_by: str
    """`omnirt-lab` for what the server may load, `notebook` for a published pipeline."""

    workers: tuple[str, ...] = ()
    """Ids of the live workers that serve it now."""


class ModelList(Record, frozen=True, kw_only=True):
    """Body of `GET /v1/models`."""

    data: tuple[Model, ...]

    object: Literal["list"] = "list"


class Health(Record, frozen=True, kw_only=True):
    """Body of `GET /healthz` and `/readyz`."""

    status: Literal["ok", "unavailable"]

    checks: dict[str, str] = {}
    """What was looked at → `ok`, or what is wrong with it."""

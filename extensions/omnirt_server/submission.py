"""Checks what a stranger asks for, and makes it a job."""

from __future__ import annotations

import re
from typing import Final

from omnirt_lab.errors import InvalidRequestError, ModelNotAllowedError
from omnirt_lab.journal import JobRecord, Journal, published_queue
from omnirt_lab.records import GenerateRequest
from omnirt_lab.records.base import Record
from omnirt_server.limits import Limits

DEFAULT_MODEL: Final = GenerateRequest().model
"""What OpenAI's routes take where the client names none."""

RUNNER_QUEUE: Final = "runner"
"""Jobs that the server's own runners take."""

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")


class Caller(Record, frozen=True, kw_only=True):
    """What the headers of a request say about the job that it makes."""

    traceparent: str | None = None
    """W3C Trace Context; one that is malformed is ignored, as its specification asks."""

    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        if self.idempotency_key is not None and not _IDEMPOTENCY_KEY.fullmatch(self.idempotency_key):
            raise InvalidRequestError(
                "the Idempotency-Key is not 1 to 200 printable ASCII characters",
                hint="Send a UUID, made anew for each job that you want.",
            )


def queue_for(journal: Journal, limits: Limits, model: str) -> str:
    """Where a job for `model` waits: for the notebook that has published it, else for the server's runner.

    Raises
    ------
    ModelNotAllowedError
        If it is neither published nor allowed.
    """
    published = [worker.model for worker in journal.live_workers() if worker.model is not None]
    if model in published:
        return published_queue(model)
    if model in limits.allowed_models:
        return RUNNER_QUEUE
    known = ", ".join(dict.fromkeys([*limits.allowed_models, *published]))
    raise ModelNotAllowedError(
        f"this server does not serve the model {model[:200]!r}",
        hint=f"It serves: {known}. Allow more with `omnirt serve --model`, or publish a pipeline from a notebook.",
    )


def submit(
    journal: Journal, limits: Limits, request: GenerateRequest, *, priority: int = 0, caller: Caller | None = None
) -> JobRecord:
    """Make the request a job that waits for a worker.

    Raises
    ------
    InvalidRequestError, UnknownModelError
        For what the server does not do for strangers.
    ArtifactNotFoundError
        If an input is no stored picture.
    QueueFullError
        If the queue is full.
    """
    _require_allowed(limits, request)
    for sha256 in (request.inputs.image, request.inputs.mask):
        if sha256 is not None:
            journal.artifacts.path(sha256)
    caller = caller or Caller()
    parent = _TRACEPARENT.fullmatch(caller.traceparent or "")
    return journal.enqueue(
        request,
        trace_id=parent[1] if parent else None,
        parent_span_id=parent[2] if parent else None,
        priority=priority,
        is_async=True,
        idempotency_key=caller.idempotency_key,
        max_queued=limits.queued_jobs,
        queue=queue_for(journal, limits, request.model),
    )


def _require_allowed(limits: Limits, request: GenerateRequest) -> None:
    if not request.inputs.prompt.strip():
        raise InvalidRequestError("the prompt is empty", hint="Say what the picture shall show.")
    foreign = [adapter.source for adapter in request.adapters if adapter.source not in limits.allowed_adapters]
    if foreign:
        raise InvalidRequestError(
            f"this server does not load the adapter {foreign[0][:200]!r}",
            hint="The operator can allow it: OmniRTApp.allowed_adapters.",
        )
    if request.config.compile and not limits.allow_compile:
        raise InvalidRequestError(
            "this server compiles nothing for requests",
            hint="Leave compile out. The operator can allow it: OmniRTApp.allow_compile.",
        )

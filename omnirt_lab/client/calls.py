"""Each call of the API as a value: what is sent, and how the answer is read. Both clients send these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Generic, Literal, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote

import msgspec

from omnirt_lab.client.failures import ServerError, error_of
from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.records import Adapter, Config, ExecutionMode, GenerateResult, Inputs, JobState, Json, RunReport, Task
from omnirt_lab.records.api import GenerateBody, Health, JobPage, JobView, ModelList, RunPage

T = TypeVar("T")

TraceFormat: TypeAlias = Literal["omnirt", "otlp", "chrome"]

_INPUTS: Final = frozenset(Inputs.__struct_fields__) - {"prompt"}
_CONFIG: Final = frozenset(Config.__struct_fields__)
_BODY: Final = frozenset({"task", "model", "adapters", "priority"})


class Wish(TypedDict, total=False):
    """What a request may say beside its prompt; `omnirt_lab.records` describes each field."""

    task: Task
    model: str
    adapters: tuple[Adapter, ...]
    priority: int
    negative_prompt: str | None
    image: str | None
    mask: str | None
    steps: int | None
    guidance_scale: float | None
    seed: int | None
    width: int | None
    height: int | None
    num_images: int
    scheduler: str | None
    dtype: str | None
    device: str | None
    execution_mode: ExecutionMode
    timeout_s: float | None
    options: dict[str, Json]


class RunFilter(TypedDict, total=False):
    """Which runs; one that is left out excludes none."""

    model: str
    task: Task
    state: JobState
    since_ms: int
    prompt: str
    tag: str
    limit: int
    offset: int


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its answer is read."""

    path: str
    """Below the server's base URL, without a slash in front."""

    read: Callable[[bytes], T]

    method: str = "GET"

    query: Mapping[str, str | int] = field(default_factory=dict)

    headers: Mapping[str, str] = field(default_factory=dict)

    content: bytes | None = None

    is_waiting: bool = False
    """The answer comes when the work is done, however long that takes."""

    accepted: frozenset[int] = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED})

    def answer(self, status: int, content: bytes) -> T:
        """What the server's answer says.

        Raises
        ------
        LabError
            The one that the server answered.
        """
        if status not in self.accepted:
            raise error_of(status, content)
        try:
            return self.read(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServerError(
                f"the answer to {self.method} {self.path} is not what the contract says: {error}",
                hint="Check that the address is a lab's server, and that both have the same version.",
                status=status,
            ) from error


def generate(prompt: str, wish: Wish, *, traceparent: str | None, idempotency_key: str | None) -> Call[GenerateResult]:
    """Run it, and answer when it has ended."""
    return Call(
        "v1/generate",
        _reader(GenerateResult),
        method="POST",
        headers=_headers(traceparent, idempotency_key),
        content=_body(prompt, wish, is_async=False),
        is_waiting=True,
    )


def submit(prompt: str, wish: Wish, *, traceparent: str | None, idempotency_key: str | None) -> Call[JobView]:
    """Queue it, and answer at once."""
    return Call(
        "v1/generate",
        _reader(JobView),
        method="POST",
        headers=_headers(traceparent, idempotency_key),
        content=_body(prompt, wish, is_async=True),
    )


def job(job_id: str) -> Call[JobView]:
    """One job, with its result where it has ended."""
    return Call(f"v1/jobs/{_segment(job_id)}", _reader(JobView))


def jobs(state: JobState | None, limit: int, before: str | None) -> Call[JobPage]:
    """A page of jobs."""
    return Call("v1/jobs", _reader(JobPage), query=_given({"state": state, "limit": limit, "before": before}))


def cancel(job_id: str) -> Call[JobView]:
    """Have a job stopped."""
    return Call(f"v1/jobs/{_segment(job_id)}", _reader(JobView), method="DELETE")


def events(job_id: str, last_event_id: int) -> Call[bytes]:
    """The stream of a job's events, behind this one."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(last_event_id)} if last_event_id else {})
    return Call(f"v1/jobs/{_segment(job_id)}/events", bytes, headers=headers)


def trace(job_id: str, trace_format: TraceFormat) -> Call[Json]:
    """A job's spans."""
    query = {} if trace_format == "omnirt" else {"format": trace_format}
    return Call(f"v1/jobs/{_segment(job_id)}/trace", msgspec.json.decode, query=query)


def runs(asked: RunFilter) -> Call[RunPage]:
    """The history."""
    return Call("v1/runs", _reader(RunPage), query=_given(asked))


def report(run_id: str) -> Call[RunReport]:
    """One run's report."""
    return Call(f"v1/runs/{_segment(run_id)}", _reader(RunReport))


def artifact(sha256: str) -> Call[bytes]:
    """A stored file."""
    return Call(f"v1/artifacts/{_segment(sha256)}", bytes)


def preview(job_id: str) -> Call[bytes]:
    """A running job's latest picture."""
    return Call(f"v1/jobs/{_segment(job_id)}/preview", bytes)


def models() -> Call[ModelList]:
    """What the server serves."""
    return Call("v1/models", _reader(ModelList))


def health() -> Call[Health]:
    """Whether the server can do its work."""
    accepted = frozenset({HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE})
    return Call("readyz", _reader(Health), accepted=accepted)


def _body(prompt: str, wish: Wish, *, is_async: bool) -> bytes:
    given: dict[str, object] = dict(wish)
    if unknown := given.keys() - _INPUTS - _CONFIG - _BODY:
        raise InvalidRequestError(
            f"{min(unknown)!r} is no field of a request",
            hint="Arguments of the pipeline's own call go into options={…}.",
        )
    fields: dict[str, Any] = {name: value for name, value in given.items() if name in _BODY}
    try:
        inputs = Inputs(prompt=prompt, **_part(given, _INPUTS))
        body = GenerateBody(
            inputs=inputs, config=Config(**_part(given, _CONFIG)), async_run=is_async, **fields
        )  # a record of the lab: the server decodes the very same one
        return msgspec.json.encode(body)
    except (ValueError, TypeError) as error:
        raise InvalidRequestError(str(error), hint="Nothing was sent.") from error


def _part(given: Mapping[str, object], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in names}


def _headers(traceparent: str | None, idempotency_key: str | None) -> dict[str, str]:
    given = {"traceparent": traceparent, "Idempotency-Key": idempotency_key, "Content-Type": "application/json"}
    return {name: value for name, value in given.items() if value is not None}


def _given(query: Mapping[str, object]) -> dict[str, str | int]:
    return {name: value if isinstance(value, int) else str(value) for name, value in query.items() if value is not None}


def _segment(text: str) -> str:
    return quote(text, safe="")


def _reader(kind: type[T]) -> Callable[[bytes], T]:
    return msgspec.json.Decoder(kind).decode

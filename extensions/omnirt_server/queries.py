"""What routes take after `?`. A name that is not here is refused; no value can be null, it is left out instead."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from omnirt_lab.records import JobState, Record, Task

_MAX_INTEGER: Final = 2**53


class JobsQuery(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs."""

    state: JobState | None = None

    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50

    before: str | None = None
    """Job id: only older ones."""


class RunsQuery(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs."""

    model: str | None = None

    task: Task | None = None

    state: JobState | None = None

    since_ms: Annotated[int, msgspec.Meta(ge=0, le=_MAX_INTEGER)] | None = None
    """Wall clock, milliseconds since 1970."""

    prompt: str | None = None
    """A part of the prompt, in upper or lower case."""

    tag: str | None = None

    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50

    offset: Annotated[int, msgspec.Meta(ge=0, le=_MAX_INTEGER)] = 0


class EventsQuery(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to begin."""

    last_event_id: Annotated[int, msgspec.Meta(ge=0, le=_MAX_INTEGER)] | None = None
    """As the header `Last-Event-ID`, for clients that cannot set one."""


class TraceQuery(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """In which format."""

    format: Literal["omnirt", "otlp", "chrome"] = "omnirt"
    """`omnirt`: the record `Trace`. `otlp`: OpenTelemetry's OTLP/JSON. `chrome`: a file for Perfetto."""

"""A run as a trace: the spans of one job, made by `folds.trace`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from omnirt_lab.records.base import JobState, Record
from omnirt_lab.units import NS_PER_MS

Attribute: TypeAlias = bool | int | float | str | tuple[str, ...]


class TraceSpan(Record, frozen=True, kw_only=True):
    """One timed part of a run, with its place in the trace."""

    span_id: str
    """16 hex digits."""

    parent_span_id: str | None
    """None for a root that no caller's span stands over."""

    name: str

    kind: Literal["job", "stage", "step"]

    start_t_ns: int
    """Since the job was enqueued, as all `t_ns`."""

    end_t_ns: int | None
    """None for a span that is still open, or whose end was never seen because its worker was lost."""

    is_error: bool = False

    message: str | None = None
    """What went wrong; only where texts were asked for, since an exception may quote the prompt."""

    attributes: dict[str, Attribute] = {}
    """Named in `folds.attributes`."""


class Trace(Record, frozen=True, kw_only=True):
    """The spans of one run, the root first."""

    trace_id: str
    """32 hex digits."""

    run_id: str

    job_id: str | None
    """None where only the report is at hand, and its job ran in the caller's thread."""

    state: JobState

    enqueued_at_ms: int
    """Wall clock, milliseconds since 1970: zero of `t_ns`."""

    last_t_ns: int
    """The latest moment that is known of the run."""

    spans: tuple[TraceSpan, ...]

    steps_left_out: int = 0
    """Steps without a span (see `folds.trace.MAX_STEPS`)."""

    def unix_ns(self, t_ns: int) -> int:
        """The moment on the wall clock, nanoseconds since 1970."""
        return self.enqueued_at_ms * NS_PER_MS + t_ns

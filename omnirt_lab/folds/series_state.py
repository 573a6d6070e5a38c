"""What the series know: the counts so far, and what they keep of jobs that have not ended."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from omnirt_lab.folds.histogram import Exemplar, Histogram
from omnirt_lab.folds.shared_calls import SharedTime
from omnirt_lab.records import JobState, MemoryKind, Record, StageTiming, StepTiming

FORMAT: Final = 1
"""Raised when an older state cannot be read on; its counts then begin anew."""

JobLabels: TypeAlias = tuple[str, str, str, JobState]
"""Task, model, execution mode, state."""

MemoryLabels: TypeAlias = tuple[MemoryKind, str]
"""What is counted, and the device."""


class Count(Record, frozen=True, array_like=True):
    """How often, and who was the last."""

    value: int

    exemplar: Exemplar


class ActiveJob(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a job until it ends: labels, ids and times, and nothing that the user wrote."""

    job_id: str

    trace_id: str

    task: str

    model: str

    execution_mode: str
    """What was asked for, until a worker has taken it."""

    started_t_ns: int | None = None
    """None while it is queued."""

    stages: tuple[StageTiming, ...] = ()

    steps: tuple[StepTiming, ...] = ()

    peak_bytes: dict[MemoryLabels, int] = msgspec.field(default_factory=dict)

    batch_group_id: str | None = None
    """Of the call that it shares with others."""


class SeriesState(msgspec.Struct, kw_only=True):
    """All counts so far. `apply` never writes to the one that it was given."""

    format: int = FORMAT

    jobs: dict[JobLabels, Count] = {}

    job_durations: dict[str, Histogram] = {}
    """Of those that succeeded, by model."""

    stages: dict[tuple[str, str], Histogram] = {}
    """By stage and model; `queue` is the wait for a worker."""

    steps: dict[str, Histogram] = {}
    """By model."""

    cache_hits: dict[str, int] = {}

    cache_requests: dict[str, int] = {}
    """Hits and misses."""

    cache_saved_ns: dict[str, int] = {}

    cache_evictions: dict[str, int] = {}

    cache_freed_bytes: dict[str, int] = {}
    """By evictions, as measured."""

    events_dropped: int = 0

    last_peak_bytes: dict[MemoryLabels, int] = {}
    """Of the job that ended last of those that had a reading."""

    active: dict[str, ActiveJob] = {}
    """Job id → the jobs that wait or run."""

    shared: dict[str, frozenset[SharedTime]] = {}
    """Batch group → the times of its call that have been counted; kept while a job of the group is active."""

    names: dict[str, tuple[str, ...]] = {}
    """Kind of label → the names that have a series of their own."""

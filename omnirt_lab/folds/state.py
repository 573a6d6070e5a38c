"""What the report fold remembers between two events."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from omnirt_lab.folds.chain import Chain
from omnirt_lab.records import (
    BackendSpan,
    CacheUse,
    EventMark,
    JobCancelled,
    JobEnqueued,
    JobFailed,
    JobFinished,
    JobLost,
    JobStarted,
    JobState,
    MemoryKind,
    MemorySample,
    ReportWarning,
    Resolved,
    StageTiming,
    StepTiming,
)

Ending: TypeAlias = JobFinished | JobFailed | JobCancelled | JobLost

STATE_AFTER: Final[dict[type[Ending], JobState]] = {
    JobFinished: "succeeded",
    JobFailed: "failed",
    JobCancelled: "cancelled",
    JobLost: "lost",
}


class Measured(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one attempt at the job has shown so far; its dicts are never written to."""

    stages: tuple[StageTiming, ...] = ()

    steps: Chain[StepTiming] = None

    steps_planned: int | None = None

    samples: Chain[MemorySample] = None

    memory_kind: MemoryKind | None = None
    """Of the first figure; figures of another kind are not mixed with it."""

    peak_bytes: dict[str, int] = {}

    baseline_bytes: dict[str, int] = {}

    caches: dict[str, CacheUse] = {}


class ReportState(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything that the events so far have said."""

    job_id: str | None = None

    seq: int = 0

    last_t_ns: int = 0
    """Of the latest event that the job's own process wrote."""

    enqueued: JobEnqueued | None = None

    started: JobStarted | None = None
    """The latest attempt's."""

    ended: Ending | None = None

    attempts: tuple[BackendSpan, ...] = ()

    resolved: Resolved | None = None

    measured: Measured = msgspec.field(default_factory=Measured)

    warnings: tuple[ReportWarning, ...] = ()

    marks: Chain[EventMark] = None

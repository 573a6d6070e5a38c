"""How a job ends: its last events, its state, its report, in one transaction that has one winner."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

from omnirt_lab.folds import report as report_fold
from omnirt_lab.journal import events, runs
from omnirt_lab.journal.clock import monotonic_zero_ns, wall_ms
from omnirt_lab.journal.jobs import JobRecord
from omnirt_lab.records import (
    AnyEvent,
    JobCancelledData,
    JobFailedData,
    JobFinishedData,
    JobLostData,
    RunReport,
    make_event,
)

Ending: TypeAlias = JobFinishedData | JobFailedData | JobCancelledData
"""How the one who runs a job can end it; anybody else can only find it lost."""


def store(connection: sqlite3.Connection, job: JobRecord, all_events: Sequence[AnyEvent], report: RunReport) -> bool:
    """End the job with these events, the terminal one last; False if somebody else has ended it already."""
    won = connection.execute(
        "UPDATE jobs SET state = ?, ended_at_ms = ? WHERE key = ? AND state IN ('queued', 'running')",
        (report.state, wall_ms(), job.key),
    ).rowcount
    if not won:
        return False
    events.append(connection, job.key, all_events[events.last_seq(connection, job.key) :])
    events.pack_job(connection, job.key)
    runs.insert(connection, job.key, report, job.job_id)
    connection.executemany(
        "INSERT INTO artifacts (job, role, position, sha256) VALUES (?, ?, ?, ?)",
        [(job.key, role, position, sha256) for role, position, sha256 in _files_of(report)],
    )
    connection.execute("DELETE FROM previews WHERE job = ?", (job.key,))
    return True


def end_without_worker(
    connection: sqlite3.Connection,
    job: JobRecord,
    data: JobCancelledData | JobFailedData | JobLostData,
    *,
    now_ns: int,
) -> bool:
    """End a job that nobody runs, with the report of what it had done; `now_ns` is this process's monotonic time."""
    known = events.of_job(connection, job.key)
    zero_ns = monotonic_zero_ns(boot=job.boot_id, monotonic_ns=job.monotonic_ns, wall_clock_ms=job.enqueued_at_ms)
    terminal = make_event(data, seq=len(known) + 1, t_ns=max(0, now_ns - zero_ns), timestamp_ms=wall_ms())
    all_events = [*known, terminal]
    return store(connection, job, all_events, report_fold.fold(all_events, job_id=job.job_id))


def _files_of(report: RunReport) -> list[tuple[str, int, str]]:
    inputs = report.request.inputs
    outputs = [("output", position, artifact.sha256) for position, artifact in enumerate(report.artifacts)]
    outputs += [("preview", i, a.preview_sha256) for i, a in enumerate(report.artifacts) if a.preview_sha256]
    return outputs + [(role, 0, sha) for role, sha in (("image", inputs.image), ("mask", inputs.mask)) if sha]

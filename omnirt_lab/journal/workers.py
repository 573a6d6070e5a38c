"""Who runs jobs, and whether it still lives: a lock that its process's death frees."""

from __future__ import annotations

import os
import platform
import re
import secrets
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from filelock import FileLock, Timeout

from omnirt_lab.errors import LabError
from omnirt_lab.journal import ending, events, jobs
from omnirt_lab.journal.clock import wall_ms
from omnirt_lab.journal.database import Database
from omnirt_lab.journal.jobs import JobRecord
from omnirt_lab.journal.state import WORKERS
from omnirt_lab.journal.tail import read_tail, tail_path
from omnirt_lab.records import JobCancelledData, JobLostData, Record

_KIND: Final = re.compile(r"[a-z][a-z0-9_]*")

_PUBLISHED: Final = "published:"


def published_queue(model: str) -> str:
    """Where jobs for a published pipeline wait."""
    return f"{_PUBLISHED}{model}"


class WorkerRecord(Record, frozen=True, kw_only=True):
    """A worker as the journal knows it."""

    worker_id: str

    kind: str

    pid: int

    host: str

    started_at_ms: int

    model: str | None
    """The published pipeline that it serves; None for one that runs what it can load."""


class Worker:
    """Something that executes jobs. Open, it holds the lock on its file; once closed or dead, its jobs are lost."""

    def __init__(self, database: Database, kind: str, *, model: str | None = None) -> None:
        assert _KIND.fullmatch(kind), f"{kind!r} is no kind of worker"
        self.worker_id = f"{kind}-{os.getpid()}-{secrets.token_hex(4)}"
        self.pid = os.getpid()
        self._database = database
        self.is_open = True
        self._lock = _file_lock(_lock_path(database, self.worker_id))
        self._lock.acquire(timeout=0)
        try:
            self._register(kind, model)
        except BaseException:  # an interrupt leaves no lock behind either
            self._free()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the lock. What it still runs becomes lost when the next one looks."""
        if not self.is_open:
            return
        self.is_open = False
        with suppress(LabError), self._database.writing() as connection:
            _end(connection, self.worker_id)
        self._free()

    def _register(self, kind: str, model: str | None) -> None:
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO workers (worker_id, kind, pid, host, started_at_ms, model) VALUES (?, ?, ?, ?, ?, ?)",
                (self.worker_id, kind, self.pid, platform.node(), wall_ms(), model),
            )

    def _free(self) -> None:
        self._lock.release()
        _lock_path(self._database, self.worker_id).unlink(missing_ok=True)


def reap_lost(database: Database) -> list[str]:
    """End the jobs whose worker is gone, and return their ids; of several who look at once, one ends each.

    A job that was queued for its caller's own thread is lost with the caller, and one for a published pipeline with
    the last worker that had it. One that was to be cancelled is cancelled.
    """
    with database.reading() as connection:
        open_ids = [row[0] for row in connection.execute("SELECT worker_id FROM workers WHERE ended_at_ms IS NULL")]
    dead_ids = [worker_id for worker_id in open_ids if _is_free(_lock_path(database, worker_id))]
    with database.reading() as connection:
        has_orphans = bool(_orphans(connection))
    if not dead_ids and not has_orphans:
        return []
    now_ns = time.monotonic_ns()
    with database.writing() as connection:
        for worker_id in dead_ids:
            _end(connection, worker_id)
        orphans = [jobs.get(connection, job_id) for job_id in _orphans(connection)]
        lost = [job.job_id for job in orphans if _lose(connection, job, _tail_of(database, job), now_ns)]
    for job in orphans:
        _tail_of(database, job).unlink(missing_ok=True)
    for worker_id in dead_ids:
        _lock_path(database, worker_id).unlink(missing_ok=True)
    return lost


def _orphans(connection: sqlite3.Connection) -> list[str]:
    """Jobs that wait for, or are run by, a worker that has ended."""
    rows = connection.execute(
        "SELECT job_id FROM jobs JOIN workers USING (worker_id) WHERE state = 'running' AND workers.ended_at_ms "
        "IS NOT NULL UNION ALL SELECT job_id FROM jobs JOIN workers ON workers.worker_id = created_by "
        "WHERE state = 'queued' AND NOT is_async AND workers.ended_at_ms IS NOT NULL UNION ALL "
        "SELECT job_id FROM jobs WHERE state = 'queued' AND is_async AND queue LIKE ? || '%' AND NOT EXISTS "
        "(SELECT * FROM workers WHERE ended_at_ms IS NULL AND queue = ? || model)",
        (_PUBLISHED, _PUBLISHED),
    )
    return [row[0] for row in rows]


def _lose(connection: sqlite3.Connection, job: JobRecord, tail: Path, now_ns: int) -> bool:
    if job.state == "running":
        events.append(connection, job.key, read_tail(tail, after_seq=events.last_seq(connection, job.key)))
    return ending.end_without_worker(connection, job, _fate(job), now_ns=now_ns)


def _tail_of(database: Database, job: JobRecord) -> Path:
    return tail_path(database.path.parent, str(job.worker_id or job.created_by), job.job_id)


def _fate(job: JobRecord) -> JobCancelledData | JobLostData:
    if job.cancel_requested:
        return JobCancelledData(reason="requested")
    worker_id = job.worker_id or job.created_by
    if worker_id is None:
        return JobLostData(reason=f"no worker serves {job.request.model!r} any more")
    return JobLostData(worker_id=job.worker_id, reason=f"worker {worker_id} ended without finishing it")


def live(database: Database) -> list[WorkerRecord]:
    """The workers whose process holds its lock, in the order in which they began."""
    query = (
        "SELECT worker_id, kind, pid, host, started_at_ms, model FROM workers WHERE ended_at_ms IS NULL "
        "ORDER BY started_at_ms, worker_id"
    )
    with database.reading() as connection:
        rows = connection.execute(query).fetchall()
    fields = WorkerRecord.__struct_fields__
    records = [WorkerRecord(**dict(zip(fields, row, strict=True))) for row in rows]
    return [record for record in records if not _is_free(_lock_path(database, record.worker_id))]


def _end(connection: sqlite3.Connection, worker_id: str) -> None:
    connection.execute(
        "UPDATE workers SET ended_at_ms = ? WHERE worker_id = ? AND ended_at_ms IS NULL", (wall_ms(), worker_id)
    )


def _lock_path(database: Database, worker_id: str) -> Path:
    directory = database.path.parent / WORKERS
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory / f"{worker_id}.lock"


def _file_lock(path: Path) -> FileLock:
    return FileLock(path, mode=0o600, thread_local=False)


def _is_free(path: Path) -> bool:
    """Nobody holds it: the kernel frees a dead process's locks."""
    if not path.exists():
        return True
    lock = _file_lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True

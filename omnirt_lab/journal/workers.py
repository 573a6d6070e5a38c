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
from omnirt_lab.journal import ending, jobs
from omnirt_lab.journal.clock import wall_ms
from omnirt_lab.journal.database import Database
from omnirt_lab.records import JobLostData

LOCKS: Final = "workers"

_KIND: Final = re.compile(r"[a-z][a-z0-9_]*")


class Worker:
    """Something that executes jobs. Open, it holds the lock on its file; once closed or dead, its jobs are lost."""

    def __init__(self, database: Database, kind: str) -> None:
        assert _KIND.fullmatch(kind), f"{kind!r} is no kind of worker"
        self.worker_id = f"{kind}-{os.getpid()}-{secrets.token_hex(4)}"
        self.pid = os.getpid()
        self._database = database
        self.is_open = True
        self._lock = _file_lock(_lock_path(database, self.worker_id))
        self._lock.acquire(timeout=0)
        try:
            self._register(kind)
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

    def _register(self, kind: str) -> None:
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO workers (worker_id, kind, pid, host, started_at_ms) VALUES (?, ?, ?, ?, ?)",
                (self.worker_id, kind, self.pid, platform.node(), wall_ms()),
            )

    def _free(self) -> None:
        self._lock.release()
        _lock_path(self._database, self.worker_id).unlink(missing_ok=True)


def reap_lost(database: Database) -> list[str]:
    """End the jobs whose worker is gone, and return their ids; of several who look at once, one ends each.

    A job that was queued for its caller's own thread is lost with the caller.
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
        lost = [job_id for job_id in _orphans(connection) if _lose(connection, job_id, now_ns)]
    for worker_id in dead_ids:
        _lock_path(database, worker_id).unlink(missing_ok=True)
    return lost


def _orphans(connection: sqlite3.Connection) -> list[str]:
    """Jobs that wait for, or are run by, a worker that has ended."""
    rows = connection.execute(
        "SELECT job_id FROM jobs JOIN workers USING (worker_id) WHERE state = 'running' AND workers.ended_at_ms "
        "IS NOT NULL UNION ALL SELECT job_id FROM jobs JOIN workers ON workers.worker_id = created_by "
        "WHERE state = 'queued' AND NOT is_async AND workers.ended_at_ms IS NOT NULL"
    )
    return [row[0] for row in rows]


def _lose(connection: sqlite3.Connection, job_id: str, now_ns: int) -> bool:
    job = jobs.get(connection, job_id)
    worker_id = job.worker_id or job.created_by
    reason = f"worker {worker_id} ended without finishing it"
    return ending.end_without_worker(
        connection, job, JobLostData(worker_id=job.worker_id, reason=reason), now_ns=now_ns
    )


def _end(connection: sqlite3.Connection, worker_id: str) -> None:
    connection.execute(
        "UPDATE workers SET ended_at_ms = ? WHERE worker_id = ? AND ended_at_ms IS NULL", (wall_ms(), worker_id)
    )


def _lock_path(database: Database, worker_id: str) -> Path:
    directory = database.path.parent / LOCKS
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

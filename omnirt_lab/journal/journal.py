"""The journal: durable jobs, events, runs and artifacts of one user, shared by all processes of the machine."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

from omnirt_lab.folds import report as report_fold
from omnirt_lab.journal import ending, events, frame, jobs, previews, runs, snapshots, workers
from omnirt_lab.journal.artifacts import ArtifactStore
from omnirt_lab.journal.background import Background
from omnirt_lab.journal.clock import new_trace_id
from omnirt_lab.journal.cursor import Cursor
from omnirt_lab.journal.database import BUSY_TIMEOUT_S, Database
from omnirt_lab.journal.events import JournalEntry
from omnirt_lab.journal.jobs import JobRecord, Modes
from omnirt_lab.journal.previews import Preview
from omnirt_lab.journal.purge import Purged, freeable_bytes, purge
from omnirt_lab.journal.runs import RunQuery
from omnirt_lab.journal.snapshots import Snapshot
from omnirt_lab.journal.state import usable_directory
from omnirt_lab.journal.workers import Worker, WorkerRecord
from omnirt_lab.journal.writer import JobWriter
from omnirt_lab.records import (
    AnyEvent,
    ErrorInfo,
    GenerateRequest,
    JobCancelledData,
    JobFailedData,
    JobState,
    RunReport,
    RunRow,
)

if TYPE_CHECKING:
    import pandas as pd


class Journal:
    """One state directory, open for this process; safe for any thread, and in a forked child.

    Every method may raise `JournalError` (locked, damaged) or `StateDirError` (full, read-only).
    """

    def __init__(self, directory: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.directory = directory
        self.artifacts = ArtifactStore(directory)
        self._database = Database(directory, busy_timeout_s=busy_timeout_s)
        self._background = Background()
        self._workers: list[Worker] = []
        self._writers = WeakValueDictionary[int, JobWriter]()

    @classmethod
    def open(cls, directory: Path | None = None, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Journal:
        """Open the journal in `directory`, by default the user's, and make it where there is none.

        Raises
        ------
        StateDirError
            If the directory cannot be made or written, or is on a network file system.
        JournalCorruptError, JournalTooNewError
            If the file is damaged, another program's, or a newer lab's; it is left as it is.
        JournalLockedError
            If another process holds it for longer than `busy_timeout_s`.
        """
        return cls(usable_directory(directory), busy_timeout_s=busy_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the workers and every thread's connection; what was written stays."""
        self._background.close()
        for worker in self._workers:
            if worker.pid == os.getpid():
                worker.close()
        self._database.close()

    def close_thread(self) -> None:
        """Close this thread's connection now, before the thread ends; the next thread to open one would do it too."""
        self._database.close_thread()

    def checkpoint(self) -> None:
        """Move what the write-ahead log holds into the journal's file; for idle moments, it may take 40 ms."""
        self._database.checkpoint()

    def enqueue(
        self,
        request: GenerateRequest,
        *,
        trace_id: str | None = None,
        parent_span_id: str | None = None,
        priority: int = 0,
        is_async: bool = False,
        idempotency_key: str | None = None,
        max_queued: int | None = None,
        owner: Worker | None = None,
        queue: str = jobs.LOCAL_QUEUE,
    ) -> JobRecord:
        """Make a job, durable at once; a job that was made with the same `idempotency_key` is returned instead.

        Parameters
        ----------
        is_async
            Any worker may claim it. Otherwise it waits for the caller's thread, and is lost with `owner`, by default
            this process's worker.
        queue
            Where it waits, if it is async: only a worker that claims from this queue takes it.

        Raises
        ------
        QueueFullError
            If `max_queued` jobs are waiting in this queue already.
        InvalidRequestError
            If a text of the request is no Unicode text.
        """
        wish = jobs.new_wish(request, trace_id or new_trace_id(), parent_span_id, priority=priority, is_async=is_async)
        origin = jobs.Origin(
            monotonic_ns=time.monotonic_ns(),
            created_by=None if is_async else (owner or self._own_worker()).worker_id,
            idempotency_key=idempotency_key,
            queue=queue,
        )
        with self._database.writing() as connection:
            return jobs.enqueue(connection, wish, origin, max_queued=max_queued)

    def claim(self, job_id: str, worker: Worker) -> JobWriter | None:
        """Take a queued job; None if another worker was quicker or it was cancelled.

        Raises
        ------
        JobNotFoundError
            If there is no such job.
        """
        with self._database.writing() as connection:
            job = jobs.claim(connection, job_id, worker.worker_id)
            return None if job is None else self._writer(job, events.of_job(connection, job.key))

    def find_next(
        self, queue: str = jobs.LOCAL_QUEUE, *, beside: Collection[str] = (), modes: Modes = None
    ) -> JobRecord | None:
        """The submitted job of this queue whose turn it is, left there; None if none waits, beside those ids."""
        with self._database.reading() as connection:
            return jobs.next_queued(connection, queue, modes, beside=beside)

    def list_queued(self, queue: str = jobs.LOCAL_QUEUE, *, limit: int = 100, modes: Modes = None) -> list[JobRecord]:
        """The submitted jobs that wait in this queue, in the order in which they will be claimed."""
        with self._database.reading() as connection:
            return jobs.in_turn(connection, queue, limit, modes)

    def claim_all(self, job_ids: Iterable[str], worker: Worker) -> list[JobWriter]:
        """Take those of these jobs that are still queued, all at one moment.

        Raises
        ------
        JobNotFoundError
            If one of them does not exist; then none is taken.
        """
        with self._database.writing() as connection:
            claimed = [jobs.claim(connection, job_id, worker.worker_id) for job_id in job_ids]
            return [self._writer(job, events.of_job(connection, job.key)) for job in claimed if job is not None]

    def fail_queued(self, queue: str, error: ErrorInfo, *, modes: Modes = None) -> list[str]:
        """End every job that waits in this queue as failed, where nobody can run it; their ids."""
        data = JobFailedData(error=error)
        now_ns = time.monotonic_ns()
        with self._database.writing() as connection:
            waiting = jobs.all_queued(connection, queue, modes)
            return [job.job_id for job in waiting if ending.end_without_worker(connection, job, data, now_ns=now_ns)]

    def claim_next(self, worker: Worker, queue: str = jobs.LOCAL_QUEUE, *, modes: Modes = None) -> JobWriter | None:
        """Take the submitted job whose turn it is: highest priority first, then oldest; None if none waits."""
        with self._database.writing() as connection:
            job = jobs.claim_next(connection, worker.worker_id, queue, modes)
            return None if job is None else self._writer(job, events.of_job(connection, job.key))

    def get_job(self, job_id: str) -> JobRecord:
        """The job as it is now; `JobNotFoundError` if there is none."""
        with self._database.reading() as connection:
            return jobs.get(connection, job_id)

    def list_jobs(
        self, *, states: Collection[JobState] | None = None, limit: int = 100, before_key: int | None = None
    ) -> list[JobRecord]:
        """The latest jobs first; only those in one of `states` and older than the row `before_key`, where given."""
        with self._database.reading() as connection:
            return jobs.newest(connection, states=states, limit=limit, before_key=before_key)

    def request_cancel(self, job_id: str) -> JobRecord:
        """Have a job stopped, and return it as it is then.

        A queued job ends at once; a running one at its worker's next look; an ended one stays as it is.
        """
        with self._database.writing() as connection:
            job = jobs.get(connection, job_id)
            if job.state == "queued":
                data = JobCancelledData(reason="requested")
                ending.end_without_worker(connection, job, data, now_ns=time.monotonic_ns())
            elif job.state == "running":
                jobs.set_cancel_requested(connection, job.key)
            job = jobs.by_key(connection, job.key)
        if job.cancel_requested and (writer := self._writers.get(job.key)) is not None:
            writer.request_cancel()
        return job

    def is_cancel_requested(self, job_id: str) -> bool:
        """Whether whoever runs the job should stop; about 10 µs."""
        with self._database.reading() as connection:
            return jobs.is_cancel_requested(connection, jobs.get_key(connection, job_id))

    def queue_depth(self) -> dict[int, int]:
        """Priority → jobs that wait for a worker."""
        with self._database.reading() as connection:
            return jobs.queue_depth(connection)

    def events(self, job_id: str, *, after_seq: int = 0) -> list[AnyEvent]:
        """The job's events with a higher `seq`, in order; `JobNotFoundError` if there is no such job."""
        with self._database.reading() as connection:
            return events.of_job(connection, jobs.get_key(connection, job_id), after_seq=after_seq)

    def entries(self, job_id: str, *, after_seq: int = 0, limit: int | None = None) -> list[JournalEntry]:
        """What `events` answers, each with its id."""
        with self._database.reading() as connection:
            rows = events.rows_of_job(connection, jobs.get_key(connection, job_id), after_seq=after_seq, limit=limit)
        return [JournalEntry(id=row[0], job_id=job_id, event=events.to_event(row)) for row in rows]

    def seq_at(self, job_id: str, event_id: int) -> int:
        """`seq` of the job's last event whose id is not higher; 0 before the first."""
        with self._database.reading() as connection:
            return events.seq_at(connection, jobs.get_key(connection, job_id), event_id)

    def cursor(self, *, job_id: str | None = None, after_id: int = 0) -> Cursor:
        """A reader of one job's events, or of all, that begins behind the entry `after_id`."""
        return Cursor(self._database, job_id=job_id, after_id=after_id)

    def find_preview(self, job_id: str) -> Preview | None:
        """The latest preview of a running job."""
        with self._database.reading() as connection:
            return previews.find_preview(connection, jobs.get_key(connection, job_id))

    def last_event_id(self) -> int:
        """The highest id that an event has been given; 0 in a fresh journal."""
        with self._database.reading() as connection:
            return events.last_id(connection)

    def find_snapshot(self, name: str) -> Snapshot | None:
        """What a fold over all jobs had come to when it was last put away."""
        with self._database.reading() as connection:
            return snapshots.find(connection, name)

    def put_snapshot(self, snapshot: Snapshot) -> bool:
        """Put away what a fold over all jobs has come to; False if another process has come further."""
        with self._database.writing() as connection:
            return snapshots.put(connection, snapshot)

    def claim_export(self, job_id: str, target: str) -> bool:
        """Take the right to send a job's trace to `target`; False if somebody has it already."""
        with self._database.writing() as connection:
            return snapshots.claim_export(connection, jobs.get_key(connection, job_id), target)

    def undelivered_spans(self, target: str) -> int:
        """How many spans `target` did not take, over all servers that there were."""
        with self._database.reading() as connection:
            return snapshots.undelivered(connection, target)

    def count_undelivered_spans(self, target: str, more: int) -> None:
        """Remember that `target` did not take these."""
        with self._database.writing() as connection:
            snapshots.undelivered(connection, target, more=more)

    def live_workers(self) -> list[WorkerRecord]:
        """The workers whose process holds its lock, in the order in which they began."""
        return workers.live(self._database)

    def worker(self, kind: str = "kernel", *, model: str | None = None) -> Worker:
        """Register as something that executes jobs; close it, or use it in a `with`.

        Parameters
        ----------
        model
            The one published pipeline that it serves; its jobs wait in the queue `published_queue(model)`.
        """
        worker = Worker(self._database, kind, model=model)
        self._workers.append(worker)
        return worker

    def reap_lost(self) -> list[str]:
        """End the jobs whose worker's process is gone, with the report of what they had done; their ids."""
        return workers.reap_lost(self._database)

    def get_report(self, run_id: str) -> RunReport:
        """The report of a run; six characters of its id will do where no other begins so.

        Of one that has not ended, and only by its whole id, it is the report as far as it has come.

        Raises
        ------
        RunNotFoundError
            If no run, or more than one, has an id that begins so.
        """
        with self._database.reading() as connection:
            job = jobs.find_by_run_id(connection, run_id)
            if job is None or job.is_ended:
                return runs.get_report(connection, run_id)
            return report_fold.fold(events.of_job(connection, job.key), job_id=job.job_id)

    def query_runs(self, query: RunQuery) -> list[RunRow]:
        """The runs that match, newest first."""
        with self._database.reading() as connection:
            return [runs.to_row(row) for row in runs.select(connection, query)]

    def query_columns(self, query: RunQuery, columns: Iterable[str]) -> list[tuple[Any, ...]]:
        """These columns of the `runs` table, as they are stored, of the runs that match."""
        with self._database.reading() as connection:
            return runs.select(connection, query, columns)

    def runs_frame(self, query: RunQuery) -> pd.DataFrame:
        """The runs that match, newest first, as a DataFrame (see `frame.COLUMNS` for its columns)."""
        return frame.to_frame(self.query_columns(query, frame.FRAME_COLUMNS))

    def whole_run_ids(self, run_ids: Iterable[str]) -> tuple[str, ...]:
        """The whole ids, in this order, from at least six of their first characters each.

        Raises
        ------
        RunNotFoundError
            If no run, or more than one, has an id that begins so.
        """
        with self._database.reading() as connection:
            return tuple(runs.get_run_id(connection, run_id) for run_id in run_ids)

    def tag(self, run_ids: str | Collection[str], *tags: str) -> None:
        """Add tags to a run, or to each of several."""
        self._edit(run_ids, lambda connection, run_id: runs.set_tags(connection, run_id, add=tags))

    def untag(self, run_ids: str | Collection[str], *tags: str) -> None:
        """Remove tags from them."""
        self._edit(run_ids, lambda connection, run_id: runs.set_tags(connection, run_id, remove=tags))

    def rate(self, run_ids: str | Collection[str], rating: int | None) -> None:
        """Give them 1 to 5, or None to take the rating back."""
        self._edit(run_ids, lambda connection, run_id: runs.set_rating(connection, run_id, rating))

    def note(self, run_ids: str | Collection[str], note: str | None) -> None:
        """Keep a text beside them."""
        self._edit(run_ids, lambda connection, run_id: runs.set_note(connection, run_id, note))

    def trash(self, run_ids: str | Collection[str]) -> None:
        """Leave them out of the history until they are undeleted or purged."""
        self._edit(run_ids, lambda connection, run_id: runs.set_trashed(connection, run_id, trashed=True))

    def undelete(self, run_ids: str | Collection[str]) -> None:
        """Take them out of the trash."""
        self._edit(run_ids, lambda connection, run_id: runs.set_trashed(connection, run_id, trashed=False))

    def freeable_bytes(self, run_ids: Collection[str]) -> int:
        """What a purge of these runs would free: exact for files, about so for what the journal's file holds."""
        with self._database.reading() as connection:
            return freeable_bytes(connection, self.artifacts, run_ids)

    def purge(self, run_ids: Collection[str] | None = None) -> Purged:
        """Delete these runs, by default all in the trash, with their events and files, for good."""
        return purge(self._database, self.artifacts, run_ids)

    def _edit(self, run_ids: str | Collection[str], change: Callable[[sqlite3.Connection, str], None]) -> None:
        """Change all or, where one of them does not exist or the change is refused, none."""
        with self._database.writing() as connection:
            for run_id in (run_ids,) if isinstance(run_ids, str) else run_ids:
                change(connection, run_id)

    def _writer(self, job: JobRecord, stored: list[AnyEvent]) -> JobWriter:
        writer = JobWriter(self._database, self._background, self.artifacts, job, stored)
        self._writers[job.key] = writer
        return writer

    def _own_worker(self) -> Worker:
        """A worker of this process, whose lock tells whether the caller of a job lives."""
        own = [worker for worker in self._workers if worker.pid == os.getpid() and worker.is_open]
        return own[0] if own else self.worker("caller")

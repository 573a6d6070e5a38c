"""The engine of one process: runs requests in the caller's thread, or queued ones in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final, get_args

from omnirt_lab.engine.failures import failure_of, raise_for
from omnirt_lab.engine.gathering import gather
from omnirt_lab.engine.sharing import execution_of, executions_of
from omnirt_lab.engine.spreading import Done, Party, Spreader
from omnirt_lab.errors import JobCancelledError, JobTimeoutError, LabError
from omnirt_lab.executors import SPREAD, Execution, check_request, close_executors, get_executor
from omnirt_lab.executors.failures import error_info
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal.jobs import LOCAL_QUEUE
from omnirt_lab.records import (
    AnyEvent,
    ExecutionMode,
    GenerateRequest,
    JobCancelledData,
    JobFailedData,
    RunReport,
    StageEnd,
    StageError,
    StageStart,
)
from omnirt_lab.records.events import TIMEOUT

if TYPE_CHECKING:
    from omnirt_lab.engine.inputs import InputFiles
    from omnirt_lab.journal import JobRecord, JobWriter, Journal, Worker

Listener = Callable[[AnyEvent], None]

Attend = Callable[["Journal", "JobWriter"], AbstractContextManager[object]]
"""Stands by while a claimed job runs, as a live view does; the block neither raises nor hides an exception."""

_RETRY_S: Final = 1.0
"""How long the queue's thread leaves a journal alone that is locked or full."""

_HERE: Final = frozenset(get_args(ExecutionMode)) - SPREAD
"""Modes whose jobs the queue's thread runs, one after the other."""

_log: Final = logging.getLogger(__name__)


def unattended(_journal: Journal, _writer: JobWriter) -> AbstractContextManager[object]:
    """Let nobody stand by."""
    return nullcontext()


class Engine:
    """Owns this process's worker identity and its queue thread.

    A request's way: 1. `check` (nothing is loaded or written yet), 2. `journal.enqueue`, 3. `journal.claim`, which
    gives the writer, 4. the executor's run, 5. `writer.finish`, which makes the report.
    """

    def __init__(self, journal: Journal, *, worker_kind: str = "kernel", spread_queue: str = LOCAL_QUEUE) -> None:
        self.journal = journal
        self._worker_kind = worker_kind
        self._worker: Worker | None = None
        self._worker_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()
        self._work_arrived = threading.Event()
        self._is_closing = False
        self._spreader = Spreader(journal, lambda: self.worker, self.work_together, queue=spread_queue)
        self.last_run_id: str | None = None

    @property
    def worker(self) -> Worker:
        """What the journal knows the engine by; registered when it first runs a job, so that reading writes nothing."""
        with self._worker_lock:
            if self._worker is None:
                self._worker = self.journal.worker(self._worker_kind)
            return self._worker

    def check(self, request: GenerateRequest) -> None:
        """Raise for whatever is wrong with `request` that can be known without loading weights."""
        check_request(request)

    def run(
        self,
        request: GenerateRequest,
        *,
        files: InputFiles | None = None,
        listeners: Iterable[Listener] = (),
        attend: Attend = unattended,
        batch_size: int = 1,
    ) -> RunReport:
        """Run `request` in this thread, so that Ctrl-C reaches the pipeline; `files` are stored once it is checked.

        A `batch_size` above 1 makes the picture in a call of that size, with the bits of a run that had company.

        Raises
        ------
        LabError
            Before the job exists: for a bad request. After: `PipelineError`, `ModelLoadError` and `JobCancelledError`
            name the run, whose partial report is in the history.
        """
        self.check(request)
        self._require_inputs(request, files)
        writer = self.start(request)
        writer.listeners.extend(listeners)
        with attend(self.journal, writer):
            return self.execute(writer, execution_of(self.journal, request, writer, batch_size=batch_size))

    def attempt(self, request: GenerateRequest, *, listeners: Iterable[Listener] = ()) -> RunReport:
        """Run a checked request in this thread, and return its report however it ended; only an interrupt is raised."""
        writer = self.start(request)
        writer.listeners.extend(listeners)
        report, error = self._finish(writer, execution_of(self.journal, request, writer))
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        return report

    def attempt_spread(self, requests: Sequence[GenerateRequest], done: Done) -> None:
        """Run checked requests of modes that spread side by side; `done` hears of each in this thread, as it ends.

        An interrupt cancels those that run, and `done` hears of them too before it passes on.
        """

        def finish(writer: JobWriter) -> RunReport:
            request = writer.job.request
            return self._finish(writer, get_executor(request.config.execution_mode).begin(request, writer))[0]

        Party(self.journal, self.start, finish).run(requests, done)

    def attempt_together(
        self, requests: Sequence[GenerateRequest], *, listeners: Iterable[Listener] = ()
    ) -> tuple[RunReport, ...]:
        """Run checked requests that may share one pipeline call in it; else as `attempt`, with a report each.

        `listeners` hear of the first one's events.
        """
        writers = [self.start(request) for request in requests]
        writers[0].listeners.extend(listeners)
        interrupt = self.work_together(writers)
        if interrupt is not None:
            raise interrupt
        return tuple(writer.report for writer in writers if writer.report is not None)

    def submit(
        self,
        request: GenerateRequest,
        *,
        files: InputFiles | None = None,
        priority: int = 0,
        idempotency_key: str | None = None,
    ) -> JobRecord:
        """Queue `request` in the journal; higher priorities run first.

        This engine's thread will run it, or that of another process on the same journal whose thread is free earlier.
        """
        self.check(request)
        self._require_inputs(request, files)
        job = self.journal.enqueue(request, priority=priority, is_async=True, idempotency_key=idempotency_key)
        if job.request.config.execution_mode in SPREAD:
            self._spreader.wake()
        else:
            self._ensure_thread()
            self._work_arrived.set()
        return job

    def spread(self) -> None:
        """Take what waits in the `spread_queue` of modes that spread, and what comes while such jobs wait there."""
        self._spreader.wake()

    def abandon(self) -> None:
        """Give up the jobs that spread, which are lost, and what runs them. Nothing more is taken."""
        self._spreader.rest()
        self.worker.close()
        self.journal.reap_lost()
        close_executors()
        self._spreader.close(timeout_s=None)

    def take(self, job_id: str) -> None:
        """Claim a queued job and run it in this thread to its end; nothing happens if it is not queued any more.

        Where batching is on, other jobs of its queue that may share its call run with it.

        Raises
        ------
        JobNotFoundError
            If there is no such job.
        KeyboardInterrupt
            On an interrupt; the job has ended as cancelled.
        """
        interrupt = self.work_together(self._claim(job_id))
        if interrupt is not None:
            raise interrupt

    def work(self, writer: JobWriter, execution: Execution) -> BaseException | None:
        """Run a job that others wait for to its end, and return what it raised: its report says it too."""
        report, error = self._finish(writer, execution)
        if error is not None:
            _log.info("run %s ended as %s: %s", report.run_id, report.state, error)
        return error

    def work_together(self, writers: Sequence[JobWriter]) -> KeyboardInterrupt | SystemExit | None:
        """Run claimed jobs to their ends, several in one call; return the interrupt that ended any of them."""
        interrupt = None
        for writer, execution in executions_of(self.journal, writers):
            error = self.work(writer, execution)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                interrupt = error
        return interrupt

    def start(self, request: GenerateRequest) -> JobWriter:
        """Make a job that this thread will run, and take it."""
        job = self.journal.enqueue(request, owner=self.worker)
        writer = self.journal.claim(job.job_id, self.worker)
        if writer is None:
            raise JobCancelledError(f"job {job.job_id} was cancelled before it began", hint="Run it again.")
        return writer

    def watch(self, writer: JobWriter, execution: Execution) -> RunReport:
        """Run a call of a pipeline that the lab did not load; its own exception passes on unchanged."""
        report, error = self._finish(writer, execution)
        if error is not None:
            raise error
        return report

    def execute(self, writer: JobWriter, execution: Execution) -> RunReport:
        """Run a claimed job to its end and return its report; raise a typed error unless it succeeded."""
        report, error = self._finish(writer, execution)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        if isinstance(error, LabError) and not isinstance(error, JobCancelledError):
            error.add_note(f"The partial report: omnirt_lab.get_report({report.run_id!r})")
            raise error
        if report.state == "failed":
            raise failure_of(report) from error
        raise_for(report)
        return report

    def _require_inputs(self, request: GenerateRequest, files: InputFiles | None) -> None:
        if files is not None:
            files.store()
        for sha256 in (request.inputs.image, request.inputs.mask):
            if sha256 is not None:
                self.journal.artifacts.path(sha256)

    def _finish(self, writer: JobWriter, execution: Execution) -> tuple[RunReport, BaseException | None]:
        self.last_run_id = writer.job.run_id
        try:
            finished = execution.run()
        except (KeyboardInterrupt, SystemExit) as error:
            return writer.finish(JobCancelledData(reason="interrupted", probe=execution.cost)), error
        except JobCancelledError as error:
            reason = TIMEOUT if isinstance(error, JobTimeoutError) else "requested"
            return writer.finish(JobCancelledData(reason=reason, probe=execution.cost)), error
        except Exception as error:  # noqa: BLE001  # whatever a pipeline raises ends its job with a report
            info = error_info(error, stage=_failed_stage(writer.events))
            return writer.finish(JobFailedData(error=info, probe=execution.cost)), error
        return writer.finish(finished), None

    def _ensure_thread(self) -> None:
        with self._thread_lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="omnirt-engine", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while not self._is_closing:
            self._work_arrived.clear()
            try:
                writers = self._claim()
            except LabError as error:
                _log.warning("no job can be taken now: %s", error)
                self._work_arrived.wait(_RETRY_S)
                continue
            if writers:
                self.work_together(writers)
            elif not self._is_closing:
                self._work_arrived.wait()
        self.journal.close_thread()

    def _claim(self, job_id: str | None = None) -> list[JobWriter]:
        """Take this job, or the one whose turn it is, and those that may share its call; empty where there is none."""
        if SETTINGS.current.is_batching:
            queue = LOCAL_QUEUE if job_id is None else self.journal.get_job(job_id).queue
            return gather(
                self.journal,
                self.worker,
                queue,
                first_id=job_id,
                modes=_HERE if job_id is None else None,
                arrived=self._work_arrived,
                is_closing=lambda: self._is_closing,
            )
        if job_id is None:
            claimed = self.journal.claim_next(self.worker, modes=_HERE)
        else:
            claimed = self.journal.claim(job_id, self.worker)
        return [] if claimed is None else [claimed]

    def close(self, *, timeout_s: float | None = None) -> None:
        """Stop taking jobs, wait for the one that runs, end child processes, and give up this worker's identity."""
        self._is_closing = True
        self._work_arrived.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._spreader.close(timeout_s)
        close_executors()
        if self._worker is not None:
            self._worker.close()


def _failed_stage(events: Iterable[AnyEvent]) -> str | None:
    """The innermost stage that nothing has ended, as where a process died; else the last one that an error ended."""
    open_stages: list[str | None] = []
    failed = None
    for event in events:
        if isinstance(event, StageStart):
            open_stages.append(event.stage)
        elif isinstance(event, StageEnd | StageError) and event.stage in open_stages:
            open_stages.remove(event.stage)
        if isinstance(event, StageError):
            failed = event.stage
    return open_stages[-1] if open_stages else failed

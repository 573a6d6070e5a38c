"""The one author of a running job's events."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec.structs import replace

from omnirt_lab.errors import LabError
from omnirt_lab.folds import report as report_fold
from omnirt_lab.journal import ending, events, jobs, runs
from omnirt_lab.journal.artifacts import ArtifactStore
from omnirt_lab.journal.background import Background
from omnirt_lab.journal.clock import monotonic_zero_ns
from omnirt_lab.journal.database import Database
from omnirt_lab.journal.ending import Ending
from omnirt_lab.journal.jobs import JobRecord
from omnirt_lab.journal.previews import put_preview
from omnirt_lab.journal.tail import Tail, tail_path
from omnirt_lab.records import (
    AnyEvent,
    EventData,
    MemoryData,
    RunReport,
    StepData,
    WarningData,
    make_event,
)
from omnirt_lab.units import NS_PER_MS, NS_PER_S

Listener = Callable[[AnyEvent], None]

WATCHED_WAIT_S: Final = 0.25
"""How long a submitted job's emit waits for another process's transaction; then a later one stores the event."""

WAIT_S: Final = 0.005
"""How long an emit in its caller's own thread waits: some transactions, and not felt there."""

PAUSE_NS: Final = NS_PER_S
"""How long a store that failed is left alone, so that a broken disk does not slow every step."""

WATCHED_LINGER_NS: Final = 5 * NS_PER_MS
"""How soon after a commit a submitted job's next step is committed: somebody may follow it from elsewhere."""

LINGER_NS: Final = 200 * NS_PER_MS
"""The same of any event in its caller's own thread, whose watchers hear of it before any commit."""

WATCHED_HEARSAY_NS: Final = 20 * NS_PER_MS
"""How long a submitted job may not hear of a wish to cancel because it asked the store a moment ago."""

HEARSAY_NS: Final = 100 * NS_PER_MS
"""The same of a job in its caller's own thread. A wish from its own process it hears at once."""


class OpenBlocks(threading.local):
    """How many `together` blocks of a writer the thread is in."""

    count = 0


class JobWriter:
    """Appends a running job's events, and ends it. Thread-safe.

    1. `emit` puts the event at the end of the job's list, which is complete whatever becomes of the store.
    2. `_store` asks the store what it has and adds the rest of the list, so that an interrupt between any two lines
       neither loses nor repeats an event. What follows closely on a commit may wait: a submitted job's steps, and all
       of a job in its caller's own thread. The next event after that time stores it, or else the background, which
       costs a pipeline more: two threads take the interpreter from each other with every statement. A memory reading
       always waits: the thread that samples would have to open a connection of its own, and it lives for one call.
       What waits stands in the job's `Tail`, from where it is stored even if this process is killed.
    3. In a `together` block the thread's events wait for its end. No lock is held in it: an event from another thread
       goes its way as ever, and all that stand before it in the list with it.
    4. `finish` folds the list into the report and ends the job in one transaction. What the store could not take until
       then counts as dropped, and the report says so.

    `_lock` guards the list and its order, `_storing` the store; who needs both takes `_lock` first. So a pipeline's
    thread waits for no commit of the background's.
    """

    def __init__(
        self,
        database: Database,
        background: Background,
        artifacts: ArtifactStore,
        job: JobRecord,
        stored: Sequence[AnyEvent],
    ) -> None:
        assert job.worker_id is not None, f"job {job.job_id} is not claimed"
        self.job = job
        self.worker_id = job.worker_id
        self.artifacts = artifacts
        """Where the run's pictures go."""
        self.listeners: list[Listener] = []
        """Told of each event, in order, by the thread that emits it; one that raises is dropped, with a warning."""
        self.previews = job.is_async
        """Whether somebody may look at the picture while it is made; a live view sets it, from any thread."""
        self._database = database
        self._background = background
        self.zero_ns = monotonic_zero_ns(
            boot=job.boot_id, monotonic_ns=job.monotonic_ns, wall_clock_ms=job.enqueued_at_ms
        )
        """`time.monotonic_ns()` of this process when the job was enqueued: zero of its events' `t_ns`."""
        self._lock = threading.RLock()
        self._storing = threading.Lock()
        self._events = list(stored)
        self._stored = self._secured = len(stored)
        self._stored_at_ns = 0
        self._failed_at_ns: int | None = None
        self._asked_at_ns = 0
        self._should_stop = False
        self._open_blocks = OpenBlocks()
        self._linger_ns = WATCHED_LINGER_NS if job.is_async else LINGER_NS
        self._hearsay_ns = WATCHED_HEARSAY_NS if job.is_async else HEARSAY_NS
        self._wait_s = WATCHED_WAIT_S if job.is_async else WAIT_S
        self._tail = Tail(tail_path(database.path.parent, self.worker_id, job.job_id))
        self._is_flush_coming = False
        self._report: RunReport | None = None
        self._untold: deque[AnyEvent] = deque()
        self._is_telling = False

    @property
    def events(self) -> tuple[AnyEvent, ...]:
        """The job's events so far."""
        with self._lock:
            return tuple(self._events)

    @property
    def report(self) -> RunReport | None:
        """The job's report, once it has ended."""
        return self._report

    def now_ns(self) -> int:
        """Nanoseconds since the job was enqueued, by the monotonic clock: an event's `t_ns`."""
        now_ns = time.monotonic_ns() - self.zero_ns
        return now_ns if now_ns > 0 else 0

    def emit(self, data: EventData, *, stage: str | None = None, t_ns: int | None = None) -> None:
        """Append one event; `t_ns` is now, unless it is given. After `finish` nothing is appended.

        The journal never makes this raise.
        """
        with self._lock:
            if self._report is not None:
                return
            event = self._make(data, stage=stage, t_ns=t_ns)
            self._events.append(event)
            if not self._open_blocks.count:  # else the block's end secures it
                self._secure(may_wait=self._may_wait(data))
            self._tell(event)

    def flush(self) -> None:
        """Store what waits."""
        if self._stored < len(self._events):
            self._store()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Store what this thread emits in the block in one transaction at its end, also when the block raises.

        For facts that are known at one moment: a commit costs more than an event. Blocks may lie in each other; the
        outermost one stores.
        """
        outer = self._open_blocks.count
        try:
            self._open_blocks.count = outer + 1
            yield
        finally:
            self._open_blocks.count = outer
            if not outer:
                with self._lock:
                    self._secure(may_wait=not self.job.is_async and self._has_just_stored())

    def is_cancel_requested(self) -> bool:
        """Somebody wants it to stop, or the journal has it as ended. False where the journal cannot be read.

        Whoever stores an event learns this too, so the answer may be some milliseconds old. Once True it stays so.
        """
        asked_at_ns = self._asked_at_ns  # read before the answer, as another thread sets it after
        now_ns = time.monotonic_ns()
        if self._should_stop or now_ns - asked_at_ns < self._hearsay_ns:
            return self._should_stop
        try:
            with self._database.reading(wait_s=self._wait_s) as connection:
                self._hear(jobs.is_cancel_requested(connection, self.job.key), now_ns)
        except LabError:
            pass  # not known any better than before
        return self._should_stop

    def request_cancel(self) -> None:
        """Let the job's own thread know at once what the store has been told."""
        self._should_stop = True

    def wants_preview(self) -> bool:
        """Whether `show_preview` has a purpose now."""
        return self.previews

    def show_preview(self, content: bytes, *, media_type: str, step: int) -> None:
        """Put this picture in the place of the job's last preview; like `emit`, it never raises for the journal."""
        try:
            with self._database.writing(wait_s=self._wait_s) as connection:
                put_preview(connection, self.job.key, content, media_type=media_type, step=step)
        except LabError:
            return

    def finish(self, data: Ending) -> RunReport:
        """End the job and return its report: the store's, where somebody else has ended it before.

        Where the store cannot be written, the report is made all the same, and counts the events that it lacks.
        """
        with self._lock:
            if self._report is not None:
                return self._report
            terminal = self._make(data)
            with self._storing:
                self._report = self._end(data, terminal)
            self._tell(terminal)
        self._background.soon(self._limit_wal)
        return self._report

    def _make(self, data: EventData, *, stage: str | None = None, t_ns: int | None = None) -> AnyEvent:
        return make_event(
            data,
            seq=len(self._events) + 1,
            t_ns=self.now_ns() if t_ns is None else t_ns,
            timestamp_ms=time.time_ns() // NS_PER_MS,
            stage=stage,
        )

    def _secure(self, *, may_wait: bool) -> None:
        """Let no event be lost: what may wait for its commit is written down until then."""
        if self._report is not None:
            return
        if not may_wait:
            self._store()
        if self._secured == len(self._events):
            return
        if self._tail.append(self._events[self._secured :]):
            self._secured = len(self._events)
            self._flush_soon()
        elif may_wait:
            self._store()

    def _may_wait(self, data: EventData) -> bool:
        if isinstance(data, MemoryData):
            return True
        return (isinstance(data, StepData) or not self.job.is_async) and self._has_just_stored()

    def _has_just_stored(self) -> bool:
        return time.monotonic_ns() - self._stored_at_ns < self._linger_ns

    def _flush_soon(self) -> None:
        if not self._is_flush_coming:
            self._is_flush_coming = True
            self._background.soon(self._flush_late, after_ns=self._linger_ns)

    def _flush_late(self) -> None:
        self._is_flush_coming = False
        if self._report is not None or self._stored == len(self._events):
            return
        if self._has_just_stored() and not self._background.is_closing:  # what waits now is younger
            self._flush_soon()
        else:
            self._store()

    def _store(self) -> None:
        with self._storing:
            now_ns = time.monotonic_ns()
            is_resting = self._failed_at_ns is not None and now_ns - self._failed_at_ns < PAUSE_NS
            if is_resting or self._report is not None:
                return
            all_events = tuple(self._events)
            try:
                should_stop = not self._store_simply(all_events) and self._store_waiting(all_events)
                self._stored = len(all_events)
                self._secured = max(self._secured, self._stored)
                self._stored_at_ns, self._failed_at_ns = now_ns, None
                self._hear(should_stop, now_ns)
            except LabError:
                self._failed_at_ns = now_ns

    def _store_simply(self, all_events: Sequence[AnyEvent]) -> bool:
        """Store what waits in one statement, where it is not too much and nothing has happened to the job.

        False if nothing was stored. It is cheaper than `_store_waiting`, which has the answer to all else.
        """
        waiting = all_events[self._stored :]
        if not 0 < len(waiting) <= events.ROWS_A_STATEMENT:
            return False
        with self._database.writing_at_once(wait_s=self._wait_s) as connection:
            return jobs.append_if_undisturbed(connection, self.job.key, self.worker_id, waiting)

    def _store_waiting(self, all_events: Sequence[AnyEvent]) -> bool:
        """Store all that the store lacks, if the job is still this worker's; say whether to stop."""
        with self._database.writing(wait_s=self._wait_s) as connection:
            running = jobs.find_running(connection, self.job.key, self.worker_id)
            if running is None:
                return True
            events.append(connection, self.job.key, all_events[running.last_seq :])
            return running.cancel_requested

    def _hear(self, should_stop: bool, at_ns: int) -> None:
        if should_stop:
            self._should_stop = True
        self._asked_at_ns = at_ns

    def _end(self, data: Ending, terminal: AnyEvent) -> RunReport:
        all_events = [*self._events, terminal]
        report = report_fold.fold(all_events, job_id=self.job.job_id)
        try:
            with self._database.writing() as connection:
                is_stored = ending.store(connection, self.job, all_events, report)
            self._tail.remove()
            if is_stored:
                return report
            with self._database.reading() as connection:
                return runs.get_report(connection, self.job.run_id)
        except LabError:
            self._tail.close()  # what it holds is for whoever finds the job lost
            dropped = len(all_events) - self._stored + data.probe.events_dropped
            data = replace(data, probe=replace(data.probe, events_dropped=dropped))
            return report_fold.fold([*self._events, self._make(data)], job_id=self.job.job_id)

    def _tell(self, event: AnyEvent) -> None:
        if not self.listeners:
            return
        self._untold.append(event)
        if self._is_telling:  # a listener has emitted; all of them hear of the event at hand first
            return
        self._is_telling = True
        try:
            while self._untold:
                self._tell_listeners(self._untold.popleft())
        finally:
            self._is_telling = False

    def _tell_listeners(self, event: AnyEvent) -> None:
        for listener in tuple(self.listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  # watching a run must never break it
                self.listeners.remove(listener)
                self.emit(
                    WarningData(
                        code="listener_failed",
                        message=f"a watcher of this run was dropped: it raised {type(error).__name__}: {error}",
                    )
                )

    def _limit_wal(self) -> None:
        try:
            self._database.limit_wal()
        except (LabError, OSError):  # the next run tries again
            return

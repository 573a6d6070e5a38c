"""Reading on: a place in the journal, held by the reader alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from omnirt_lab.journal import events, jobs
from omnirt_lab.journal.database import Database
from omnirt_lab.journal.events import JournalEntry
from omnirt_lab.journal.watch import Watch, watch_directory
from omnirt_lab.records import TERMINAL_EVENTS

FIRST_PAUSE_S: Final = 0.001
MAX_PAUSE_S: Final = 60.0
"""A commit shows a moment after its last write to a file, and that moment wakes nobody: SQLite publishes it in shared
memory. So a reader that was woken and sees nothing looks again, after twice as long each time."""


class Cursor:
    """A place among the events of all jobs, or of one. Not for two threads at once, except that any may `wake` it.

    It is a number, not a queue: a reader that stalls costs the writers nothing, and another that starts at `after_id`
    reads the same. Nothing is held between two reads, except two descriptors after the first `wait`, inotify's and that
    of `wake`.
    """

    def __init__(self, database: Database, *, job_id: str | None = None, after_id: int = 0) -> None:
        self.after_id = after_id
        """Id of the last event that was read: where to begin the next time."""
        self._database = database
        self._watch: Watch | None = None
        self._watch_lock = threading.Lock()
        self._is_woken = False
        self._pause_s = FIRST_PAUSE_S
        self._job: int | None = None
        self._after_seq = 0
        self._has_terminal = False
        if job_id is not None:
            with database.reading() as connection:
                self._job = jobs.get_key(connection, job_id)
                self._after_seq = events.seq_at(connection, self._job, after_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[JournalEntry]:
        """The events from here on, waiting for those to come; over one job it ends after the terminal event."""
        while True:
            is_ended = self.is_at_end()
            entries = self.read()
            yield from entries
            if is_ended and not entries:
                return
            if not entries:
                self.wait(60)

    def read(self, *, limit: int = 1000) -> list[JournalEntry]:
        """The next events that are there, at most `limit`, and step behind them."""
        with self._database.reading() as connection:
            if self._job is None:
                rows = events.rows_after(connection, self.after_id, limit=limit)
            else:
                own = events.rows_of_job(connection, self._job, after_seq=self._after_seq, limit=limit)
                rows = [(self._job, row) for row in own]
            job_ids = {key: jobs.get_job_id(connection, key) for key in {key for key, _ in rows}}
        entries = [JournalEntry(id=row[0], job_id=job_ids[key], event=events.to_event(row)) for key, row in rows]
        if entries:
            last = entries[-1]
            self.after_id, self._after_seq = last.id, last.event.seq
            self._has_terminal = isinstance(last.event, TERMINAL_EVENTS)
        return entries

    def wait(self, timeout_s: float) -> bool:
        """Whether there is something to read, at the latest after `timeout_s` or when woken."""
        deadline_s = time.monotonic() + timeout_s
        if self._watch is None:  # before the first look, so that no write falls between look and watch
            self._watch = watch_directory(self._database.path.parent)
        while not self._has_news():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or self._is_woken:
                self._is_woken = False
                return False
            is_written = self._watch.wait(min(left_s, self._pause_s))
            self._pause_s = FIRST_PAUSE_S if is_written else min(2 * self._pause_s, MAX_PAUSE_S)
        self._pause_s = FIRST_PAUSE_S
        return True

    def wake(self) -> None:
        """From another thread: end its `wait`, or the next one."""
        self._is_woken = True
        with self._watch_lock:
            if self._watch is not None:
                self._watch.wake()

    def is_at_end(self) -> bool:
        """The one job has ended and everything of it was read; never so for the cursor over all."""
        if self._job is None:
            return False
        if self._has_terminal:
            return True
        with self._database.reading() as connection:
            row = connection.execute("SELECT state FROM jobs WHERE key = ?", (self._job,)).fetchone()
            is_ended = row is None or row[0] not in ("queued", "running")
        return is_ended and not self._has_news()

    def close(self) -> None:
        """Stop watching; the cursor can still read."""
        with self._watch_lock:  # nobody wakes a watch whose descriptors may be another's by then
            watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def _has_news(self) -> bool:
        with self._database.reading() as connection:
            if self._job is None:
                return events.has_after(connection, self.after_id)
            return events.last_seq(connection, self._job) > self._after_seq

"""Jobs followed from one thread: what has come of each, as it comes, and not more often than a person can see."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from omnirt_lab.errors import LabError
from omnirt_lab.records import TERMINAL_EVENTS, AnyEvent

if TYPE_CHECKING:
    from omnirt_lab.journal import Journal

_UPDATE_EVERY_S: Final = 0.1
_LIVENESS_CHECK_S: Final = 1.0

_log: Final = logging.getLogger(__name__)

NewEvents = Callable[[str, Sequence[AnyEvent]], None]


class JobFollower:
    """Hands on the events of some jobs, in order, from a thread that lives while one of them is open.

    Parameters
    ----------
    tell
        Called in that thread with a job's id and its new events, at most ten times a second.
    """

    def __init__(self, journal: Journal, tell: NewEvents) -> None:
        self._journal = journal
        self._tell = tell
        self._seen: dict[str, int] = {}
        self._lock = threading.Lock()
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, job_id: str) -> None:
        """Follow this job too, from its first event to its terminal one."""
        with self._lock:
            self._seen[job_id] = 0
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="omnirt-follower", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Follow nothing any more."""
        self._is_closing.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _follow(self) -> None:
        with self._journal.cursor(after_id=self._journal.last_event_id()) as cursor:
            while self._has_open_jobs():
                try:
                    cursor.read()  # before the jobs are read, so that what comes meanwhile ends the wait
                    if not self._read() and not cursor.wait(_LIVENESS_CHECK_S):
                        self._journal.reap_lost()
                except LabError as error:
                    _log.warning("jobs cannot be followed now: %s", error)
                self._is_closing.wait(_UPDATE_EVERY_S)
        self._journal.close_thread()

    def _has_open_jobs(self) -> bool:
        with self._lock:
            if self._seen and not self._is_closing.is_set():
                return True
            self._thread = None
            return False

    def _read(self) -> bool:
        """Tell what is new; whether there was anything."""
        is_new = False
        with self._lock:
            seen = list(self._seen.items())
        for job_id, after_seq in seen:
            events = self._journal.events(job_id, after_seq=after_seq)
            if not events:
                continue
            is_new = True
            with self._lock:
                self._seen[job_id] = events[-1].seq
                if isinstance(events[-1], TERMINAL_EVENTS):
                    del self._seen[job_id]
            try:
                self._tell(job_id, events)
            except Exception:  # noqa: BLE001  # one listener's fault must not leave the other jobs unseen
                _log.exception("job %s: its events could not be shown", job_id)
        return is_new

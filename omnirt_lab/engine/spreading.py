"""Jobs that run side by side, each in a thread that waits for another process: those of the modes in `SPREAD`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import TYPE_CHECKING, Final, TypeAlias

from omnirt_lab.errors import LabError
from omnirt_lab.executors import SPREAD, places_of

if TYPE_CHECKING:
    from omnirt_lab.journal import JobWriter, Journal, Worker
    from omnirt_lab.records import GenerateRequest, RunReport

Done: TypeAlias = "Callable[[int, RunReport], None]"
"""Told of each run that has ended, with its request's place."""

_LOOK_EVERY_S: Final = 0.5
"""How often it is looked whether there are more places, while jobs wait for one."""

_log: Final = logging.getLogger(__name__)


class Spreader:
    """Takes queued jobs of the modes that spread, as many at a time as there are places for.

    One thread claims, and starts another one for each job. A job that has no place yet stays queued: there its
    priority counts, and any other process may take it.
    """

    def __init__(
        self,
        journal: Journal,
        get_worker: Callable[[], Worker],
        work: Callable[[Sequence[JobWriter]], object],
        *,
        queue: str,
    ) -> None:
        self._journal = journal
        self._get_worker = get_worker
        self._work = work
        self._queue = queue
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._running: set[threading.Thread] = set()
        self._news = threading.Event()
        self._is_closing = False

    def wake(self) -> None:
        """Look into the queue, where a job may have come."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._spread, name="omnirt-spread", daemon=True)
                self._thread.start()
        self._news.set()

    def rest(self) -> None:
        """Take no more jobs."""
        self._is_closing = True
        self._news.set()

    def close(self, timeout_s: float | None) -> None:
        """Take no more jobs, and wait for those that run."""
        self.rest()
        if self._thread is not None:
            self._thread.join(timeout_s)
        for thread in tuple(self._running):
            thread.join(timeout_s)

    def _spread(self) -> None:
        while not self._is_closing:
            self._news.clear()
            is_waiting = True
            try:
                is_waiting = self._journal.find_next(self._queue, modes=SPREAD) is not None
                writer = self._claim() if is_waiting else None
            except LabError as error:
                _log.warning("no job can be taken now: %s", error)
                writer = None
            if writer is not None:
                thread = threading.Thread(target=self._run, args=(writer,), name="omnirt-run", daemon=True)
                self._running.add(thread)
                thread.start()
            else:
                self._news.wait(_LOOK_EVERY_S if is_waiting else None)
        self._journal.close_thread()

    def _claim(self) -> JobWriter | None:
        """The job whose turn it is, if it has a place and nobody was quicker."""
        if self._running and len(self._running) >= max(map(places_of, SPREAD)):
            return None
        return None if self._is_closing else self._journal.claim_next(self._get_worker(), self._queue, modes=SPREAD)

    def _run(self, writer: JobWriter) -> None:
        try:
            self._work([writer])
        finally:
            self._journal.close_thread()
            self._running.discard(threading.current_thread())
            self._news.set()


class Party:
    """Requests that run side by side for one caller, who waits for them all."""

    def __init__(
        self,
        journal: Journal,
        start: Callable[[GenerateRequest], JobWriter],
        finish: Callable[[JobWriter], RunReport],
    ) -> None:
        self._journal = journal
        self._start = start
        self._finish = finish
        self._running: set[str] = set()
        self._is_over = threading.Event()

    def run(self, requests: Sequence[GenerateRequest], done: Done) -> None:
        """Run them; whatever is raised here ends those that run as cancelled, and `done` hears of these too."""
        places = max(places_of(request.config.execution_mode) for request in requests)
        with ThreadPoolExecutor(min(places, len(requests)), thread_name_prefix="omnirt-party") as pool:
            waiting = {pool.submit(self._attempt, request): index for index, request in enumerate(requests)}
            try:
                for future in as_completed(waiting):
                    self._tell(future, waiting.pop(future), done)
            except BaseException:  # an interrupt included
                self._stop(waiting)
                for future, index in waiting.items():
                    if not future.cancelled() and future.exception() is None:
                        self._tell(future, index, done)
                raise

    def _attempt(self, request: GenerateRequest) -> RunReport | None:
        if self._is_over.is_set():
            return None
        writer = self._start(request)
        job_id = writer.job.job_id
        self._running.add(job_id)
        try:
            if self._is_over.is_set():
                self._journal.request_cancel(job_id)
            return self._finish(writer)
        finally:
            self._running.discard(job_id)
            self._journal.close_thread()

    def _tell(self, future: Future[RunReport | None], index: int, done: Done) -> None:
        report = future.result()
        if report is not None:
            done(index, report)

    def _stop(self, waiting: dict[Future[RunReport | None], int]) -> None:
        self._is_over.set()
        for future in waiting:
            future.cancel()
        for job_id in tuple(self._running):
            self._journal.request_cancel(job_id)
        wait(waiting)

"""A submitted job, as the person who waits for it sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from omnirt_lab.engine.failures import raise_for
from omnirt_lab.lab.attendance import attend_wait
from omnirt_lab.lab.liveness import with_lost_ended
from omnirt_lab.lab.results import GenerateResult, RunReport, result_of
from omnirt_lab.records import TERMINAL_EVENTS, AnyEvent, JobState

if TYPE_CHECKING:
    from omnirt_lab.journal import Cursor, Journal

_LIVENESS_CHECK_S = 1.0
"""How often a waiting handle looks whether the job's worker still lives."""


class Job:
    """A handle on a job, in whichever process it runs: everything is read from the journal."""

    def __init__(self, journal: Journal, job_id: str, run_id: str) -> None:
        self._journal = journal
        self.id = job_id
        self.run_id = run_id

    @property
    def state(self) -> JobState:
        """`queued`, `running`, `succeeded`, `failed`, `cancelled` or `lost`."""
        return with_lost_ended(self._journal).get_job(self.id).state

    def cancel(self) -> None:
        """Ask it to stop: at once while it is queued, at the next step while it runs; no effect once it ended."""
        self._journal.request_cancel(self.id)

    def events(self, *, timeout: float | None = None) -> Iterator[AnyEvent]:
        """Yield the job's events from the first, as they come, up to the terminal one.

        Parameters
        ----------
        timeout
            Seconds for the whole wait; None waits as long as the job's worker lives.

        Raises
        ------
        TimeoutError
            When `timeout` seconds have passed before the terminal event; the job goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._journal.cursor(job_id=self.id) as cursor:
            while True:
                for _, _, event in cursor.read():
                    yield event
                    if isinstance(event, TERMINAL_EVENTS):
                        return
                self._wait(cursor, deadline)

    def _wait(self, cursor: Cursor, deadline: float | None) -> None:
        left_s = _LIVENESS_CHECK_S if deadline is None else min(_LIVENESS_CHECK_S, deadline - time.monotonic())
        if left_s <= 0:
            raise TimeoutError(f"job {self.id} is still {self.state}; it goes on: ask again, or cancel() it")
        if not cursor.wait(left_s):
            with_lost_ended(self._journal)

    def result(self, timeout: float | None = None) -> GenerateResult:
        """Wait for the end and return what the job made.

        Parameters
        ----------
        timeout
            Seconds; None waits as long as the job's worker lives.

        Raises
        ------
        TimeoutError
            When it takes longer; the job goes on.
        PipelineError, JobCancelledError, JobLostError
            When it ended otherwise; each names the run, whose partial report is in the history.
        """
        with attend_wait(self._journal, self._journal.get_job(self.id)) as view:
            for event in self.events(timeout=timeout):
                if view is not None:
                    view.hear(event)
        report = self.report
        raise_for(report)
        return result_of(report)

    @property
    def report(self) -> RunReport:
        """The report as far as the job has come."""
        return RunReport.of(with_lost_ended(self._journal).get_report(self.run_id))

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.state}>"

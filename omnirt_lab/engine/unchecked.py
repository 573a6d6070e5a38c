"""A job that was queued without its request having been checked against the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omnirt_lab.engine.remembering import RememberedExecution
from omnirt_lab.executors import Execution, check_request
from omnirt_lab.records import JobFinishedData, ProbeCost

if TYPE_CHECKING:
    from omnirt_lab.journal import JobWriter, Journal


class UncheckedExecution:
    """Checks the request, then runs it; what the check raises ends the job like any error of the run."""

    def __init__(self, journal: Journal, writer: JobWriter) -> None:
        self._journal = journal
        self._writer = writer
        self._execution: Execution | None = None

    @property
    def cost(self) -> ProbeCost:
        """What measuring cost; its defaults if the check failed."""
        return ProbeCost() if self._execution is None else self._execution.cost

    def run(self) -> JobFinishedData:
        """Check, and do the work."""
        request = self._writer.job.request
        check_request(request)
        self._execution = RememberedExecution(self._journal, request, self._writer)
        return self._execution.run()

"""Ways to execute a job: one module each, one protocol. A module is imported when its mode is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final, Protocol

from omnirt_lab.errors import NotAvailableError

if TYPE_CHECKING:
    from omnirt_lab.journal import JobWriter
    from omnirt_lab.records import ExecutionMode, GenerateRequest, JobFinishedData, ProbeCost


class Execution(Protocol):
    """One job in the hands of an executor."""

    @property
    def cost(self) -> ProbeCost:
        """What measuring cost so far; asked for after `run`, however it ended."""
        ...

    def run(self) -> JobFinishedData:
        """Emit `job_started`, do the work, and return what the terminal event will say.

        Raises
        ------
        JobCancelledError
            At the first boundary after a cancel was requested.
        Exception
            Whatever the pipeline raises passes on unchanged.
        """
        ...


class Executor(Protocol):
    """Makes executions; lives as long as its process and holds what may stay between jobs."""

    def check(self, request: GenerateRequest) -> None:
        """Raise an InvalidRequestError or UnknownModelError for what can be known before weights are loaded."""
        ...

    def begin(self, request: GenerateRequest, writer: JobWriter) -> Execution:
        """Take the job; nothing runs before `Execution.run`."""
        ...


_MODULES: Final[dict[ExecutionMode, str]] = {"legacy_call": "omnirt_lab.executors.legacy_call"}


def get_executor(mode: ExecutionMode) -> Executor:
    """Return the process's executor for `mode`.

    Raises
    ------
    NotAvailableError
        If this version has no such executor.
    """
    if mode not in _MODULES:
        raise NotAvailableError(
            f"execution_mode {mode!r} is not available in this version",
            hint=f"Use one of: {', '.join(_MODULES)}.",
        )
    executor: Executor = importlib.import_module(_MODULES[mode]).EXECUTOR
    return executor

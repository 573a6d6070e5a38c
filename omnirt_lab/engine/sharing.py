"""How claimed jobs are executed: one alone, or several in one pipeline call that no job may spoil for the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from omnirt_lab.engine.remembering import RememberedExecution
from omnirt_lab.engine.unchecked import UncheckedExecution
from omnirt_lab.errors import JobCancelledError
from omnirt_lab.executors import Execution
from omnirt_lab.records import JobFinishedData, ProbeCost

if TYPE_CHECKING:
    from omnirt_lab.executors.batched_call import BatchedCall
    from omnirt_lab.journal import JobWriter, Journal
    from omnirt_lab.records import GenerateRequest

Part: TypeAlias = "tuple[JobWriter, Execution]"

_log = logging.getLogger(__name__)


class BrokenExecution:
    """An execution that has failed already, with all that shared it."""

    def __init__(self, error: BaseException, cost: ProbeCost) -> None:
        self._error = error
        self.cost = cost

    def run(self) -> JobFinishedData:
        """Raise what it failed with."""
        raise self._error


def execution_of(journal: Journal, request: GenerateRequest, writer: JobWriter, *, batch_size: int = 1) -> Execution:
    """The execution of one checked request, in a call of this size."""
    if batch_size == 1:
        return RememberedExecution(journal, request, writer)
    from omnirt_lab.executors.batched_call import PaddedCall  # loads torch

    return PaddedCall(request, writer, batch_size)


def executions_of(journal: Journal, writers: Sequence[JobWriter]) -> Iterator[Part]:
    """The executions of claimed jobs, to be run in this order; several share one call, made before the first is given.

    1. What raises before the pipeline is called, such as loading, fails every job, as it would fail each alone.
    2. What the call itself raises may be one prompt's fault, or the batch's, as when memory runs out. So each job is
       tried again in a call of its own, as its second attempt, and gets its own result or its own error.
    3. An interrupt ends all jobs; where one was to be cancelled and did not stop, it alone, and the others are tried
       again.
    4. From the call on each stores its own picture, and what raises there is its own.
    """
    if len(writers) < 2:
        return iter([(writer, UncheckedExecution(journal, writer)) for writer in writers])
    from omnirt_lab.executors.batched_call import BatchedCall  # loads torch

    return shared(BatchedCall(writers))


def shared(call: BatchedCall) -> Iterator[Part]:
    """The executions of the jobs of one call, which is made before the first is given."""
    try:
        call.make()
    except (KeyboardInterrupt, SystemExit) as error:
        yield from _interrupted(call, error)
        return
    except JobCancelledError:
        return  # every job has ended when its own cancel was noticed
    except Exception as error:  # noqa: BLE001  # whatever a pipeline raises ends its jobs with reports
        _log.info("a call for several jobs failed: %s", error)
        if not call.was_called:
            yield from _broken(call, error)
            return
        warning = call.warning(error)  # nothing of the error is kept: its frames hold the batch's tensors
    else:
        yield from ((row.writer, row) for row in call.rows)
        return
    for row in call.rows:
        row.writer.emit(warning)
        yield row.writer, row.alone()


def _broken(call: BatchedCall, error: BaseException) -> Iterator[Part]:
    for row in call.rows:
        yield row.writer, BrokenExecution(error, call.cost)


def _interrupted(call: BatchedCall, error: BaseException) -> Iterator[Part]:
    unwanted = [row for row in call.rows if row.writer.is_cancel_requested()]
    for row in call.rows:
        if unwanted and row not in unwanted:
            yield row.writer, row.alone()
        else:
            yield row.writer, BrokenExecution(error, call.cost)

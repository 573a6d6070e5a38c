"""Ways to execute a job: one module each, one protocol. A module is imported when its mode is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from omnirt_lab.errors import InvalidRequestError, NotAvailableError
from omnirt_lab.executors.collection import uncollected

if TYPE_CHECKING:
    from omnirt_lab.executors.messages import CacheFigures
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


@runtime_checkable
class ProcessHolder(Protocol):
    """An executor whose work is done by other processes, which it keeps between jobs."""

    def close(self) -> None:
        """End them, those that are at work when they have done it. The next job starts new ones."""
        ...


@runtime_checkable
class Spreading(Protocol):
    """An executor of a mode that is in `SPREAD`."""

    def places(self) -> int:
        """How many runs can go on side by side now; at least 1."""
        ...


@runtime_checkable
class FiguresHolder(Protocol):
    """An executor whose caches are in other processes."""

    def cache_figures(self) -> dict[str, CacheFigures]:
        """What each of them has done and holds, by the worker's id."""
        ...


_MODULES: Final[dict[ExecutionMode, str]] = {
    "legacy_call": "omnirt_lab.executors.legacy_call",
    "modular": "omnirt_lab.executors.modular",
    "subprocess": "omnirt_lab.executors.subprocess_call",
    "ray": "omnirt_lab.executors.ray_call",
}

_WITH_TIMEOUT: Final[tuple[ExecutionMode, ...]] = ("subprocess", "ray")
"""Modes that can end a run whatever it is doing."""

WITH_RESULT_CACHE: Final[tuple[ExecutionMode, ...]] = ("legacy_call", "modular")
"""Modes whose runs may be answered from the history: this process knows all that decides their bits."""

SPREAD: Final[frozenset[ExecutionMode]] = frozenset({"ray"})
"""Modes whose runs go on side by side, since none of them is in this process."""

_loaded: Final[dict[ExecutionMode, Executor]] = {}


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
    if mode not in _loaded:
        with uncollected():
            _loaded[mode] = importlib.import_module(_MODULES[mode]).EXECUTOR
    return _loaded[mode]


def check_request(request: GenerateRequest) -> None:
    """Raise an InvalidRequestError or UnknownModelError for what can be known before weights are loaded."""
    mode = request.config.execution_mode
    executor = get_executor(mode)
    if request.config.timeout_s is not None and mode not in _WITH_TIMEOUT:
        raise InvalidRequestError(
            f"timeout_s cannot be kept by execution_mode {mode!r}: what runs in this process cannot be killed alone",
            hint=f"Use execution_mode={' or '.join(map(repr, _WITH_TIMEOUT))}, or leave timeout_s out and cancel it.",
        )
    if request.config.result_cache:
        _check_result_cache(request)
    executor.check(request)


def _check_result_cache(request: GenerateRequest) -> None:
    mode = request.config.execution_mode
    if request.config.seed is None:
        raise InvalidRequestError(
            "result_cache needs a seed: without one each run draws its own, and none is like another",
            hint="Pass seed=…, or leave result_cache out.",
        )
    if mode not in WITH_RESULT_CACHE:
        raise InvalidRequestError(
            f"result_cache does not go with execution_mode {mode!r}: only where it runs is known what it runs with",
            hint=f"Use execution_mode={' or '.join(map(repr, WITH_RESULT_CACHE))}, or leave result_cache out.",
        )


def places_of(mode: ExecutionMode) -> int:
    """How many runs of this mode can go on side by side now."""
    executor = get_executor(mode)
    return executor.places() if isinstance(executor, Spreading) else 1


def far_cache_figures() -> dict[str, CacheFigures]:
    """What the caches of other processes that work for this one have done and hold, by worker."""
    holders = [executor for executor in tuple(_loaded.values()) if isinstance(executor, FiguresHolder)]
    return {worker: figures for holder in holders for worker, figures in holder.cache_figures().items()}


def close_executors() -> None:
    """End the processes that executors hold between jobs."""
    for executor in tuple(_loaded.values()):
        if isinstance(executor, ProcessHolder):
            executor.close()

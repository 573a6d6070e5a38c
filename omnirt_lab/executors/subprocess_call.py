"""The isolating executor: a warm child process runs the jobs, and this one writes its events into the journal.

The child makes the same call as `legacy_call`, with caches of its own. What befalls it, befalls this process not: it
can be killed in the middle of a native call, and its end gives all its memory back.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from omnirt_lab.errors import ChildDiedError, JobCancelledError, NotAvailableError
from omnirt_lab.executors.following import TICK_S, Following, current_directory
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.executors.subprocess_child import ChildProcess
from omnirt_lab.records import GenerateRequest, JobFinishedData, ProbeCost

if TYPE_CHECKING:
    from omnirt_lab.executors.messages import CacheFigures
    from omnirt_lab.journal import JobWriter


class SubprocessExecutor:
    """Keeps one warm child, and lends it to one run at a time; starts another one when it has ended.

    A child that is no longer wanted, because another python was chosen or `close` was called, ends once its run has.
    """

    def __init__(self) -> None:
        self._table = threading.Lock()
        self._child: ChildProcess | None = None
        self._all: list[ChildProcess] = []
        """Every child that may still live."""

    def check(self, request: GenerateRequest) -> None:
        """Check the request in the child, which has the libraries that will run it; no weights are loaded.

        Raises
        ------
        InvalidRequestError, UnknownModelError
            For what is wrong with it, or with the python that was chosen.
        """
        if sys.platform == "win32":
            raise NotAvailableError("Windows has no pipes that a child could take over", hint="Use 'legacy_call'.")
        try:
            self._check(request)
        except ChildDiedError:  # with another's run, or let go: this request has nothing to do with that
            self._check(request)

    def begin(self, request: GenerateRequest, writer: JobWriter) -> SubprocessCall:  # noqa: ARG002  # the writer's job
        """Take the job."""
        return SubprocessCall(self, writer)

    @contextmanager
    def lent(self, patience: Callable[[], None]) -> Iterator[ChildProcess]:
        """A child that can run jobs, for this thread alone; one that is still at work at the block's end is killed.

        Parameters
        ----------
        patience
            Called again and again while there is something to wait for; may raise.
        """
        while True:
            with self._in_use() as child:
                while not child.turn.acquire(timeout=TICK_S):
                    patience()
                try:
                    if not (child.is_unwanted or (child.has_ended and child.was_ready)):  # else another run did it
                        child.wait_until_ready(patience)
                        yield child
                        return
                finally:
                    if child.is_busy:
                        child.kill()
                    child.turn.release()

    def cache_figures(self) -> dict[str, CacheFigures]:
        """Of the warm child, by its worker's id; empty where there is none that can say it now."""
        with self._table:
            child = self._child
            if child is None or child.has_ended or not child.was_ready:
                return {}
            child.users += 1
        with self._until_left(child):
            caches = child.find_caches()
        return {} if caches is None else {caches.worker_id: caches.figures}

    def close(self) -> None:
        """Let go of the child: it ends now if nobody uses it, else with its run."""
        with self._table:
            child, self._child = self._child, None
            is_idle = child is not None and not child.users
        if child is not None and is_idle:
            child.stop()

    def kill(self) -> None:
        """End every child now."""
        with self._table:
            children, self._all, self._child = self._all, [], None
        for child in children:
            if not child.has_ended:
                child.kill()

    def forget(self) -> None:
        """Begin afresh in a forked process, whose parent has the children."""
        for child in self._all:
            child.forget()
        self._table, self._child, self._all = threading.Lock(), None, []

    def _check(self, request: GenerateRequest) -> None:
        with self._in_use() as child:
            child.wait_until_ready(_wait_on)
            child.check(request, directory=current_directory())

    @contextmanager
    def _in_use(self) -> Iterator[ChildProcess]:
        """The child that there is, or a new one; in the block nobody lets go of it, and at its end this may."""
        child = self._enter()
        with self._until_left(child):
            yield child

    @contextmanager
    def _until_left(self, child: ChildProcess) -> Iterator[None]:
        """Leave a child that was entered at the block's end, and end it if that was its last user."""
        try:
            yield
        finally:
            with self._table:
                child.users -= 1
                is_over = not child.users and child is not self._child
            if is_over:
                child.stop()

    def _enter(self) -> ChildProcess:
        python = SETTINGS.current.subprocess_python or sys.executable
        with self._table:
            child = self._child
            if child is not None and child.python == python and not (child.has_ended or child.is_unwanted):
                child.users += 1
                return child
            started = self._child = ChildProcess(python)
            started.users = 1
            self._all = [*(other for other in self._all if not other.has_ended), started]
            is_idle = child is not None and not child.users
        if child is not None and is_idle:
            child.stop()
        return started


class SubprocessCall:
    """One job: a child is lent, and followed."""

    def __init__(self, executor: SubprocessExecutor, writer: JobWriter) -> None:
        self._executor = executor
        self._writer = writer
        self._following = Following(writer)

    @property
    def cost(self) -> ProbeCost:
        """What the probe in the child cost a run that did not succeed."""
        return self._following.cost

    def run(self) -> JobFinishedData:
        """Have the child run it.

        Raises
        ------
        JobTimeoutError
            When `timeout_s` is over; the child is dead.
        ChildDiedError, OutOfMemoryError
            When the child has ended, or has no memory left and was ended.
        """
        with self._executor.lent(self._wait_on) as child:
            return self._following.run(child)

    def _wait_on(self) -> None:
        if self._writer.is_cancel_requested():
            raise JobCancelledError("the job was cancelled before its process could run it", hint="Run it again.")


def _wait_on() -> None:
    """Wait without end."""


EXECUTOR: Final = SubprocessExecutor()

atexit.register(EXECUTOR.kill)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=EXECUTOR.forget)

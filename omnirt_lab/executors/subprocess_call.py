"""The isolating executor: a warm child process runs the jobs, and this one writes its events into the journal.

The child makes the same call as `legacy_call`, with caches of its own. What befalls it, befalls this process not: it
can be killed in the middle of a native call, and its end gives all its memory back.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnirt_lab.errors import ChildDiedError, JobCancelledError, JobTimeoutError, LabError, NotAvailableError
from omnirt_lab.executors.elsewhere import Relay
from omnirt_lab.executors.failures import ElsewhereError
from omnirt_lab.executors.messages import Cancel, Run, ShowPreviews
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.executors.subprocess_child import TICK_S, ChildProcess
from omnirt_lab.records import GenerateRequest, JobFinishedData, ProbeCost

if TYPE_CHECKING:
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

    def begin(self, request: GenerateRequest, writer: JobWriter) -> SubprocessCall:
        """Take the job."""
        return SubprocessCall(self, request, writer)

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
            child.check(request, directory=_current_directory())

    @contextmanager
    def _in_use(self) -> Iterator[ChildProcess]:
        """The child that there is, or a new one; in the block nobody lets go of it, and at its end this may."""
        child = self._enter()
        try:
            yield child
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
    """One job: 1. a child is lent, 2. is sent the job, 3. what it says goes into the journal, until it says the end."""

    def __init__(self, executor: SubprocessExecutor, request: GenerateRequest, writer: JobWriter) -> None:
        self._executor = executor
        self._timeout_s = request.config.timeout_s
        self._writer = writer
        self._relay = Relay(writer)
        self._shows_previews = False
        self._cancelled_s: float | None = None
        self._lent_s = 0.0

    @property
    def cost(self) -> ProbeCost:
        """What the probe in the child cost a run that did not succeed."""
        return self._relay.cost

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
            self._lent_s = time.monotonic()
            try:
                child.send(self._message())
                return self._follow(child)
            except (KeyboardInterrupt, SystemExit):
                self._wind_down(child)
                raise
            finally:
                if self._relay.is_spent:
                    child.kill()

    def _message(self) -> Run:
        self._shows_previews = self._writer.wants_preview()
        return Run(
            job=self._writer.job,
            worker_id=self._writer.worker_id,
            settings=SETTINGS.current,
            state_dir=str(self._writer.artifacts.state_directory),
            directory=_current_directory(),
            shows_previews=self._shows_previews,
        )

    def _follow(self, child: ChildProcess) -> JobFinishedData:
        while True:
            message = child.receive(TICK_S)
            if message is not None:
                finished = self._relay.take(message)
                if finished is not None:
                    return finished
            self._attend(child)

    def _attend(self, child: ChildProcess) -> None:
        """Keep to the time, and pass on what others want of the run."""
        now_s = time.monotonic()
        if self._timeout_s is not None and now_s - self._lent_s > self._timeout_s:
            self._end(child)
            raise JobTimeoutError(
                f"the run took longer than timeout_s={self._timeout_s:g}, and its process was killed",
                hint="Give it more time, or ask for less.",
            )
        wanted = self._writer.wants_preview()
        if wanted != self._shows_previews:
            self._shows_previews = wanted
            child.send(ShowPreviews(wanted=wanted))
        if not self._writer.is_cancel_requested():
            return
        if self._cancelled_s is None:
            self._cancelled_s = now_s
            child.send(Cancel(run_id=self._writer.job.run_id))
        elif now_s - self._cancelled_s > SETTINGS.current.cancel_grace_s:
            self._end(child)
            raise JobCancelledError("the run did not stop, and its process was killed", hint="Run it again.")

    def _wind_down(self, child: ChildProcess) -> None:
        """After an interrupt: follow the child to its next boundary. Another interrupt does not wait for it."""
        child.send(Cancel(run_id=self._writer.job.run_id))
        deadline_s = time.monotonic() + SETTINGS.current.cancel_grace_s
        with suppress(LabError, ElsewhereError):
            while child.is_busy or child.has_news:
                message = child.receive(TICK_S)
                if message is not None:
                    self._relay.take(message)
                elif time.monotonic() > deadline_s:
                    self._end(child)

    def _end(self, child: ChildProcess) -> None:
        """Kill it, and keep what it had said."""
        child.kill()
        with suppress(LabError, ElsewhereError):
            while True:
                message = child.receive(TICK_S)
                if message is not None:
                    self._relay.take(message)

    def _wait_on(self) -> None:
        if self._writer.is_cancel_requested():
            raise JobCancelledError("the job was cancelled before its process could run it", hint="Run it again.")


def _wait_on() -> None:
    """Wait without end."""


def _current_directory() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # it was removed
        return "/"


EXECUTOR: Final = SubprocessExecutor()

atexit.register(EXECUTOR.kill)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=EXECUTOR.forget)

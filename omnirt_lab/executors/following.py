"""A run on the far side, as this process sees it: what that says goes to the journal, what others want goes there."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from omnirt_lab.errors import JobCancelledError, JobTimeoutError, LabError
from omnirt_lab.executors.elsewhere import Relay
from omnirt_lab.executors.failures import ElsewhereError
from omnirt_lab.executors.messages import Cancel, FromWorker, Run, ShowPreviews, ToWorker
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.records import JobFinishedData, ProbeCost

if TYPE_CHECKING:
    from omnirt_lab.journal import JobWriter

TICK_S: Final = 0.05
"""How often whoever waits for the far side looks at other things."""

_DRAIN_S: Final = 10.0
"""How long a process that was killed may take until its end is known."""


class FarSide(Protocol):
    """A process that runs one job at a time for this one: a child, or an actor of a cluster."""

    @property
    def is_busy(self) -> bool:
        """It has a run that it has not ended."""

    @property
    def has_news(self) -> bool:
        """`receive` would not wait."""

    def send(self, message: ToWorker) -> None:
        """Say something; a far side that is gone is for `receive` to tell."""

    def receive(self, timeout_s: float) -> FromWorker | None:
        """The next that it says of its run; None if it says nothing for so long, a LabError when it has ended."""

    def kill(self) -> None:
        """End it now."""


class Following:
    """One job, from its first attempt to its last: 1. the far side is sent the run, 2. what it says is followed."""

    def __init__(self, writer: JobWriter) -> None:
        self._writer = writer
        self._timeout_s = writer.job.request.config.timeout_s
        self._relay = Relay(writer)
        self._shows_previews = False
        self._begun_s: float | None = None
        self._cancelled_s: float | None = None
        self.has_heard = False
        """The far side has said something of the latest attempt."""

    @property
    def cost(self) -> ProbeCost:
        """What the probe there cost a run that did not succeed."""
        return self._relay.cost

    def run(self, far: FarSide, *, attempt: int = 1, files: dict[str, bytes] | None = None) -> JobFinishedData:
        """Have the far side run it.

        Parameters
        ----------
        files
            Those that the request names, by sha256, where the far side does not reach the store.

        Raises
        ------
        JobTimeoutError
            When `timeout_s` is over; the far side is dead.
        LabError
            What the run raised, or why the far side has ended.
        """
        self._relay = Relay(self._writer)
        self._begun_s = self._begun_s or time.monotonic()
        self._cancelled_s, self.has_heard = None, False
        try:
            far.send(self._message(attempt, files))
            return self._follow(far)
        except (KeyboardInterrupt, SystemExit):
            self._wind_down(far)
            raise
        finally:
            if self._relay.is_spent:
                far.kill()

    def require_time(self) -> None:
        """Raise a JobTimeoutError once `timeout_s` is over, counted from the first attempt's start."""
        if self._is_late(time.monotonic()):
            raise JobTimeoutError(
                f"the run took longer than timeout_s={self._timeout_s:g}, and its process was killed",
                hint="Give it more time, or ask for less.",
            )

    def _is_late(self, now_s: float) -> bool:
        return self._timeout_s is not None and self._begun_s is not None and now_s - self._begun_s > self._timeout_s

    def _message(self, attempt: int, files: dict[str, bytes] | None) -> Run:
        self._shows_previews = self._writer.wants_preview()
        return Run(
            job=self._writer.job,
            worker_id=self._writer.worker_id,
            settings=SETTINGS.current,
            sent_t_ns=self._writer.now_ns(),
            attempt=attempt,
            state_dir=None if files is not None else str(self._writer.artifacts.state_directory),
            files=files or {},
            directory=current_directory(),
            shows_previews=self._shows_previews,
        )

    def _follow(self, far: FarSide) -> JobFinishedData:
        while True:
            message = far.receive(TICK_S)
            if message is not None:
                self.has_heard = True
                finished = self._relay.take(message)
                if finished is not None:
                    return finished
            self._attend(far)

    def _attend(self, far: FarSide) -> None:
        """Keep to the time, and pass on what others want of the run."""
        now_s = time.monotonic()
        if self._is_late(now_s):
            self._end(far)
        self.require_time()
        wanted = self._writer.wants_preview()
        if wanted != self._shows_previews:
            self._shows_previews = wanted
            far.send(ShowPreviews(wanted=wanted))
        if not self._writer.is_cancel_requested():
            return
        if self._cancelled_s is None:
            self._cancelled_s = now_s
            far.send(Cancel(run_id=self._writer.job.run_id))
        elif now_s - self._cancelled_s > SETTINGS.current.cancel_grace_s:
            self._end(far)
            raise JobCancelledError("the run did not stop, and its process was killed", hint="Run it again.")

    def _wind_down(self, far: FarSide) -> None:
        """After an interrupt: follow the far side to its next boundary. Another interrupt does not wait for it."""
        far.send(Cancel(run_id=self._writer.job.run_id))
        deadline_s = time.monotonic() + SETTINGS.current.cancel_grace_s
        with suppress(LabError, ElsewhereError):
            while far.is_busy or far.has_news:
                message = far.receive(TICK_S)
                if message is not None:
                    self._relay.take(message)
                elif time.monotonic() > deadline_s:
                    self._end(far)
                    return

    def _end(self, far: FarSide) -> None:
        """Kill it, and keep what it had said."""
        far.kill()
        deadline_s = time.monotonic() + _DRAIN_S
        with suppress(LabError, ElsewhereError):
            while time.monotonic() < deadline_s:
                message = far.receive(TICK_S)
                if message is not None:
                    self._relay.take(message)


def current_directory() -> str:
    """What relative paths of a request start from."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # it was removed
        return os.sep

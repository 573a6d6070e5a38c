"""What a process does that runs jobs for another one: it takes messages, and works. How they travel is its owner's."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from contextlib import suppress

from omnirt_lab.executors import get_executor
from omnirt_lab.executors.elsewhere import RemoteWriter, execute
from omnirt_lab.executors.failures import error_info
from omnirt_lab.executors.messages import (
    AskCaches,
    Caches,
    Cancel,
    Check,
    Checked,
    FromWorker,
    Run,
    ShowPreviews,
    ToWorker,
)
from omnirt_lab.executors.settings import SETTINGS


class FarWorker:
    """Two threads: one is in `work`, another one calls `take`, so that a cancel is heard in the middle of a step.

    Parameters
    ----------
    say
        Sends a message back, from either thread.
    name
        Of this process; stands behind the sender's own name in a run's `worker_id`.
    node
        The machine, where it belongs to a cluster.
    """

    def __init__(self, say: Callable[[FromWorker], None], *, name: str, node: str | None = None) -> None:
        self._say = say
        self._name = self._worker_id = name
        self._node = node
        self._runs: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._cancelled_run: str | None = None
        self._shows_previews = False

    def take(self, message: ToWorker) -> None:
        """Take what the other process says."""
        match message:
            case Run():
                self._shows_previews = message.shows_previews
                self._runs.put(message)
            case Cancel():
                self._cancelled_run = message.run_id
            case ShowPreviews():
                self._shows_previews = message.wanted
            case Check():
                self._say(checked(message))
            case AskCaches():
                self._say(self._caches(message))

    def work(self) -> None:
        """Run what is sent, for ever."""
        while True:
            run = self._runs.get()
            _enter(run.directory)
            SETTINGS.current = run.settings
            self._say(execute(self._writer(run), node=self._node))

    def _caches(self, asked: AskCaches) -> Caches:
        from omnirt_lab.executors.resources import RESOURCES  # loads torch

        return Caches(number=asked.number, worker_id=self._worker_id, figures=RESOURCES.cache_figures())

    def _writer(self, run: Run) -> RemoteWriter:
        self._worker_id = f"{run.worker_id}/{self._name}"
        return RemoteWriter(
            run,
            self._say,
            worker_id=self._worker_id,
            is_cancelled=lambda: self._cancelled_run == run.job.run_id,
            wants_preview=lambda: self._shows_previews,
        )


def checked(check: Check) -> Checked:
    """Say what is wrong with a request; no weights are loaded."""
    _enter(check.directory)
    try:
        get_executor("legacy_call").check(check.request)
    except Exception as error:  # noqa: BLE001  # whatever it was, the other process waits for the answer
        return Checked(number=check.number, error=error_info(error, stage=None))
    return Checked(number=check.number)


def _enter(directory: str) -> None:
    with suppress(OSError):  # it is not there: then relative paths name nothing, and their own error says so
        os.chdir(directory)

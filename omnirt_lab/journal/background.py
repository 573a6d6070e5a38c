"""A thread for what must happen soon and in nobody's way: flushing the last steps, checkpointing."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from omnirt_lab.units import NS_PER_MS, NS_PER_S

SOON_NS: Final = 5 * NS_PER_MS


class Due(NamedTuple):
    """An action and its time, on the monotonic clock."""

    at_ns: int

    number: int
    """Of two that are due at once, the one that was asked for first goes first."""

    action: Callable[[], None]


class Background:
    """Calls each action a little after it was asked for, by a thread that starts with the first one.

    After a fork the child begins anew.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._begin()

    def soon(self, action: Callable[[], None], *, after_ns: int = SOON_NS) -> None:
        """Have `action` called, which must not raise."""
        if self._pid != os.getpid():
            self._begin()
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="omnirt-journal", daemon=True)
                thread.start()
                self._thread = thread  # before that it would wait for one that an interrupt has kept from starting
            due = Due(time.monotonic_ns() + after_ns, next(self._numbers), action)
            heapq.heappush(self._waiting, due)
            if self._waiting[0] is due:
                self._changed.notify()

    def close(self) -> None:
        """Do what was asked for, and end the thread."""
        with self._changed:
            thread, self.is_closing = self._thread, True
            self._changed.notify()
        if thread is not None and thread.is_alive():
            thread.join()
        self.is_closing = False

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._waiting: list[Due] = []
        self._numbers = itertools.count()
        self._thread = None
        self.is_closing = False
        """Whether each action is called at once, however late it is due: an action must not put itself off then."""

    def _work(self) -> None:
        while (action := self._next()) is not None:
            action()
            del action  # an idle thread must not keep a finished run alive

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next action's time; None once all is done and the thread shall end."""
        with self._changed:
            while True:
                if not self._waiting:
                    if self.is_closing:
                        self._thread = None  # whoever asks from now on needs a new one
                        return None
                    self._changed.wait()
                elif (wait_ns := self._waiting[0].at_ns - time.monotonic_ns()) > 0 and not self.is_closing:
                    self._changed.wait(wait_ns / NS_PER_S)
                else:
                    return heapq.heappop(self._waiting).action

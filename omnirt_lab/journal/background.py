"""A thread for what must happen soon and in nobody's way: flushing the last steps, checkpointing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from omnirt_lab.units import NS_PER_S

DELAY_NS: Final = 5_000_000
"""How long an action waits: as all wait equally long, the first to come is the first to go."""


class Background:
    """Calls each action 5 ms after it was asked for. The thread starts with the first one, and again after a fork."""

    def __init__(self) -> None:
        self._actions: queue.SimpleQueue[tuple[int, Callable[[], None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def soon(self, action: Callable[[], None]) -> None:
        """Have `action` called, which must not raise."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._actions = queue.SimpleQueue()
                self._thread = threading.Thread(target=_work, args=(self._actions,), name="omnirt-journal", daemon=True)
                self._thread.start()
        self._actions.put((time.monotonic_ns() + DELAY_NS, action))

    def close(self) -> None:
        """Do what was asked for, and end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._actions.put(None)
            thread.join()


def _work(actions: queue.SimpleQueue[tuple[int, Callable[[], None]] | None]) -> None:
    while (item := actions.get()) is not None:
        due_ns, action = item
        time.sleep(max(0, due_ns - time.monotonic_ns()) / NS_PER_S)
        action()
        del item, action  # an idle thread must not keep a finished run alive

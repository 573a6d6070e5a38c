"""A thread that reads on in the journal and hands over what is new."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from omnirt_lab.errors import LabError
from omnirt_lab.journal import Journal, JournalEntry

OnEntries = Callable[[Sequence[JournalEntry]], None]

BATCH: Final = 256
"""Events read at once: about 3 ms of decoding."""

_WAIT_S: Final = 0.5
_RETRY_S: Final = 1.0

_log: Final = logging.getLogger(__name__)


class Follower:
    """Calls `on_entries`, in its own thread, with the events of all jobs behind `after_id`, in order, each once."""

    def __init__(self, journal: Journal, on_entries: OnEntries, *, after_id: int, name: str) -> None:
        self._journal = journal
        self._on_entries = on_entries
        self._cursor = journal.cursor(after_id=after_id)
        self._has_caught_up = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"omnirt-{name}", daemon=True)

    @property
    def after_id(self) -> int:
        """Id of the last event that was handed over."""
        return self._cursor.after_id

    @property
    def has_caught_up(self) -> bool:
        """Whether it has once come to the journal's end."""
        return self._has_caught_up

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch at hand."""
        self._stopping.set()
        self._cursor.wake()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        with self._cursor:
            while not self._stopping.is_set():
                try:
                    self._step()
                except LabError as error:  # a locked or full journal: nothing was skipped, the next look tries again
                    _log.warning("the journal cannot be read now: %s", error)
                    self._stopping.wait(_RETRY_S)
        self._journal.close_thread()

    def _step(self) -> None:
        while entries := self._cursor.read(limit=BATCH):
            self._on_entries(entries)
            if self._stopping.is_set():
                return
        self._has_caught_up = True
        self._cursor.wait(_WAIT_S)

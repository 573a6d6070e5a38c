"""One lock for each scheduler object: pipelines are not re-entrant, and `from_pipe` shares the scheduler."""

from __future__ import annotations

import threading
import weakref
from typing import Any

_locks: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_locks_guard = threading.Lock()


def scheduler_lock(scheduler: object) -> threading.RLock:
    """The lock to hold while a pipeline with this scheduler runs; the same one for as long as the scheduler lives."""
    with _locks_guard:
        return _locks.setdefault(scheduler, threading.RLock())

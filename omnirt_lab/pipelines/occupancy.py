"""Which objects are being watched: two watchers of one component would undo each other's wrappers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from omnirt_lab.errors import PipelineBusyError

_occupied_ids: set[int] = set()
_guard = threading.Lock()


@contextmanager
def occupied(parts: Sequence[object]) -> Iterator[None]:
    """Hold these objects for the block.

    Raises
    ------
    PipelineBusyError
        If one of them is held already; nothing is held then.
    """
    ids = {id(part) for part in parts}
    with _guard:
        busy = next((part for part in parts if id(part) in _occupied_ids), None)
        if busy is None:
            _occupied_ids.update(ids)
    if busy is not None:
        msg = f"a call that uses this {type(busy).__name__} is already running"
        raise PipelineBusyError(msg, hint="Pipelines are not re-entrant: wait for the other call, or use a copy.")
    try:
        yield
    finally:
        with _guard:
            _occupied_ids.difference_update(ids)

"""The garbage collector, kept from looking through large libraries again and again.

torch and diffusers make hundreds of thousands of objects, which stay. Without this they are looked through again and
again while they are imported, and once more at the process's end.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect nothing in the block; what it leaves counts as old, which is looked through seldom."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # else what others have frozen would be thawed
            gc.freeze()
            gc.unfreeze()  # into the oldest generation
        if was_enabled:
            gc.enable()


def end_quickly() -> None:
    """Collect nothing at the end of this process, which must be the lab's own: the system takes all memory back."""
    atexit.register(gc.freeze)

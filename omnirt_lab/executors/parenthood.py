"""A process that ends with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""prctl(2): the signal that this process gets when the thread that started it ends."""


def die_with_parent(parent_pid: int | None) -> None:
    """Be killed when the thread that started this process ends, also in the middle of a native call; on Linux alone.

    Parameters
    ----------
    parent_pid
        Who started it, where that is known: if it has ended already, this process ends now.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent_pid is not None and os.getppid() != parent_pid:
        sys.exit(1)

"""The child processes of the test's own process; other tests of a session may have a browser or a server open."""

from __future__ import annotations

import psutil


def children() -> list[psutil.Process]:
    """Those that run jobs."""
    return [child for child in psutil.Process().children() if "omnirt_lab.executors.child" in _words(child)]


def child() -> psutil.Process:
    """The one that there is."""
    (found,) = children()
    return found


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []

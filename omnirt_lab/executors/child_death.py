"""Why a child process has ended, as far as its exit status and what it printed last can tell."""

from __future__ import annotations

import signal
from typing import Final

from omnirt_lab.errors import ChildDiedError
from omnirt_lab.executors.failures import MAX_TRACEBACK_CHARS, ElsewhereTraceback

_CRASH: Final = "Fatal Python error: "
_CRASHED_THREAD: Final = "\nCurrent thread"
"""How `faulthandler` begins, and where the thread stands that crashed: others may come before it."""


def death_of(pid: int | None, status: int, printed: str, *, python: str, was_ready: bool) -> ChildDiedError:
    """The error for a child that has ended by itself; what it printed last stands as its cause.

    Parameters
    ----------
    status
        As `Popen.returncode` has it: negative for a signal.
    was_ready
        It had loaded its libraries.
    """
    printed = printed.strip()
    hint = _hint_for(status) if was_ready else f"The libraries of {python} cannot be loaded."
    last_line = f": {printed.splitlines()[-1]}" if printed and status > 0 else ""
    error = ChildDiedError(f"the child process {pid} {_how(status)}{last_line}", hint=hint)
    if printed:
        error.__cause__ = ElsewhereTraceback(last_words(printed))
    return error


def last_words(printed: str) -> str:
    """The part of what a process printed that says why it ended: a crash's own thread first, else the end."""
    crash = printed.find(_CRASH)
    if crash < 0:
        return printed[-MAX_TRACEBACK_CHARS:]
    thread = printed.find(_CRASHED_THREAD, crash)
    first_line = printed[crash:].partition("\n")[0]
    return (printed[crash:] if thread < 0 else f"{first_line}\n{printed[thread:]}")[:MAX_TRACEBACK_CHARS]


def _how(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    known = {number.value: number.name for number in signal.Signals}
    return f"was killed by {known.get(-status, f'signal {-status}')}"


def _hint_for(status: int) -> str:
    if status == -signal.SIGKILL:
        return (
            "Most often that is the system, for want of memory (see dmesg): make the picture smaller, or load the "
            "model with dtype='bfloat16'. The next run starts a new child."
        )
    if status < 0:
        return "A native library crashed; the report's traceback shows where. The next run starts a new child."
    return "What it ran has ended its process. The next run starts a new child."

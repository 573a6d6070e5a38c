"""Being woken when a file in the journal's directory is written: by the kernel where it can, else by the clock."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

POLL_S: Final = 0.02


class Watch(Protocol):
    """Something that notices writes since it was made."""

    def wait(self, timeout_s: float) -> bool:
        """Return True at a write, and False when woken, after `timeout_s`, or when it cannot tell."""
        ...

    def wake(self) -> None:
        """End the wait of another thread, or the next one."""

    def close(self) -> None:
        """Stop watching."""


class PollingWatch:
    """Takes every moment for a possible write; works everywhere."""

    def wait(self, timeout_s: float) -> bool:
        """Return after 20 ms at most."""
        time.sleep(min(timeout_s, POLL_S))
        return False

    def wake(self) -> None:
        """No wait is long."""

    def close(self) -> None:
        """Nothing is held."""


class InotifyWatch:
    """Linux's own notice of a write to any file of a directory, 0.2 ms after it.

    It watches the directory, since the WAL goes and comes again with the last connection. The numbers are those of
    inotify(7).
    """

    _IN_MODIFY: Final = 0x2
    _IN_CREATE: Final = 0x100

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._wake_fd: int | None = None
        try:
            self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            mask = ctypes.c_uint32(self._IN_MODIFY | self._IN_CREATE)
            _checked(libc.inotify_add_watch(self._fd, os.fsencode(directory), mask))
        except OSError:
            self.close()
            raise

    def wait(self, timeout_s: float) -> bool:
        """Return at the first write, those since the last call included, when woken, or after `timeout_s`."""
        assert self._wake_fd is not None
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake_fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(timeout_s * 1000)}
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
        if self._fd not in ready:
            return False
        with suppress(BlockingIOError):  # another thread was quicker
            os.read(self._fd, 65536)
        return True

    def wake(self) -> None:
        """End the wait of another thread, or the next one."""
        assert self._wake_fd is not None
        os.eventfd_write(self._wake_fd, 1)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._fd)
        if self._wake_fd is not None:
            os.close(self._wake_fd)


def watch_directory(directory: Path) -> Watch:
    """The best watch that this machine has to spare: users have 128 inotify instances by default."""
    if sys.platform == "linux":
        try:
            return InotifyWatch(directory)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOSYS, errno.ENOMEM):
                raise
    return PollingWatch()


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

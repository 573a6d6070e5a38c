"""A private directory for the sockets of runner kernels, gone with the server, or at the next start."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from omnirt_lab.errors import StateDirError

MAX_SOCKET_BYTES: Final = 107
"""Longest path of a Unix socket on Linux, without the zero at its end (unix(7))."""

SOCKET_NAME_BYTES: Final = 24
"""What the kernels' sockets add to the directory's path."""

_PREFIX: Final = "omnirt-runners-"
_LOCK: Final = "lock"


class RuntimeDirectory:
    """A new directory of mode 0700 whose lock tells whether its server lives.

    Raises
    ------
    StateDirError
        If no place for temporary files has a path that is short enough for sockets.
    """

    def __init__(self) -> None:
        place = _place()
        for leftover in _leftovers(place):
            shutil.rmtree(leftover, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix=f"new-{_PREFIX}", dir=place))
        self._lock = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = new.rename(place / new.name.removeprefix("new-"))  # locked before others may take it for a leftover

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _place() -> Path:
    own = os.environ.get("XDG_RUNTIME_DIR")
    candidates = [*([Path(own)] if own else []), Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108  # mkdtemp's 0700
    for place in candidates:
        longest = len(os.fsencode(place)) + len(_PREFIX) + 9 + SOCKET_NAME_BYTES
        if longest <= MAX_SOCKET_BYTES and os.access(place, os.W_OK | os.X_OK):
            return place
    raise StateDirError(
        f"no directory for sockets: {', '.join(map(str, candidates))} are too long or cannot be written",
        hint="Set XDG_RUNTIME_DIR to a short path that you may write.",
    )


def _leftovers(place: Path) -> Iterator[Path]:
    """Directories of this user whose server is gone."""
    for directory in place.glob(f"{_PREFIX}*"):
        try:
            if directory.stat().st_uid != os.getuid():
                continue
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # another server has just removed it
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
        yield directory

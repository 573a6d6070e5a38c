"""Connections to the journal's file: one a thread, none across a fork, and short transactions only."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from omnirt_lab.errors import JournalLockedError, LabError
from omnirt_lab.journal.failures import explained
from omnirt_lab.journal.schema import prepare_schema
from omnirt_lab.journal.state import unusable
from omnirt_lab.units import BYTES_PER_MIB

FILE_NAME: Final = "journal.db"

BUSY_TIMEOUT_S: Final = 10.0
"""How long a transaction waits for another process's; each takes about 0.1 ms."""

MAX_WAL_BYTES: Final = 16 * BYTES_PER_MIB
"""About a dozen runs; checkpointing so much takes 10 to 40 ms, which never happens in an emit."""


CHECKPOINT_WAIT_S: Final = 0.05

SETTINGS: Final = f"""
PRAGMA synchronous = NORMAL;      -- a commit survives the process; the latest may not survive a power cut
PRAGMA wal_autocheckpoint = 0;    -- its fsync would stall an emit for 7 to 37 ms
PRAGMA journal_size_limit = {4 * MAX_WAL_BYTES};
"""


class ThreadConnection:
    """One thread's connection. The lock is held while it is in use, so that a fork can wait for it."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self.thread = threading.current_thread()
        self.lock = threading.RLock()
        self._path = path
        self._busy_timeout_ms = int(busy_timeout_s * 1000)
        self._waiting_ms = 0
        self._connection: sqlite3.Connection | None = None

    def get(self, wait_s: float | None = None) -> sqlite3.Connection:
        """The connection, opened where it is not, waiting `wait_s` (default: the database's) for a lock."""
        wait_ms = self._busy_timeout_ms if wait_s is None else int(wait_s * 1000)
        connection = self._connection
        if connection is None:
            connection = self._connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            connection.executescript(SETTINGS)
            connection.create_function("casefold", 1, str.casefold, deterministic=True)
        if wait_ms != self._waiting_ms:
            connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
            self._waiting_ms = wait_ms
        return connection

    def close(self) -> None:
        """Close it; the next `get` opens another."""
        connection, self._connection, self._waiting_ms = self._connection, None, 0
        if connection is not None:
            connection.close()


class OwnConnection(threading.local):
    """Where a thread finds its connection."""

    connection: ThreadConnection | None = None


class Database:
    """The journal's file, open for this process.

    1. A thread's first use gives it a connection of its own; whoever opens one closes those of threads that ended.
    2. `reading` and `writing` lend it for a moment. No cursor or transaction stays open between two uses: a reader
       that stalls holds nothing up.
    3. A fork waits for the moment when no connection is in use and closes them all. SQLite's locks belong to a process,
       but its bookkeeping would be copied: a child that inherits it believes in locks that it does not hold.
    """

    def __init__(self, directory: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = directory / FILE_NAME
        self.wal_path = directory / f"{FILE_NAME}-wal"
        self._busy_timeout_s = busy_timeout_s
        self._own = OwnConnection()
        self._connections: list[ThreadConnection] = []
        self._connections_lock = threading.RLock()
        self._prepare(directory)
        self._finalizer = weakref.finalize(self, _close_all, self._connections)
        _open_databases.add(self)

    @contextmanager
    def reading(self, *, wait_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """The thread's connection, for statements that are fetched to their end inside the block.

        Raises
        ------
        JournalError, StateDirError
            For what SQLite could not do.
        """
        own = self._of_this_thread()
        with own.lock, self._explaining():
            yield own.get(wait_s)

    def writing_at_once(self, *, wait_s: float | None = None) -> AbstractContextManager[sqlite3.Connection]:
        """The thread's connection, for one statement that writes: it is a transaction of its own.

        Raises as `writing` does.
        """
        return self.reading(wait_s=wait_s)

    @contextmanager
    def writing(self, *, wait_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the write lock: committed at the end, rolled back by any exception.

        Raises
        ------
        JournalLockedError
            If another process held the lock for longer than `wait_s`.
        JournalError, StateDirError
            For what SQLite could not do.
        """
        own = self._of_this_thread()
        with own.lock, self._explaining():
            connection = own.get(wait_s)
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:  # an interrupt must not leave the lock held
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def checkpoint(self) -> None:
        """Move what the WAL holds into the database file, and empty it unless somebody is reading it.

        Most is moved while others write on; for the rest, some milliseconds, they wait. A reader that does not end is
        not waited for: it would hold up all writers.
        """
        with self.reading(wait_s=CHECKPOINT_WAIT_S) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def limit_wal(self) -> None:
        """Checkpoint if the WAL has grown large."""
        if self.wal_path.exists() and self.wal_path.stat().st_size > MAX_WAL_BYTES:
            self.checkpoint()

    def close_thread(self) -> None:
        """Close the calling thread's connection; its next use opens another."""
        own = self._of_this_thread()
        with own.lock:
            own.close()

    def close(self) -> None:
        """Close every thread's connection; the last process to do so removes the WAL."""
        self._finalizer()

    def _prepare(self, directory: Path) -> None:
        """Make the file (mode 0600) and its tables; one process at a time, as turning WAL on is not otherwise safe."""
        try:
            with FileLock(directory / "open.lock", timeout=self._busy_timeout_s, mode=0o600):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
                own = self._of_this_thread()
                with own.lock, self._explaining():
                    prepare_schema(own.get(), self.path)
        except Timeout as error:
            raise JournalLockedError(
                f"another process has been opening {self.path} for {self._busy_timeout_s:.0f} s",
                hint="Close other programs that use the lab, then try again.",
            ) from error
        except LabError:
            _close_all(self._connections)
            raise
        except OSError as error:
            raise unusable(self.path, error) from error

    def _of_this_thread(self) -> ThreadConnection:
        own = self._own.connection
        if own is None:
            own = self._own.connection = ThreadConnection(self.path, self._busy_timeout_s)
            with self._connections_lock:
                ended = [other for other in self._connections if not other.thread.is_alive()]
                for other in ended:
                    other.close()
                    self._connections.remove(other)
                self._connections.append(own)
        return own

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # faults of this package, not of the file
        except sqlite3.DatabaseError as error:
            raise explained(error, self.path) from error

    def stop_for_fork(self) -> None:
        """Wait until no connection is in use, and close them all."""
        self._connections_lock.acquire()
        for own in self._connections:
            own.lock.acquire()
            own.close()

    def go_on_after_fork(self) -> None:
        """Let connections be opened again, in parent and child alike."""
        for own in self._connections:
            own.lock.release()
        self._connections_lock.release()


def _close_all(connections: list[ThreadConnection]) -> None:
    for own in connections:
        with own.lock:
            own.close()


_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_stopped: list[Database] = []


def _stop_for_fork() -> None:
    _stopped[:] = _open_databases
    for database in _stopped:
        database.stop_for_fork()


def _go_on_after_fork() -> None:
    for database in _stopped:
        database.go_on_after_fork()
    _stopped.clear()


if sys.platform != "win32":
    os.register_at_fork(before=_stop_for_fork, after_in_parent=_go_on_after_fork, after_in_child=_go_on_after_fork)

"""What SQLite says, as the lab's own errors."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from omnirt_lab.errors import JournalCorruptError, JournalError, JournalLockedError, LabError, StateDirError


def corrupt(path: Path, reason: str) -> JournalCorruptError:
    """The journal's file holds what no lab has written."""
    return JournalCorruptError(
        f"{path} is damaged or is no journal: {reason}",
        hint=f"Move it away (mv {path} {path}.damaged) and start afresh; "
        f"`sqlite3 {path}.damaged .recover` saves what can be read.",
    )


def explained(error: sqlite3.DatabaseError, path: Path) -> LabError:
    """The lab's error for one of SQLite's.

    The primary result codes are in https://www.sqlite.org/rescode.html.
    """
    code = error.sqlite_errorcode & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalLockedError(
            f"another process kept {path} locked for too long",
            hint=f"Close other programs that have it open (fuser {path} names them), then try again.",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return corrupt(path, str(error))
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StateDirError(
            f"{path} cannot be written: {error}",
            hint="Free some space, or set OMNIRT_STATE_DIR to a directory on another disk.",
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StateDirError(
            f"{path} cannot be opened for writing: {error}",
            hint="Set OMNIRT_STATE_DIR to a directory that you may write to.",
        )
    return JournalError(
        f"{path}: {error}", hint="Report this, with what you did: the journal asked what SQLite rejects."
    )

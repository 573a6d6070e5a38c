"""The latest preview of each running job: one row, overwritten, gone when the job ends."""

from __future__ import annotations

import sqlite3

from omnirt_lab.records import Record


class Preview(Record, frozen=True, kw_only=True):
    """A picture of a job that is not done yet."""

    step: int
    """Denoising step that it was made after, from 0."""

    media_type: str

    content: bytes


def put_preview(connection: sqlite3.Connection, key: int, content: bytes, *, media_type: str, step: int) -> None:
    """Put it in the place of the one before; nothing happens if the job is not running."""
    connection.execute(
        "INSERT OR REPLACE INTO previews (job, step, media_type, content) "
        "SELECT key, ?, ?, ? FROM jobs WHERE key = ? AND state = 'running'",
        (step, media_type, content, key),
    )


def find_preview(connection: sqlite3.Connection, key: int) -> Preview | None:
    """The job's preview, if it has one."""
    row = connection.execute("SELECT step, media_type, content FROM previews WHERE job = ?", (key,)).fetchone()
    return None if row is None else Preview(step=row[0], media_type=row[1], content=row[2])

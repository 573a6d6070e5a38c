"""What outlives a server: the state of its folds over all jobs, and which traces were sent on."""

from __future__ import annotations

import sqlite3

from omnirt_lab.records import Record


class Snapshot(Record, frozen=True, kw_only=True):
    """A fold over the events of all jobs, as far as it had come."""

    name: str

    after_id: int
    """Id of the last event in it."""

    state: bytes
    """Whatever the fold makes of itself."""


def find(connection: sqlite3.Connection, name: str) -> Snapshot | None:
    """The latest snapshot of this name."""
    row = connection.execute("SELECT after_id, state FROM snapshots WHERE name = ?", (name,)).fetchone()
    return None if row is None else Snapshot(name=name, after_id=row[0], state=row[1])


def put(connection: sqlite3.Connection, snapshot: Snapshot) -> bool:
    """Replace the snapshot of this name by a later one; False if the stored one is as late."""
    done = connection.execute(
        "INSERT INTO snapshots (name, after_id, state) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
        "SET after_id = excluded.after_id, state = excluded.state WHERE excluded.after_id > after_id",
        (snapshot.name, snapshot.after_id, snapshot.state),
    )
    return done.rowcount == 1


def claim_export(connection: sqlite3.Connection, key: int, target: str) -> bool:
    """Take the right to send this job's trace to `target`; False if it is taken."""
    done = connection.execute("INSERT OR IGNORE INTO exports (job, target) VALUES (?, ?)", (key, target))
    return done.rowcount == 1

"""What outlives a server: the state of its folds over all jobs, and which traces were sent on."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from omnirt_lab.errors import JournalCorruptError
from omnirt_lab.folds import series
from omnirt_lab.journal import events, jobs
from omnirt_lab.records import AnyEvent, Record

SERIES: Final = "series"
"""Name of the snapshot of `folds.series`."""


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


def undelivered(connection: sqlite3.Connection, target: str, *, more: int = 0) -> int:
    """How many spans this collector did not take, over all servers that there were; `more` are added first."""
    name = f"undelivered {target}"
    stored = find(connection, name)
    count = more if stored is None else int(stored.state) + more
    if more:
        connection.execute(
            "INSERT OR REPLACE INTO snapshots (name, after_id, state) VALUES (?, 0, ?)", (name, b"%d" % count)
        )
    return count


def count_before_purge(connection: sqlite3.Connection, keys: Collection[int]) -> None:
    """Take these jobs' events into the series, as far as the snapshot lacks them: nobody can read them later.

    Otherwise a server that starts again from the snapshot would count less than it had shown before.
    """
    snapshot = find(connection, SERIES)
    state = None if snapshot is None else series.decode(snapshot.state)
    if snapshot is None or state is None:  # no server has shown anything yet
        return
    for key in keys:
        with suppress(JournalCorruptError):  # purging is the way out of that, and the server could not read it either
            state = series.apply(state, _entries_after(connection, key, snapshot.after_id))
    connection.execute("UPDATE snapshots SET state = ? WHERE name = ?", (series.encode(state), SERIES))


def _entries_after(connection: sqlite3.Connection, key: int, after_id: int) -> list[tuple[str, AnyEvent]]:
    if not events.has_job_after(connection, key, after_id):
        return []
    job_id = jobs.get_job_id(connection, key)
    rows = events.rows_of_job(connection, key)
    return [(job_id, events.to_event(row)) for row in rows if row[0] > after_id]


def claim_export(connection: sqlite3.Connection, key: int, target: str) -> bool:
    """Take the right to send this job's trace to `target`; False if it is taken."""
    done = connection.execute("INSERT OR IGNORE INTO exports (job, target) VALUES (?, ?)", (key, target))
    return done.rowcount == 1

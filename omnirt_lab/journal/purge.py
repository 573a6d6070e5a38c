"""Really deleting runs: their rows, their events, and the files that nothing else needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from omnirt_lab.journal.artifacts import ArtifactStore
from omnirt_lab.journal.database import Database
from omnirt_lab.journal.events import to_json
from omnirt_lab.journal.runs import get_run_id
from omnirt_lab.journal.snapshots import count_before_purge
from omnirt_lab.records import Record


class Purged(Record, frozen=True, kw_only=True):
    """What a purge has removed."""

    runs: int

    freed_bytes: int
    """Of the journal's file and the artifacts together."""


def purge(database: Database, artifacts: ArtifactStore, run_ids: Collection[str] | None) -> Purged:
    """Delete these runs, or all in the trash, for good.

    Raises
    ------
    RunNotFoundError
        If one of them does not exist; then none is deleted.
    """
    with database.writing() as connection:
        connection.execute("PRAGMA secure_delete = ON")  # a prompt must not live on in the file's free pages
        size_before_bytes = _size_bytes(connection)
        keys = _keys_of(connection, run_ids)
        count_before_purge(connection, keys)
        hashes = [sha for key in keys for sha in _delete(connection, key)]
        needless = [sha for sha in dict.fromkeys(hashes) if not _is_needed(connection, sha)]
        _give_pages_back(connection)
        freed_bytes = size_before_bytes - _size_bytes(connection)
        freed_bytes += artifacts.remove(needless)  # under the write lock: no run can come to need one meanwhile
    database.checkpoint()
    return Purged(runs=len(keys), freed_bytes=freed_bytes)


def freeable_bytes(connection: sqlite3.Connection, artifacts: ArtifactStore, run_ids: Collection[str]) -> int:
    """Bytes of the files that only these runs need, and of their events, requests and reports."""
    chosen = "SELECT job FROM runs WHERE run_id IN (SELECT value FROM json_each(?))"
    ids = to_json(tuple(run_ids))
    own = connection.execute(
        f"SELECT DISTINCT sha256 FROM artifacts AS own WHERE job IN ({chosen}) AND NOT EXISTS "  # noqa: S608  # constants
        f"(SELECT 1 FROM artifacts WHERE sha256 = own.sha256 AND job NOT IN ({chosen}))",
        (ids, ids),
    ).fetchall()
    (in_journal_bytes,) = connection.execute(
        "SELECT total(length(report)) + total(length(content)) + total(length(wish)) FROM runs "
        "JOIN jobs ON jobs.key = runs.job LEFT JOIN packed_events USING (job) "
        "WHERE runs.run_id IN (SELECT value FROM json_each(?))",
        (ids,),
    ).fetchone()
    return artifacts.size_bytes(sha256 for (sha256,) in own) + int(in_journal_bytes)


def _keys_of(connection: sqlite3.Connection, run_ids: Collection[str] | None) -> list[int]:
    if run_ids is None:
        return [row[0] for row in connection.execute("SELECT job FROM runs WHERE deleted_at_ms IS NOT NULL")]
    full_ids = dict.fromkeys(get_run_id(connection, run_id) for run_id in run_ids)
    find = "SELECT job FROM runs WHERE run_id = ?"
    return [connection.execute(find, (run_id,)).fetchone()[0] for run_id in full_ids]


def _delete(connection: sqlite3.Connection, key: int) -> list[str]:
    """Delete a run's rows; the files that it needed."""
    hashes = [row[0] for row in connection.execute("SELECT sha256 FROM artifacts WHERE job = ?", (key,))]
    for table, column in (
        ("artifacts", "job"),
        ("events", "job"),
        ("packed_events", "job"),
        ("runs", "job"),
        ("exports", "job"),
        ("jobs", "key"),
    ):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (key,))  # noqa: S608  # constants
    return hashes


def _is_needed(connection: sqlite3.Connection, sha256: str) -> bool:
    """Whether a run has it, or a job that has not ended begins with it."""
    query = (
        "SELECT 1 FROM artifacts WHERE sha256 = :sha256 UNION ALL "
        "SELECT 1 FROM jobs WHERE state IN ('queued', 'running') AND instr(wish, :sha256) LIMIT 1"
    )
    return connection.execute(query, {"sha256": sha256}).fetchone() is not None


def _give_pages_back(connection: sqlite3.Connection) -> None:
    """Shorten the file by its free pages; the pragma answers each page with a row, and Python's sqlite3 steps once."""
    (free_pages,) = connection.execute("PRAGMA freelist_count").fetchone()
    for _ in range(free_pages):
        connection.execute("PRAGMA incremental_vacuum")


def _size_bytes(connection: sqlite3.Connection) -> int:
    (page_count,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return int(page_count) * int(page_bytes)

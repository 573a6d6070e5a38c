"""The journal's tables. Who writes a row says so beside it; times are `_ms` since 1970, or `_ns` monotonic."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from omnirt_lab.errors import JournalCorruptError, JournalTooNewError, StateDirError

APPLICATION_ID: Final = 0x4F4D4E49
""""OMNI": marks the file as a journal, for us and for `file`."""

VERSION: Final = 2
"""Kept in `user_version`; grows when an older lab could no longer read or write the file."""

TABLES: Final = """
CREATE TABLE jobs (                    -- whoever enqueues, then whoever moves the state
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    run_id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    is_async INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT UNIQUE,
    created_by TEXT,
    worker_id TEXT,
    boot_id TEXT NOT NULL,
    monotonic_ns INTEGER NOT NULL,
    enqueued_at_ms INTEGER NOT NULL,
    started_at_ms INTEGER,
    ended_at_ms INTEGER,
    wish TEXT NOT NULL,                -- data of the first event
    queue TEXT NOT NULL DEFAULT 'local'
);
CREATE INDEX jobs_queued ON jobs (priority DESC, key) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (worker_id) WHERE state = 'running';

CREATE TABLE events (                  -- the job's one writer; packed when the job ends
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    event TEXT NOT NULL,
    stage TEXT,
    t_ns INTEGER NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (job, seq)
);

CREATE TABLE packed_events (           -- whoever ends the job; never changed
    job INTEGER PRIMARY KEY,
    first_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    content BLOB NOT NULL
);
CREATE INDEX packed_events_by_id ON packed_events (last_id, first_id);
CREATE INDEX packed_events_by_first_id ON packed_events (first_id);

CREATE TABLE runs (                    -- whoever ends the job; tags and what follows them: the user
    job INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    job_id TEXT NOT NULL,
    state TEXT NOT NULL,
    task TEXT NOT NULL,
    model TEXT NOT NULL,
    backend TEXT NOT NULL,
    execution_mode TEXT,
    worker_id TEXT,
    enqueued_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER,
    queue_wait_ms REAL,
    duration_ms REAL,
    prompt TEXT NOT NULL,
    negative_prompt TEXT,
    seed INTEGER,
    steps INTEGER,
    guidance_scale REAL,
    width_px INTEGER,
    height_px INTEGER,
    num_images INTEGER NOT NULL,
    scheduler TEXT,
    batch_size INTEGER,
    memory_kind TEXT,
    peak_bytes INTEGER,
    cache_hits TEXT NOT NULL,
    saved_ms REAL,
    error_type TEXT,
    artifact_sha256 TEXT,
    timings TEXT NOT NULL,
    tags TEXT NOT NULL DEFAULT '[]',
    rating INTEGER,
    note TEXT,
    deleted_at_ms INTEGER,
    report TEXT NOT NULL               -- last, so that a scan of the other columns never reads it
);
CREATE INDEX runs_newest ON runs (enqueued_at_ms DESC, job DESC);

CREATE TABLE artifacts (               -- whoever ends the job; what a file is still needed for
    job INTEGER NOT NULL,
    role TEXT NOT NULL,                -- 'output', 'preview' of one, 'image' or 'mask'
    position INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (job, role, position)
) WITHOUT ROWID;
CREATE INDEX artifacts_by_sha256 ON artifacts (sha256);

CREATE TABLE workers (                 -- the worker itself; ended_at_ms also by whoever finds it dead
    worker_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER,
    model TEXT                         -- the pipeline that it has published, if it is there for one
) WITHOUT ROWID;

CREATE TABLE previews (                -- the job's writer; overwritten, and gone when the job ends
    job INTEGER PRIMARY KEY,
    step INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    content BLOB NOT NULL
);
"""

SERVER_TABLES: Final = """
CREATE TABLE snapshots (               -- whoever folds the events of all jobs; only ever moves on
    name TEXT PRIMARY KEY,
    after_id INTEGER NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE exports (                 -- whoever sends a job's trace on: the row is the right to do it
    job INTEGER NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (job, target)
) WITHOUT ROWID;
"""

_UPGRADES: Final = {
    1: f"""
ALTER TABLE jobs ADD COLUMN queue TEXT NOT NULL DEFAULT 'local';
ALTER TABLE workers ADD COLUMN model TEXT;
{SERVER_TABLES}
"""
}
"""Version → what makes the next one of it."""


def prepare_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a fresh file, and upgrade an older one; refuse what is not ours, or newer than this code.

    Raises
    ------
    JournalCorruptError
        If the file is another program's database.
    JournalTooNewError
        If a newer version of the lab has written it.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (table_count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if table_count == 0:
        _create(connection, path)
    elif application_id != APPLICATION_ID:
        raise JournalCorruptError(
            f"{path} is an SQLite database, but no journal of the lab (application id {application_id})",
            hint="Move that file away, or set OMNIRT_STATE_DIR to another directory.",
        )
    elif version > VERSION:
        raise JournalTooNewError(
            f"{path} has version {version}; this lab reads up to version {VERSION}",
            hint="Upgrade omnirt-lab, or set OMNIRT_STATE_DIR to another directory.",
        )
    else:
        for older in range(version, VERSION):
            connection.executescript(f"BEGIN IMMEDIATE; {_UPGRADES[older]} PRAGMA user_version = {older + 1}; COMMIT;")


def _create(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table; a purge gives its pages back
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StateDirError(
            f"{path} is on a file system where SQLite's WAL does not work (it stayed in mode {mode!r})",
            hint="Set OMNIRT_STATE_DIR to a directory on a local disk.",
        )
    connection.executescript(
        f"BEGIN IMMEDIATE; {TABLES} {SERVER_TABLES} "
        f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    )

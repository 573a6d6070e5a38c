"""A job's events in order: rows while it lives, packed into one when it ends; readers cannot tell."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from omnirt_lab.errors import JournalCorruptError
from omnirt_lab.journal.packing import EventRow, pack, unpack
from omnirt_lab.records import AnyEvent, Record, decode_event

_COLUMNS: Final = "id, seq, event, stage, t_ns, timestamp_ms, data"

INSERT: Final = "INSERT INTO events (job, seq, event, stage, t_ns, timestamp_ms, data)"

_ROW: Final = "(?, ?, ?, ?, ?, ?)"

ROWS_A_STATEMENT: Final = 64
"""The interpreter's lock is let go and waited for with each statement, which a running pipeline feels."""

PACKS_A_READ: Final = 16
"""Jobs that one read over all unpacks at most, beside those that ran at its place: some 1,500 events."""


class JournalEntry(NamedTuple):
    """An event with its place in the journal."""

    id: int
    """Grows over all jobs; reading on after it misses nothing and repeats nothing."""

    job_id: str

    event: AnyEvent


class WireEvent(Record, frozen=True, kw_only=True):
    """An event whose data is still JSON."""

    seq: int
    event: str
    stage: str | None
    t_ns: int
    timestamp_ms: int
    data: msgspec.Raw


def to_json(value: object) -> str:
    """Compact JSON of a record or of plain data; a lone surrogate, which UTF-8 cannot hold, becomes `?`."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))
        return text.encode(errors="replace").decode()


def append(connection: sqlite3.Connection, job: int, events: Sequence[AnyEvent]) -> None:
    """Store events of the job with this key, which must follow those that are stored."""
    for first in range(0, len(events), ROWS_A_STATEMENT):
        lot = events[first : first + ROWS_A_STATEMENT]
        query = f"{INSERT} SELECT ?, * FROM {rows(lot)}"  # noqa: S608  # constants and marks
        connection.execute(query, (job, *to_values(lot)))


def rows(events: Sequence[AnyEvent]) -> str:
    """SQL of a table with the events' rows, without their job; its marks stand for `to_values`."""
    return f"(VALUES {', '.join([_ROW] * len(events))})"


def to_values(events: Sequence[AnyEvent]) -> list[str | int | None]:
    """What the events' rows hold, one after the other: `seq`, `event`, `stage`, `t_ns`, `timestamp_ms` and `data`."""
    return [
        value
        for event in events
        for value in (event.seq, event.event, event.stage, event.t_ns, event.timestamp_ms, to_json(event.data))
    ]


def pack_job(connection: sqlite3.Connection, job: int) -> None:
    """Put an ended job's rows into one; every event keeps its id."""
    rows = rows_of_job(connection, job)
    connection.execute(
        "INSERT INTO packed_events (job, first_id, last_id, last_seq, content) VALUES (?, ?, ?, ?, ?)",
        (job, rows[0][0], rows[-1][0], rows[-1][1], pack(rows)),
    )
    connection.execute("DELETE FROM events WHERE job = ?", (job,))


def of_job(connection: sqlite3.Connection, job: int, *, after_seq: int = 0) -> list[AnyEvent]:
    """The job's events with a higher `seq`, in order.

    Raises
    ------
    JournalCorruptError
        If a row is no event of the vocabulary.
    """
    return [to_event(row) for row in rows_of_job(connection, job, after_seq=after_seq)]


def rows_of_job(
    connection: sqlite3.Connection, job: int, *, after_seq: int = 0, limit: int | None = None
) -> list[EventRow]:
    """The job's rows with a higher `seq`, in order."""
    packed = connection.execute("SELECT content FROM packed_events WHERE job = ?", (job,)).fetchone()
    if packed is not None:
        rows = [row for row in _unpacked(packed[0]) if row[1] > after_seq]
        return rows if limit is None else rows[:limit]
    return connection.execute(
        f"SELECT {_COLUMNS} FROM events WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?",  # noqa: S608  # constants
        (job, after_seq, -1 if limit is None else limit),
    ).fetchall()


def rows_after(connection: sqlite3.Connection, after_id: int, *, limit: int) -> list[tuple[int, EventRow]]:
    """The first rows of all jobs with a higher id, in order, each with its job's key.

    Packs lie across each other where jobs ran at once. Up to the beginning of the first pack that is not opened, all
    is known.
    """
    opened = connection.execute(
        "SELECT job, content FROM packed_events WHERE last_id > ? AND first_id <= ?", (after_id, after_id)
    ).fetchall()
    later = connection.execute(
        "SELECT job, first_id, last_seq, content FROM packed_events WHERE first_id > ? ORDER BY first_id LIMIT ?",
        (after_id, PACKS_A_READ + 1),
    )
    end_id, expected = 2**63 - 1, 0
    for index, (job, first_id, last_seq, content) in enumerate(later):
        if expected >= limit or index == PACKS_A_READ:  # what is opened and not handed out is opened again
            end_id = first_id
            break
        opened.append((job, content))
        expected += last_seq
    later.close()
    rows = [(job, row) for job, content in opened for row in _unpacked(content) if after_id < row[0] < end_id]
    single = connection.execute(
        f"SELECT job, {_COLUMNS} FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?",  # noqa: S608  # constants
        (after_id, end_id, limit),
    )
    rows += [(row[0], row[1:]) for row in single]
    return sorted(rows, key=lambda item: item[1][0])[:limit]


def has_after(connection: sqlite3.Connection, after_id: int) -> bool:
    """Whether any event has a higher id."""
    query = "SELECT 1 FROM events WHERE id > ? UNION ALL SELECT 1 FROM packed_events WHERE last_id > ? LIMIT 1"
    return connection.execute(query, (after_id, after_id)).fetchone() is not None


def has_job_after(connection: sqlite3.Connection, job: int, after_id: int) -> bool:
    """Whether an event of this job has a higher id."""
    query = (
        "SELECT 1 FROM events WHERE job = ? AND id > ? UNION ALL "
        "SELECT 1 FROM packed_events WHERE job = ? AND last_id > ? LIMIT 1"
    )
    return connection.execute(query, (job, after_id, job, after_id)).fetchone() is not None


def seq_at(connection: sqlite3.Connection, job: int, event_id: int) -> int:
    """`seq` of the job's last event whose id is not higher; 0 before the first."""
    return sum(row[0] <= event_id for row in rows_of_job(connection, job))


def last_id(connection: sqlite3.Connection) -> int:
    """The highest id that an event has been given, whether or not it is still there."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return 0 if row is None else int(row[0])


def last_seq(connection: sqlite3.Connection, job: int) -> int:
    """`seq` of the job's last event; 0 if it has none."""
    query = "SELECT max(seq) FROM events WHERE job = ? UNION ALL SELECT last_seq FROM packed_events WHERE job = ?"
    return max(seq or 0 for (seq,) in connection.execute(query, (job, job)))


def to_event(row: EventRow) -> AnyEvent:
    """The event that a row holds.

    Raises
    ------
    JournalCorruptError
        If it is none of the vocabulary.
    """
    _, seq, event, stage, t_ns, timestamp_ms, data = row
    wire = WireEvent(
        seq=seq, event=event, stage=stage, t_ns=t_ns, timestamp_ms=timestamp_ms, data=msgspec.Raw(data.encode())
    )
    try:
        return decode_event(msgspec.json.encode(wire))
    except msgspec.DecodeError as error:
        raise _foreign(f"an event that is none of the vocabulary ({event!r}, seq {seq}): {error}") from error


def _unpacked(content: bytes) -> list[EventRow]:
    try:
        return unpack(content)
    except ValueError as error:
        raise _foreign(f"a pack of events that cannot be read: {error}") from error


def _foreign(what: str) -> JournalCorruptError:
    return JournalCorruptError(
        f"the journal holds {what}",
        hint="Another program, or a development version of the lab, has written to it: "
        "purge that run, or move the journal away.",
    )

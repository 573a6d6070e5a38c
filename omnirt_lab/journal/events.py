"""Rows of the events table: a job's events in order, each stored once and never changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from omnirt_lab.errors import JournalCorruptError
from omnirt_lab.records import AnyEvent, Record, decode_event

COLUMNS: Final = "seq, event, stage, t_ns, timestamp_ms, data"

EventRow: TypeAlias = tuple[int, str, str | None, int, int, str]
"""The columns in this order; `data` is JSON."""

_INSERT: Final = f"INSERT INTO events (job, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  # constants


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
    connection.executemany(
        _INSERT,
        [(job, e.seq, e.event, e.stage, e.t_ns, e.timestamp_ms, to_json(e.data)) for e in events],
    )


def of_job(connection: sqlite3.Connection, job: int, *, after_seq: int = 0) -> list[AnyEvent]:
    """The job's events with a higher `seq`, in order.

    Raises
    ------
    JournalCorruptError
        If a row is no event of the vocabulary.
    """
    rows = connection.execute(f"SELECT {COLUMNS} FROM events WHERE job = ? AND seq > ? ORDER BY seq", (job, after_seq))  # noqa: S608  # constants
    return [to_event(row) for row in rows]


def to_event(row: EventRow) -> AnyEvent:
    """The event that a row holds.

    Raises
    ------
    JournalCorruptError
        If it is none of the vocabulary.
    """
    seq, event, stage, t_ns, timestamp_ms, data = row
    wire = WireEvent(
        seq=seq, event=event, stage=stage, t_ns=t_ns, timestamp_ms=timestamp_ms, data=msgspec.Raw(data.encode())
    )
    try:
        return decode_event(msgspec.json.encode(wire))
    except msgspec.DecodeError as error:
        raise JournalCorruptError(
            f"the journal holds an event that is none of the vocabulary ({event!r}, seq {seq}): {error}",
            hint="Another program, or a development version of the lab, has written to this journal; "
            "purge that run, or move the journal away.",
        ) from error

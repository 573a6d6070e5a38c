"""The durable queue: a job's row, from `queued` to its one terminal state."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from omnirt_lab.errors import InvalidRequestError, JobNotFoundError, QueueFullError
from omnirt_lab.journal import events
from omnirt_lab.journal.clock import boot_id, new_job_id, new_run_id, wall_ms
from omnirt_lab.records import (
    TERMINAL_STATES,
    AnyEvent,
    ExecutionMode,
    GenerateRequest,
    JobEnqueuedData,
    JobState,
    Record,
    make_event,
)

LOCAL_QUEUE: Final = "local"
"""Of jobs submitted in a kernel or script: any engine on the journal may take them."""

MAX_KEY: Final = 2**63 - 1

_wish_decoder: Final = msgspec.json.Decoder(JobEnqueuedData)


class JobRecord(Record, frozen=True, kw_only=True):
    """A job as the journal had it when it was asked."""

    key: int
    """The row's number in this journal; means nothing elsewhere."""

    job_id: str
    """32 hex digits that sort by time."""

    run_id: str
    """16 hex digits."""

    trace_id: str

    parent_span_id: str | None

    state: JobState

    priority: int
    """Higher is claimed first."""

    is_async: bool
    """Any worker may claim it; otherwise only the process that made it runs it."""

    cancel_requested: bool

    request: GenerateRequest

    idempotency_key: str | None

    created_by: str | None
    """Worker whose end makes a job that waits for its caller's thread a lost one."""

    worker_id: str | None
    """The worker that claimed it."""

    boot_id: str
    """The boot of the machine within which `monotonic_ns` means something."""

    monotonic_ns: int
    """`time.monotonic_ns()` when it was enqueued: zero of the events' `t_ns`."""

    enqueued_at_ms: int

    started_at_ms: int | None

    ended_at_ms: int | None

    queue: str = LOCAL_QUEUE
    """Who may claim it, where it is async: the workers that serve this queue."""

    @property
    def is_ended(self) -> bool:
        """It has reached its terminal state, and its report is stored."""
        return self.state in TERMINAL_STATES


Modes: TypeAlias = "Collection[ExecutionMode] | None"
"""Of the jobs that are meant; None for all."""

_OWN_COLUMNS: Final = (
    "key",
    "job_id",
    "run_id",
    "state",
    "priority",
    "is_async",
    "cancel_requested",
    "idempotency_key",
    "created_by",
    "worker_id",
    "boot_id",
    "monotonic_ns",
    "enqueued_at_ms",
    "started_at_ms",
    "ended_at_ms",
    "queue",
)

_SELECT: Final = f"SELECT {', '.join(_OWN_COLUMNS)}, wish FROM jobs "  # noqa: S608  # constants


class RunningJob(NamedTuple):
    """What the worker that runs a job learns whenever it stores an event."""

    last_seq: int
    """`seq` of the last stored event."""

    cancel_requested: bool


class Origin(NamedTuple):
    """Where a new job comes from, beside what is wanted."""

    monotonic_ns: int
    created_by: str | None
    idempotency_key: str | None

    queue: str = LOCAL_QUEUE


def enqueue(
    connection: sqlite3.Connection, wish: JobEnqueuedData, origin: Origin, *, max_queued: int | None
) -> JobRecord:
    """Make the job's row and its first event; inside a transaction.

    Raises
    ------
    QueueFullError
        If `max_queued` jobs are waiting in its queue already.
    """
    if origin.idempotency_key is not None:
        same = _find(connection, "WHERE idempotency_key = ?", (origin.idempotency_key,))
        if same:
            return same[0]
    if max_queued is not None:
        _require_room(connection, origin.queue, max_queued)
    first = make_event(wish, seq=1, t_ns=0, timestamp_ms=wall_ms())
    job = {
        "job_id": new_job_id(),
        "run_id": wish.run_id,
        "state": "queued",
        "priority": wish.priority,
        "is_async": wish.is_async,
        "idempotency_key": origin.idempotency_key,
        "created_by": origin.created_by,
        "boot_id": boot_id(),
        "monotonic_ns": origin.monotonic_ns,
        "enqueued_at_ms": first.timestamp_ms,
        "wish": events.to_json(wish),
        "queue": origin.queue,
    }
    key = _insert(connection, job)
    events.append(connection, key, [first])
    return by_key(connection, key)


def _insert(connection: sqlite3.Connection, job: dict[str, object]) -> int:
    names = ", ".join(job)
    marks = ", ".join("?" * len(job))
    query = f"INSERT INTO jobs ({names}) VALUES ({marks}) RETURNING key"  # noqa: S608  # our own column names
    return int(connection.execute(query, tuple(job.values())).fetchone()[0])


def _require_room(connection: sqlite3.Connection, queue: str, max_queued: int) -> None:
    query = "SELECT count(*) FROM jobs WHERE state = 'queued' AND queue = ?"
    (waiting,) = connection.execute(query, (queue,)).fetchone()
    if waiting >= max_queued:
        raise QueueFullError(
            f"{waiting} jobs are waiting; the queue holds {max_queued}",
            hint="Wait for some to end, cancel those that are no longer needed, or raise the limit.",
        )


def by_key(connection: sqlite3.Connection, key: int) -> JobRecord:
    """The job in this row, which must exist."""
    return _find(connection, "WHERE key = ?", (key,))[0]


def get(connection: sqlite3.Connection, job_id: str) -> JobRecord:
    """The job.

    Raises
    ------
    JobNotFoundError
        If there is none with this id.
    """
    found = _find(connection, "WHERE job_id = ?", (job_id,))
    if not found:
        raise job_not_found(job_id)
    return found[0]


def get_key(connection: sqlite3.Connection, job_id: str) -> int:
    """The row of a job.

    Raises
    ------
    JobNotFoundError
        If there is none with this id.
    """
    row = connection.execute("SELECT key FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    if row is None:
        raise job_not_found(job_id)
    return int(row[0])


def get_job_id(connection: sqlite3.Connection, key: int) -> str:
    """The id of the job in this row, which must exist."""
    return str(connection.execute("SELECT job_id FROM jobs WHERE key = ?", (key,)).fetchone()[0])


def job_not_found(job_id: str) -> JobNotFoundError:
    """The error for an id that no job has."""
    return JobNotFoundError(
        f"the journal has no job {job_id!r}", hint="List the jobs that there are, or look in another state directory."
    )


def find_by_run_id(connection: sqlite3.Connection, run_id: str) -> JobRecord | None:
    """The job whose run has this (whole) id."""
    found = _find(connection, "WHERE run_id = ?", (run_id,))
    return found[0] if found else None


def newest(
    connection: sqlite3.Connection, *, states: Collection[JobState] | None, limit: int, before_key: int | None = None
) -> list[JobRecord]:
    """Jobs, the latest first; only those in one of `states` and older than `before_key`, where given."""
    wanted = TERMINAL_STATES | {"queued", "running"} if states is None else states
    marks = ", ".join("?" * len(wanted))
    before = MAX_KEY if before_key is None else before_key
    condition = f"WHERE state IN ({marks}) AND key < ? ORDER BY key DESC LIMIT ?"
    return _find(connection, condition, (*wanted, before, limit))


def claim(connection: sqlite3.Connection, job_id: str, worker_id: str) -> JobRecord | None:
    """Take a queued job for this worker; None if it is no longer queued."""
    get_key(connection, job_id)
    row = connection.execute(
        "UPDATE jobs SET state = 'running', worker_id = ?, started_at_ms = ? "
        "WHERE job_id = ? AND state = 'queued' RETURNING key",
        (worker_id, wall_ms(), job_id),
    ).fetchone()
    return None if row is None else by_key(connection, row[0])


def next_queued(
    connection: sqlite3.Connection, queue: str, modes: Modes = None, *, beside: Collection[str] = ()
) -> JobRecord | None:
    """The async job of this queue whose turn it is: the highest priority, and of equals the oldest.

    Those whose ids are `beside` are passed over.
    """
    condition = (
        f"WHERE state = 'queued' AND is_async AND queue = ? AND job_id NOT IN ({_marks(beside)}) AND {_in(modes)} "
        "ORDER BY priority DESC, key LIMIT 1"
    )
    found = _find(connection, condition, (queue, *beside, *(modes or ())))
    return found[0] if found else None


def all_queued(connection: sqlite3.Connection, queue: str, modes: Modes = None) -> list[JobRecord]:
    """The async jobs that wait in this queue."""
    condition = f"WHERE state = 'queued' AND is_async AND queue = ? AND {_in(modes)}"
    return _find(connection, condition, (queue, *(modes or ())))


def in_turn(connection: sqlite3.Connection, queue: str, limit: int, modes: Modes = None) -> list[JobRecord]:
    """The first async jobs of this queue in the order in which they will be claimed."""
    condition = (
        f"WHERE state = 'queued' AND is_async AND queue = ? AND {_in(modes)} ORDER BY priority DESC, key LIMIT ?"
    )
    return _find(connection, condition, (queue, *(modes or ()), limit))


def claim_next(connection: sqlite3.Connection, worker_id: str, queue: str, modes: Modes = None) -> JobRecord | None:
    """Take the async job of this queue whose turn it is."""
    row = connection.execute(
        "UPDATE jobs SET state = 'running', worker_id = ?, started_at_ms = ? WHERE state = 'queued' AND key = "  # noqa: S608  # marks
        f"(SELECT key FROM jobs WHERE state = 'queued' AND is_async AND queue = ? AND {_in(modes)} "
        "ORDER BY priority DESC, key LIMIT 1) RETURNING key",
        (worker_id, wall_ms(), queue, *(modes or ())),
    ).fetchone()
    return None if row is None else by_key(connection, row[0])


def queue_depth(connection: sqlite3.Connection) -> dict[int, int]:
    """Priority → jobs that wait for a worker."""
    rows = connection.execute("SELECT priority, count(*) FROM jobs WHERE state = 'queued' GROUP BY priority")
    return dict(rows.fetchall())


def is_cancel_requested(connection: sqlite3.Connection, key: int) -> bool:
    """Whoever runs it should stop: it was asked to, or the journal has ended the job already."""
    row = connection.execute(
        "SELECT cancel_requested OR state NOT IN ('queued', 'running') FROM jobs WHERE key = ?", (key,)
    ).fetchone()
    return row is None or bool(row[0])


def set_cancel_requested(connection: sqlite3.Connection, key: int) -> None:
    """Leave word for whoever runs it."""
    connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE key = ?", (key,))


def find_running(connection: sqlite3.Connection, key: int, worker_id: str) -> RunningJob | None:
    """The job as its worker needs it; None if this worker does not run it (any more)."""
    row = connection.execute(
        "SELECT (SELECT max(seq) FROM events WHERE job = key), cancel_requested FROM jobs "
        "WHERE key = ? AND state = 'running' AND worker_id = ?",
        (key, worker_id),
    ).fetchone()
    return None if row is None else RunningJob(last_seq=int(row[0]), cancel_requested=bool(row[1]))


def append_if_undisturbed(
    connection: sqlite3.Connection, key: int, worker_id: str, waiting: Sequence[AnyEvent]
) -> bool:
    """Store events, at most `events.ROWS_A_STATEMENT`, in one statement, which needs no transaction around it.

    False if nothing was stored: this worker does not run the job (any more), or was asked to stop, or has stored an
    event with one's `seq`.
    """
    query = (
        f"{events.INSERT} SELECT key, row.* FROM jobs CROSS JOIN {events.rows(waiting)} AS row "  # noqa: S608  # marks
        "WHERE key = ? AND state = 'running' AND worker_id = ? AND NOT cancel_requested"
    )
    try:
        return connection.execute(query, (*events.to_values(waiting), key, worker_id)).rowcount == len(waiting)
    except sqlite3.IntegrityError:
        return False


def new_wish(
    request: GenerateRequest, trace_id: str, parent_span_id: str | None, *, priority: int, is_async: bool
) -> JobEnqueuedData:
    """The data of a new job's first event.

    Raises
    ------
    InvalidRequestError
        If a text of the request is no Unicode text.
    """
    _require_text(request)
    return JobEnqueuedData(
        run_id=new_run_id(),
        trace_id=trace_id,
        parent_span_id=parent_span_id,
        request=request,
        priority=priority,
        is_async=is_async,
    )


def _require_text(request: GenerateRequest) -> None:
    try:
        msgspec.json.encode(request)
    except UnicodeEncodeError as error:
        hint = "Remove the lone surrogate from it."
        raise InvalidRequestError(f"a text of the request is no Unicode text: {error}", hint=hint) from error


def _in(modes: Modes) -> str:
    """The condition that a job is of one of these modes, with a mark for each."""
    mode = "coalesce(json_extract(wish, '$.request.config.execution_mode'), 'legacy_call')"
    return "1" if modes is None else f"{mode} IN ({_marks(modes)})"


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def _find(connection: sqlite3.Connection, condition: str, values: tuple[object, ...]) -> list[JobRecord]:
    return [_to_record(row) for row in connection.execute(_SELECT + condition, values)]


def _to_record(row: tuple[object, ...]) -> JobRecord:
    *own_values, wish_json = row
    own = dict(zip(_OWN_COLUMNS, own_values, strict=True))
    own |= {"is_async": bool(own["is_async"]), "cancel_requested": bool(own["cancel_requested"])}
    wish = _wish_decoder.decode(str(wish_json))
    return JobRecord(
        **own,  # type: ignore[arg-type]  # SQLite's rows are untyped
        trace_id=wish.trace_id,
        parent_span_id=wish.parent_span_id,
        request=wish.request,
    )

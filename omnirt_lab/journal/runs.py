"""The history: one row a run, with typed columns for what is filtered and plotted."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

import msgspec

from omnirt_lab.errors import InvalidRequestError, JournalCorruptError, RunNotFoundError
from omnirt_lab.journal.clock import wall_ms
from omnirt_lab.journal.events import to_json
from omnirt_lab.journal.sparse import sparse
from omnirt_lab.records import JobState, Record, RunReport, RunRow, Task

MIN_PREFIX_CHARS: Final = 6

_RUN_ID: Final = re.compile(r"[0-9a-f]+")


class RunQuery(Record, frozen=True, kw_only=True):
    """Which runs, newest first. A field that is None excludes none."""

    model: str | None = None

    task: Task | None = None

    state: JobState | None = None

    since_ms: int | None = None
    """Enqueued at this wall-clock time (milliseconds since 1970) or later."""

    seed: int | None = None
    """Of the first picture."""

    result_key: str | None = None
    """The whole key of a result."""

    prompt: str | None = None
    """A part of the prompt, in upper or lower case."""

    tag: str | None = None

    rating: Annotated[int, msgspec.Meta(ge=1, le=5)] | None = None
    """Rated so high or higher."""

    run_ids: tuple[str, ...] | None = None
    """Whole ids."""

    trash: Literal["without", "with", "only"] = "without"
    """Whether runs in the trash match."""

    limit: Annotated[int, msgspec.Meta(ge=0)] | None = None

    offset: int = 0


ROW_COLUMNS: Final = RunRow.__struct_fields__

MAX_TAG_CHARS: Final = 100
MAX_NOTE_CHARS: Final = 20_000

_TRASH: Final = {"without": ["deleted_at_ms IS NULL"], "only": ["deleted_at_ms IS NOT NULL"], "with": []}

_report_decoder: Final = msgspec.json.Decoder(RunReport)

_JSON_COLUMNS: Final = frozenset({"cache_hits", "timings", "tags"})


def row_of(report: RunReport, job_id: str) -> RunRow:
    """The typed columns of a report. What was asked for stands in where the run did not get to know it."""
    request, config = report.request, report.request.config
    output = report.artifacts[0] if report.artifacts else None
    peaks = report.memory.peak_bytes.values()
    savings = [use.saved_ms for use in report.cache_details if use.saved_ms is not None]
    return RunRow(
        run_id=report.run_id,
        job_id=job_id,
        state=report.state,
        task=report.task,
        model=report.model,
        backend=report.backend,
        execution_mode=report.execution_mode,
        worker_id=report.worker_id,
        enqueued_at_ms=report.enqueued_at_ms,
        finished_at_ms=report.finished_at_ms,
        queue_wait_ms=report.queue_wait_ms,
        duration_ms=report.duration_ms,
        prompt=request.inputs.prompt,
        negative_prompt=request.inputs.negative_prompt,
        seed=config.seed if output is None or output.seed is None else output.seed,
        steps=config.steps if report.steps_planned is None else report.steps_planned,
        guidance_scale=_guidance_scale(report),
        width_px=config.width if output is None else output.width_px,
        height_px=config.height if output is None else output.height_px,
        num_images=config.num_images,
        scheduler=_scheduler(report),
        batch_size=report.batch_size,
        memory_kind=report.memory.kind,
        peak_bytes=max(peaks, default=None),
        cache_hits=report.cache_hits,
        saved_ms=sum(savings) if savings else None,
        error_type=None if report.error is None else report.error.type,
        artifact_sha256=None if output is None else output.preview_sha256 or output.sha256,
        timings=report.timings,
    )


def _scheduler(report: RunReport) -> str | None:
    resolved = report.scheduler_config.get("_class_name")
    return resolved if isinstance(resolved, str) else report.request.config.scheduler


def _guidance_scale(report: RunReport) -> float | None:
    resolved = report.config_resolved.get("guidance_scale")
    return float(resolved) if isinstance(resolved, int | float) else report.request.config.guidance_scale


def insert(connection: sqlite3.Connection, key: int, report: RunReport, job_id: str) -> None:
    """Store the run of the job with this key."""
    row = row_of(report, job_id)
    values = [to_json(value) if name in _JSON_COLUMNS else value for name, value in msgspec.structs.asdict(row).items()]
    names = ("job", *ROW_COLUMNS, "report")
    connection.execute(
        f"INSERT INTO runs ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",  # noqa: S608  # constants
        (key, *values, to_json(sparse(report))),
    )


def get_report(connection: sqlite3.Connection, run_id: str) -> RunReport:
    """The stored report.

    Raises
    ------
    RunNotFoundError
        If no run, or more than one, has an id that begins so.
    JournalCorruptError
        If what is stored is no report.
    """
    full_id = get_run_id(connection, run_id)
    (text,) = connection.execute("SELECT report FROM runs WHERE run_id = ?", (full_id,)).fetchone()
    try:
        return _report_decoder.decode(text)
    except msgspec.DecodeError as error:
        raise JournalCorruptError(
            f"the stored report of run {full_id} is none: {error}",
            hint="Another program has changed it; purge that run.",
        ) from error


def get_run_id(connection: sqlite3.Connection, run_id: str) -> str:
    """The full id of a run from at least six of its first characters.

    Raises
    ------
    RunNotFoundError
        If no run, or more than one, has an id that begins so.
    """
    if len(run_id) < MIN_PREFIX_CHARS or not _RUN_ID.fullmatch(run_id):
        raise RunNotFoundError(
            f"{run_id!r} is no run id: that is at least {MIN_PREFIX_CHARS} hex digits",
            hint="Look it up in the history.",
        )
    rows = connection.execute(
        "SELECT run_id FROM runs WHERE run_id >= ? AND run_id < ? ORDER BY run_id LIMIT 3", (run_id, run_id + "g")
    ).fetchall()
    if not rows:
        raise RunNotFoundError(
            f"the journal has no run {run_id!r}", hint="Look it up in the history, or in another state directory."
        )
    if len(rows) > 1:
        raise RunNotFoundError(
            f"more than one run has an id that begins with {run_id!r}: {', '.join(row[0] for row in rows)}",
            hint="Give more of its characters.",
        )
    return str(rows[0][0])


def select(
    connection: sqlite3.Connection, query: RunQuery, columns: Iterable[str] = ROW_COLUMNS
) -> list[tuple[object, ...]]:
    """These columns of the runs that match, newest first."""
    conditions, values = _conditions(query)
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    return connection.execute(
        f"SELECT {', '.join(columns)} FROM runs {where}"  # noqa: S608  # constants; what users say is bound
        "ORDER BY enqueued_at_ms DESC, job DESC LIMIT ? OFFSET ?",
        (*values, -1 if query.limit is None else query.limit, query.offset),
    ).fetchall()


def _conditions(query: RunQuery) -> tuple[list[str], list[object]]:
    wanted: list[tuple[str, object]] = [
        ("model = ?", query.model),
        ("task = ?", query.task),
        ("state = ?", query.state),
        ("enqueued_at_ms >= ?", query.since_ms),
        ("seed = ?", query.seed),
        ("json_extract(report, '$.result_key') = ?", query.result_key),
        ("instr(casefold(prompt), ?) > 0", None if query.prompt is None else query.prompt.casefold()),
        ("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)", query.tag),
        ("rating >= ?", query.rating),
        ("run_id IN (SELECT value FROM json_each(?))", None if query.run_ids is None else to_json(query.run_ids)),
    ]
    asked = [(condition, value) for condition, value in wanted if value is not None]
    return [condition for condition, _ in asked] + _TRASH[query.trash], [value for _, value in asked]


def to_row(values: tuple[object, ...]) -> RunRow:
    """The run that `select` has read."""
    fields = dict(zip(ROW_COLUMNS, values, strict=True))
    fields |= {name: msgspec.json.decode(str(fields[name])) for name in _JSON_COLUMNS}
    return msgspec.convert(fields, RunRow)


def set_tags(
    connection: sqlite3.Connection, run_id: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
) -> None:
    """Add and remove tags; a tag stands once, in the order of adding.

    Raises
    ------
    InvalidRequestError
        If one to add is empty, too long, or has a comma in it: in tables, commas stand between tags.
    """
    for tag in add:
        _check_tag(tag)
    full_id = get_run_id(connection, run_id)
    (text,) = connection.execute("SELECT tags FROM runs WHERE run_id = ?", (full_id,)).fetchone()
    tags = dict.fromkeys([*msgspec.json.decode(text, type=list[str]), *add])
    left = [tag for tag in tags if tag not in set(remove)]
    _update(connection, full_id, {"tags": to_json(left)})


def set_rating(connection: sqlite3.Connection, run_id: str, rating: int | None) -> None:
    """1 to 5, or None to take it back."""
    if rating is not None and rating not in range(1, 6):
        raise InvalidRequestError(
            f"rating is {rating}; it must be 1 to 5", hint="Give 1 to 5, or None to take it back."
        )
    _update(connection, get_run_id(connection, run_id), {"rating": rating})


def set_note(connection: sqlite3.Connection, run_id: str, note: str | None) -> None:
    """A text of the user's, kept exactly.

    Raises
    ------
    InvalidRequestError
        If it is too long, or no Unicode text.
    """
    if note is not None and not (len(note) <= MAX_NOTE_CHARS and _is_unicode(note)):
        raise InvalidRequestError(
            f"the note has {len(note):,} characters; it must be a text of at most {MAX_NOTE_CHARS:,}",
            hint="Shorten it, and remove lone surrogates.",
        )
    _update(connection, get_run_id(connection, run_id), {"note": note})


def set_trashed(connection: sqlite3.Connection, run_id: str, *, trashed: bool) -> None:
    """Put it into the trash, or take it out again."""
    _update(connection, get_run_id(connection, run_id), {"deleted_at_ms": wall_ms() if trashed else None})


def _check_tag(tag: str) -> None:
    if not (tag.strip() and len(tag) <= MAX_TAG_CHARS and tag.isprintable() and "," not in tag):
        raise InvalidRequestError(
            f"{tag[:MAX_TAG_CHARS]!r} is no tag",
            hint=f"Give 1 to {MAX_TAG_CHARS} characters on one line, without a comma.",
        )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _update(connection: sqlite3.Connection, run_id: str, change: Mapping[str, object]) -> None:
    ((column, value),) = change.items()
    connection.execute(f"UPDATE runs SET {column} = ? WHERE run_id = ?", (value, run_id))  # noqa: S608  # our own column names

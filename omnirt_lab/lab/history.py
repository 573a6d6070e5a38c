"""The history as a person asks for it: filtered lazily, read as rows, reports or a DataFrame."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.journal import RunQuery
from omnirt_lab.lab.liveness import with_lost_ended
from omnirt_lab.records import JobState, Task
from omnirt_lab.views import tables

if TYPE_CHECKING:
    import pandas

    from omnirt_lab.journal import Journal
    from omnirt_lab.records import RunRow

_SECONDS_OF: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_FILTER_HINTS: Final = {
    "state": f"Use one of: {', '.join(get_args(JobState))}.",
    "task": f"Use one of: {', '.join(get_args(Task))}.",
    "limit": "Pass how many runs you want at most: 0 or more.",
}
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


class History:
    """Runs of the journal that match a query, newest first; read anew each time it is asked."""

    def __init__(self, journal: Journal, query: RunQuery) -> None:
        self._journal = journal
        self.query = query

    def rows(self) -> list[RunRow]:
        """The matching runs with what is filtered and plotted; `omnirt_lab.get_report` has the rest."""
        return with_lost_ended(self._journal).query_runs(self.query)

    def to_pandas(self) -> pandas.DataFrame:
        """One row a run; the columns and their units are those of `Journal.runs_frame`."""
        return with_lost_ended(self._journal).runs_frame(self.query)

    def __iter__(self) -> Iterator[RunRow]:
        return iter(self.rows())

    def __len__(self) -> int:
        return len(self.rows())

    def __repr__(self) -> str:
        return tables.history_text(self.rows())

    def _repr_html_(self) -> str:
        return tables.history_html(self.rows())


def query_of(*, since: str | datetime | None, **filters: object) -> RunQuery:
    """Check the filters and make them one query.

    Raises
    ------
    InvalidRequestError
        For a value that no run can have.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    try:
        return msgspec.convert({**given, "since_ms": since_ms(since)}, RunQuery)
    except msgspec.ValidationError as error:
        fact, _, name = str(error).rstrip("`").partition(" - at `$.")
        value = str(given.get(name))[:80]
        raise InvalidRequestError(
            f"{name} is {value!r}, which no run can have: {fact}", hint=_FILTER_HINTS.get(name, "Pass a text.")
        ) from error


def since_ms(since: str | datetime | None) -> int | None:
    """Read an age (`30m`, `12h`, `7d`, `2w`), an ISO date or a datetime, as wall-clock milliseconds.

    A date or datetime without a zone is in local time.

    Raises
    ------
    InvalidRequestError
        For anything else.
    """
    if since is None:
        return None
    try:
        return int(_moment_s(since) * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidRequestError(
            f"since is {str(since)[:80]!r}, which is neither an age nor a date",
            hint="Pass an age such as '30m', '12h' or '7d', or a date such as '2026-01-31'.",
        ) from error


def _moment_s(since: str | datetime) -> float:
    if isinstance(since, datetime):
        return since.timestamp()
    text = str(since).strip()
    age = _AGE.fullmatch(text)
    if age is not None:
        return max(0.0, time.time() - float(age[1]) * _SECONDS_OF[age[2]])
    return datetime.fromisoformat(text).timestamp()

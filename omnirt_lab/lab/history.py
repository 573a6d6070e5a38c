"""The history as a person asks for it: filtered lazily, read as rows, reports or a DataFrame."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.lab.liveness import with_lost_ended
from omnirt_lab.views import tables

if TYPE_CHECKING:
    import pandas

    from omnirt_lab.journal import Journal, RunQuery, RunRow

_SECONDS_OF: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


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
    if isinstance(since, datetime):
        return int(since.timestamp() * 1000)
    age = _AGE.fullmatch(since.strip())
    if age is not None:
        return int((time.time() - float(age[1]) * _SECONDS_OF[age[2]]) * 1000)
    try:
        moment = datetime.fromisoformat(since.strip())
    except ValueError as error:
        raise InvalidRequestError(
            f"since is {since!r}, which is neither an age nor a date",
            hint="Pass an age such as '30m', '12h' or '7d', or a date such as '2026-01-31'.",
        ) from error
    return int(moment.timestamp() * 1000)

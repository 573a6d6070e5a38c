"""The filters of the history as a person gives them, checked."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, ParamSpec, TypedDict, TypeVar, get_args

import msgspec

from omnirt_lab.errors import InvalidRequestError, UnknownOptionError
from omnirt_lab.journal import RunQuery
from omnirt_lab.lab.signatures import spell_out
from omnirt_lab.records import JobState, Task

Params = ParamSpec("Params")
Answer = TypeVar("Answer")

_SECONDS_OF: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_FILTER_HINTS: Final = {
    "state": f"Use one of: {', '.join(get_args(JobState))}.",
    "task": f"Use one of: {', '.join(get_args(Task))}.",
    "rating": "Pass 1 to 5: runs that are rated so high or higher.",
    "limit": "Pass how many runs you want at most: 0 or more.",
}
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


_FILTERS_HELP: Final = """
model, task, state, tag
    Exactly this one.
since
    An age such as `30m`, `12h` or `7d`, an ISO date, or a datetime.
prompt
    Text that the prompt contains, upper and lower case alike.
rating
    Runs rated so high, 1 to 5, or higher.
trashed
    The runs in the trash, instead of all others.
limit
    At most so many, the newest.
""".strip()


class HistoryFilters(TypedDict, total=False):
    """Which runs of the history; what is left out, or None, excludes none."""

    model: str | None
    task: Task | None
    state: JobState | None
    since: str | datetime | None
    prompt: str | None
    tag: str | None
    rating: int | None
    trashed: bool | None
    limit: int | None


def with_filters(function: Callable[Params, Answer]) -> Callable[Params, Answer]:
    """Spell `**filters` out in the signature and the docstring that `help` and completion read."""
    return spell_out(function, HistoryFilters, _FILTERS_HELP)


def query_of(filters: HistoryFilters) -> RunQuery:
    """Check the filters and make them one query.

    Raises
    ------
    InvalidRequestError
        For a filter that does not exist, or a value that no run can have.
    """
    unknown = sorted(set(filters) - set(HistoryFilters.__annotations__))
    if unknown:
        raise UnknownOptionError(
            f"the history has no filter {unknown[0]!r}", hint=f"Use {', '.join(HistoryFilters.__annotations__)}."
        )
    given: dict[str, object] = {name: value for name, value in filters.items() if value is not None}
    since, trashed = filters.get("since"), given.pop("trashed", False)
    try:
        query = {**given, "since_ms": since_ms(since), "trash": "only" if trashed else "without"}
        return msgspec.convert(query, RunQuery)
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

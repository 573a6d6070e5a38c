"""The history as a person asks for it: filtered lazily, read as rows, reports or a DataFrame."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, Self, TypeVar

import msgspec

from omnirt_lab.errors import InvalidRequestError, NotAvailableError
from omnirt_lab.export import mlflow
from omnirt_lab.journal import RunQuery
from omnirt_lab.journal.frame import columns_frame, columns_help
from omnirt_lab.journal.purge import Purged as PurgedRuns
from omnirt_lab.lab.liveness import with_lost_ended
from omnirt_lab.lab.sweep_progress import run_count
from omnirt_lab.records import Record
from omnirt_lab.views import history as view
from omnirt_lab.views import numbers, tables

if TYPE_CHECKING:
    import pandas

    from omnirt_lab.journal import Journal
    from omnirt_lab.records import RunRow
    from omnirt_lab.widgets.history_explorer import HistoryExplorer

Params = ParamSpec("Params")
Answer = TypeVar("Answer")


def with_column_help(function: Callable[Params, Answer]) -> Callable[Params, Answer]:
    """Spell the frame's columns out in the docstring, from the one place that describes them."""
    function.__doc__ = inspect.cleandoc(function.__doc__ or "").replace("**columns", columns_help())
    return function


class History:
    """Runs of the journal that match a query, newest first; read anew each time it is asked.

    What changes it (`tag`, `rate`, `trash`, …) changes all of its runs: filter first, or `pick` some by their ids.

    >>> lab.history(prompt="circle", since="7d").tag("circles")
    >>> lab.history().pick("4f2a91", "77bc01").rate(5)
    """

    def __init__(self, journal: Journal, query: RunQuery) -> None:
        self._journal = journal
        self.query = query

    def pick(self, *run_ids: str) -> History:
        """Those of the runs with these ids, or beginnings of at least six characters.

        Raises
        ------
        RunNotFoundError
            If no run, or more than one, has an id that begins so.
        """
        return self._of(self._journal.whole_run_ids(run_ids))

    def rows(self) -> list[RunRow]:
        """The matching runs with what is filtered and plotted; `omnirt_lab.get_report` has the rest."""
        return with_lost_ended(self._journal).query_runs(self.query)

    def tag(self, *tags: str) -> Self:
        """Add tags to all of its runs.

        Raises
        ------
        InvalidRequestError
            For one that is empty, longer than 100 characters, of several lines, or has a comma in it.
        """
        self._journal.tag(self._ids(), *tags)
        return self

    def untag(self, *tags: str) -> Self:
        """Remove tags from all of its runs."""
        self._journal.untag(self._ids(), *tags)
        return self

    def rate(self, rating: int | None) -> Self:
        """Give all of its runs 1 to 5; None takes the rating back.

        Raises
        ------
        InvalidRequestError
            For another number.
        """
        self._journal.rate(self._ids(), rating)
        return self

    def note(self, text: str | None) -> Self:
        """Keep a text beside all of its runs, in place of what was there; None takes it away."""
        self._journal.note(self._ids(), text)
        return self

    def trash(self) -> Trashed:
        """Put all of its runs into the trash: out of sight, and back with `lab.history(trashed=True).undelete()`."""
        ids = self._ids()
        self._journal.trash(ids)
        return Trashed(runs=len(ids), freeable_bytes=self._journal.freeable_bytes(ids))

    def undelete(self) -> int:
        """Take those of its runs that are in the trash out of it; how many they were."""
        ids = self._ids(trash="only")
        self._journal.undelete(ids)
        return len(ids)

    def purge(self) -> Purged:
        """Delete its runs for good, with their pictures: all must be in the trash, see `lab.history(trashed=True)`.

        Raises
        ------
        InvalidRequestError
            If any of them is not; then none is deleted.
        """
        visible = [] if self.query.trash == "only" else self._ids(trash="without")
        if visible:
            raise InvalidRequestError(
                f"{numbers.count(len(visible), 'run')} of these are not in the trash",
                hint="Call trash() first, then lab.history(trashed=True).purge().",
            )
        purged = self._journal.purge(self._ids(trash="only"))
        return Purged(runs=purged.runs, freed_bytes=purged.freed_bytes)

    @with_column_help
    def to_pandas(self) -> pandas.DataFrame:
        """One row a run, newest first; what is unknown is `<NA>`, NaT or NaN.

        The same as a table is `columns()`; the frame's `attrs["units"]` has the unit of each column that has one.

        Columns
        -------
        **columns
        """
        return with_lost_ended(self._journal).runs_frame(self.query)

    @staticmethod
    def columns() -> pandas.DataFrame:
        """What the columns of `to_pandas` are: `dtype`, `unit` and `meaning` by name."""
        return columns_frame()

    def to_csv(self, path: str | Path) -> Path:
        """Write the frame as CSV (UTF-8, with a header, times in ISO 8601), and return the path."""
        self.to_pandas().to_csv(path, index=False)
        return Path(path)

    def to_parquet(self, path: str | Path) -> Path:
        """Write the frame as Parquet, types and units included, and return the path.

        Raises
        ------
        NotAvailableError
            If pyarrow, an optional extra, is not installed.
        """
        if find_spec("pyarrow") is None:
            raise NotAvailableError(
                "Parquet needs pyarrow, which is not installed",
                hint="pip install 'omnirt-lab[parquet]', or use to_csv.",
            )
        self.to_pandas().to_parquet(path, index=False, engine="pyarrow")
        return Path(path)

    def to_mlflow(
        self, tracking_uri: str | None = None, *, experiment: str = "omnirt", progress: bool = True
    ) -> MlflowExport:
        """Export the runs into an MLflow experiment: times and memory peaks, configuration, tags, pictures, report.

        A run that is there already is not written twice; only its tags, rating and note are brought up to date. After
        an interrupt or an error, the next export goes on where this one stopped.

        Parameters
        ----------
        tracking_uri
            Such as `http://localhost:5000` or `sqlite:///mlflow.db`; by default where MLflow is set to.
        progress
            Show a line of progress.

        Raises
        ------
        NotAvailableError
            If MLflow, an optional extra, is not installed.
        MlflowError
            If the tracking store cannot be reached, or refuses a run.
        """
        target = mlflow.MlflowTarget(tracking_uri, experiment)
        rows = self.rows()
        done: Counter[mlflow.Outcome] = Counter()
        with run_count(len(rows), wanted=progress, label="MLflow") as count:
            for row in reversed(rows):
                report = self._journal.get_report(row.run_id)
                done[target.put(report, row, self._journal.artifacts)] += 1
                count.advance()
        return MlflowExport(
            experiment_id=target.experiment_id,
            exported=done["exported"],
            updated=done["updated"],
            unchanged=done["unchanged"],
        )

    def explore(self) -> HistoryExplorer:
        """An interactive table of the runs, for a notebook: search, filter, sort, tags, ratings, notes, the trash.

        What is selected there is a DataFrame: `explorer.selection`.
        """
        from omnirt_lab.widgets.history_explorer import HistoryExplorer  # loads anywidget and Pillow

        return HistoryExplorer(self._journal, self.query)

    def _of(self, run_ids: tuple[str, ...]) -> History:
        return History(self._journal, msgspec.structs.replace(self.query, run_ids=run_ids))

    def _ids(self, **change: Literal["only", "without"]) -> list[str]:
        query = msgspec.structs.replace(self.query, **change)
        return [run_id for (run_id,) in self._journal.query_columns(query, ("run_id",))]

    def __iter__(self) -> Iterator[RunRow]:
        return iter(self.rows())

    def __len__(self) -> int:
        return len(self.rows())

    def __repr__(self) -> str:
        return tables.history_text(self.rows())

    def _repr_html_(self) -> str:
        return tables.history_html(self.rows())


class Trashed(Record, frozen=True, kw_only=True):
    """What has gone into the trash."""

    runs: int

    freeable_bytes: int
    """What deleting them for good would free: exact for files, about so for the journal's own file."""

    def __repr__(self) -> str:
        return view.trashed_text(self.runs, self.freeable_bytes)


class Purged(PurgedRuns, frozen=True, kw_only=True):
    """What has been deleted for good."""

    def __repr__(self) -> str:
        return view.purged_text(self.runs, self.freed_bytes)


class MlflowExport(Record, frozen=True, kw_only=True):
    """What an export to MLflow has done."""

    experiment_id: str
    exported: int = 0
    updated: int = 0
    unchanged: int = 0

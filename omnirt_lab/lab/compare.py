"""Runs side by side: what differs in how they were made, in time, in memory and in the pictures."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from omnirt_lab import records
from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.folds.comparison import Side, Times, stage_times, step_times, total_times
from omnirt_lab.lab.replay import facts_of, leaves_of, pixels
from omnirt_lab.lab.results import RunReport
from omnirt_lab.records import Json, Record
from omnirt_lab.views import comparison as view

if TYPE_CHECKING:
    import pandas as pd

    from omnirt_lab.journal import Journal
    from omnirt_lab.widgets.compare_explorer import CompareExplorer

Run: TypeAlias = "str | records.RunReport | records.GenerateResult"
Compared: TypeAlias = "Run | Sequence[Run]"

MAX_SIDES: Final = 8

_REQUEST: Final = "request."
"""Fields under this name are absent where nothing was asked; elsewhere absent means not recorded."""


class PictureDifference(Record, frozen=True, kw_only=True):
    """One picture of a side against the first side's picture of the same index."""

    side: str

    index: int

    max_abs_diff: int | None
    """Largest difference of a colour value, of 255; None where the sizes differ."""

    mean_abs_diff: float | None
    """Mean over all pixels and colours."""


class Comparison(Record, frozen=True, kw_only=True):
    """What two or more runs have in common, and what not; the first is what the others are held against."""

    sides: tuple[Side, ...]

    differences: dict[str, tuple[Json, ...]]
    """Dotted field of the request, the environment, the components … → its value on each side, where they differ.

    Where the repeats of a side differ among themselves, a list of their values.
    """

    stages: tuple[Times, ...]

    total: Times

    median_step: Times

    pictures: tuple[PictureDifference, ...]

    def to_pandas(self) -> pd.DataFrame:
        """One row for each stage and side, and for the whole run as `total` and the step as `median step`.

        Columns: `stage`, `side`, `n` (runs measured), `mean_ms`, `std_ms`, `min_ms`, `max_ms`, `warm_up_ms` (mean of
        the runs set apart), `change_percent` (of the mean, against the first side). NaN where nothing was measured.
        """
        import pandas as pd

        frame = pd.DataFrame(list(self._rows()))
        figures = ["mean_ms", "std_ms", "min_ms", "max_ms", "warm_up_ms", "change_percent"]
        return frame.astype({"stage": "string", "side": "string", "n": "int64", **dict.fromkeys(figures, "float64")})

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON-ready values; runs by their ids."""
        sides = [{"label": side.label, "run_ids": [r.run_id for r in side.reports]} for side in self.sides]
        fields: dict[str, Any] = msgspec.to_builtins(
            {name: getattr(self, name) for name in self.__struct_fields__ if name != "sides"}
        )
        return {"sides": sides, **fields}

    def to_text(self, *, width: int = 88) -> str:
        """The comparison as aligned plain text."""
        return view.comparison_text(self._shown(), width=width)

    def to_png(self, path: str | Path | None = None, *, scale: int = 2) -> bytes:
        """The comparison as one PNG picture, also written to `path` if given."""
        from omnirt_lab.views import comparison_png  # loads Pillow

        content = comparison_png.comparison_png(self._shown(), scale=scale)
        if path is not None:
            Path(path).write_bytes(content)
        return content

    def explore(self) -> CompareExplorer:
        """A view to look into: one zoom for all pictures, flipping through them, their difference, the times.

        It needs this kernel; what the comparison shows by itself stays in a saved notebook.
        """
        from omnirt_lab.widgets.compare_explorer import CompareExplorer  # loads IPython

        return CompareExplorer(self._shown())

    def _rows(self) -> Iterator[dict[str, object]]:
        for times in (*self.stages, self.median_step, self.total):
            for side, spread, warm_up_ms, change_percent in zip(
                self.sides, times.spreads, times.warm_up_ms, times.change_percent, strict=True
            ):
                yield {
                    "stage": times.name,
                    "side": side.label,
                    "n": 0 if spread is None else spread.n,
                    "mean_ms": None if spread is None else spread.mean_ms,
                    "std_ms": None if spread is None else spread.std_ms,
                    "min_ms": None if spread is None else spread.min_ms,
                    "max_ms": None if spread is None else spread.max_ms,
                    "warm_up_ms": warm_up_ms,
                    "change_percent": change_percent,
                }

    def _shown(self) -> view.Shown:
        return view.Shown(
            sides=self.sides,
            stages=self.stages,
            total=self.total,
            median_step=self.median_step,
            differences=self.differences,
            pictures=tuple(_first_pictures(side) for side in self.sides),
            picture_lines=tuple(
                view.picture_line(self.sides[0].label, p.side, p.index, p.max_abs_diff, p.mean_abs_diff)
                for p in self.pictures
            ),
        )

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        runs = ", ".join(f"{side.label}: {len(side.reports)}" for side in self.sides)
        return f"<Comparison of runs ({runs}), {len(self.differences)} fields differ>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002  # IPython's
        return view.mimebundle(self._shown())


def compare_runs(journal: Journal, compared: Sequence[Compared]) -> Comparison:
    """Compare runs, or repeats of runs; the first is the one to hold the others against.

    Raises
    ------
    InvalidRequestError
        For fewer than two or more than eight, an empty list, or something that is no run.
    RunNotFoundError
        If there is no such run.
    """
    if not 2 <= len(compared) <= MAX_SIDES:
        raise InvalidRequestError(
            f"compare takes 2 to {MAX_SIDES} runs; {len(compared)} were given",
            hint="Put repeats of one run into a list: compare([a1, a2, a3], [b1, b2, b3]).",
        )
    sides = tuple(
        Side(label=label, reports=_reports(journal, item))
        for label, item in zip(string.ascii_uppercase, compared, strict=False)
    )
    return Comparison(
        sides=sides,
        differences=_differences(sides),
        stages=stage_times(sides),
        total=total_times(sides),
        median_step=step_times(sides),
        pictures=tuple(_picture_differences(sides)),
    )


def _reports(journal: Journal, item: Compared) -> tuple[records.RunReport, ...]:
    if isinstance(item, list | tuple):
        if not item:
            raise InvalidRequestError("a list of repeats is empty", hint="Leave it out, or put runs into it.")
        return tuple(report for run in item for report in _reports(journal, run))
    if isinstance(item, records.GenerateResult):
        return _reports(journal, item.metadata)
    if isinstance(item, records.RunReport):
        return (item if isinstance(item, RunReport) else RunReport.of(item),)
    if isinstance(item, str):
        return (RunReport.of(journal.get_report(item)),)
    raise InvalidRequestError(
        f"a {type(item).__name__} is no run", hint="Give a run's id, its report, its result, or a list of these."
    )


def _differences(sides: Sequence[Side]) -> dict[str, tuple[Json, ...]]:
    recorded = [_values(side) for side in sides]
    names = sorted(
        {name: None for values in recorded for name in values}, key=lambda name: not name.startswith(_REQUEST)
    )
    found = {name: tuple(values.get(name) for values in recorded) for name in names}
    return {name: values for name, values in found.items() if _differ(name, recorded)}


def _differ(name: str, recorded: Sequence[Mapping[str, Json]]) -> bool:
    known = [values.get(name) for values in recorded if name in values or name.startswith(_REQUEST)]
    return any(value != known[0] for value in known)


def _values(side: Side) -> dict[str, Json]:
    """Field → value, of the whole side."""
    every = [_fields(report) for report in side.reports]
    names = dict.fromkeys(name for fields in every for name in fields)
    return {name: _one_or_list([fields[name] for fields in every if name in fields]) for name in names}


def _fields(report: records.RunReport) -> dict[str, Json]:
    request = leaves_of({"request": msgspec.to_builtins(report.request)})
    every = {"state": report.state, **request, **facts_of(report)}
    return {name: value for name, value in every.items() if value not in ({}, [], None)}


def _one_or_list(values: Iterable[Json]) -> Json:
    distinct: list[Json] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct[0] if len(distinct) == 1 else distinct


def _picture_differences(sides: Sequence[Side]) -> Iterator[PictureDifference]:
    import numpy as np  # heavy

    first = [pixels(content) for content in _first_pictures(sides[0])]
    for side in sides[1:]:
        for index, (before, content) in enumerate(zip(first, _first_pictures(side), strict=False)):
            after = pixels(content)
            if before.shape != after.shape:
                yield PictureDifference(side=side.label, index=index, max_abs_diff=None, mean_abs_diff=None)
                continue
            levels = np.abs(before.astype(np.int16) - after.astype(np.int16))
            yield PictureDifference(
                side=side.label, index=index, max_abs_diff=int(levels.max()), mean_abs_diff=float(levels.mean())
            )


def _first_pictures(side: Side) -> tuple[bytes, ...]:
    """The pictures of the side's first run that has any."""
    for report in side.reports:
        pictures = RunReport.of(report).pictures()
        if pictures:
            return tuple(pictures)
    return ()

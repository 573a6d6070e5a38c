"""The history as a DataFrame, straight from the typed columns; what each column means is said here, once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from omnirt_lab.records import Record

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["string", "list", "Int64", "float64", "datetime64[ms, UTC]"]
"""A pandas dtype; a list is a `string` with commas between its parts."""


class Column(Record, frozen=True):
    """One column of the frame."""

    name: str
    kind: Kind
    meaning: str
    unit: str | None = None
    """None for a text, a count or a plain number."""

    source: str = ""
    """Column of the `runs` table, where it has another name."""

    @property
    def dtype(self) -> str:
        """As pandas names it."""
        return "string" if self.kind == "list" else self.kind


COLUMNS: Final = (
    Column("run_id", "string", "names the run, wherever one is asked for"),
    Column("job_id", "string", "the job that the run is of"),
    Column("enqueued_at", "datetime64[ms, UTC]", "when it was asked for", "UTC", "enqueued_at_ms"),
    Column("finished_at", "datetime64[ms, UTC]", "when it had ended", "UTC", "finished_at_ms"),
    Column("state", "string", "succeeded, failed, cancelled or lost"),
    Column("task", "string", "text2image, image2image, …"),
    Column("model", "string", "name, folder or hub id"),
    Column("backend", "string", "what executed it"),
    Column("execution_mode", "string", "legacy_call, modular, subprocess or ray"),
    Column("worker_id", "string", "the process that ran it"),
    Column("prompt", "string", "what to draw"),
    Column("negative_prompt", "string", "what not to draw"),
    Column("scheduler", "string", "the diffusers class"),
    Column("memory_kind", "string", "what peak_bytes counts: cuda_allocator, mps, rss, …"),
    Column("error_type", "string", "class of the exception that ended it"),
    Column("artifact_sha256", "string", "the first picture's file"),
    Column("note", "string", "yours"),
    Column("seed", "Int64", "of the first picture"),
    Column("steps", "Int64", "planned denoising steps"),
    Column("width_px", "Int64", "of a picture", "px"),
    Column("height_px", "Int64", "of a picture", "px"),
    Column("num_images", "Int64", "pictures that were asked for"),
    Column("batch_size", "Int64", "requests that shared one call of the pipeline"),
    Column("peak_bytes", "Int64", "memory peak of the device with the highest", "bytes"),
    Column("rating", "Int64", "yours, 1 to 5"),
    Column("queue_wait_ms", "float64", "from being asked for to its start", "ms"),
    Column("duration_ms", "float64", "from being asked for to its end", "ms"),
    Column("guidance_scale", "float64", "weight of classifier-free guidance"),
    Column("saved_ms", "float64", "saved by all caches together", "ms"),
    Column("cache_hits", "list", "types of the caches that were hit"),
    Column("tags", "list", "yours"),
)

STAGES: Final = Column("<stage>_ms", "float64", "time in that stage; one column for each stage of any run", "ms")
"""Stands for the columns that depend on the runs."""

FRAME_COLUMNS: Final = (*(column.source or column.name for column in COLUMNS), "timings")
"""Columns of the runs table that a frame needs, in the order in which `to_frame` takes them."""

_list_decoder = msgspec.json.Decoder(list[str])
_timings_decoder = msgspec.json.Decoder(dict[str, float])


def to_frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """One row a run, from rows of `FRAME_COLUMNS`; what is unknown is `<NA>`, NaT or NaN.

    Its columns are `COLUMNS` and, after them, one `<stage>_ms` for each stage of any of the runs. `attrs["units"]` has
    the unit of each that has one.
    """
    import pandas as pd

    values = zip(*rows, strict=True) if rows else ((),) * len(FRAME_COLUMNS)
    *own, timings = map(list, values)
    arrays = {column.name: _array(column.kind, stored) for column, stored in zip(COLUMNS, own, strict=True)}
    stages = {name: array for name, array in _stage_columns(timings).items() if name not in arrays}
    frame = pd.DataFrame(arrays | stages)
    units = {column.name: column.unit for column in COLUMNS if column.unit is not None}
    frame.attrs["units"] = units | dict.fromkeys(stages, STAGES.unit)
    return frame


def columns_frame() -> pd.DataFrame:
    """What the columns of a frame are: `dtype`, `unit` and `meaning` by name."""
    import pandas as pd

    rows = [(column.name, column.dtype, column.unit, column.meaning) for column in (*COLUMNS, STAGES)]
    return pd.DataFrame(rows, columns=["name", "dtype", "unit", "meaning"], dtype="string").set_index("name")


def columns_help() -> str:
    """The same as lines of a docstring."""
    return "\n".join(_help_lines((*COLUMNS, STAGES)))


def _help_lines(columns: Iterable[Column]) -> Iterator[str]:
    for column in columns:
        yield f"{column.name} : {column.dtype}" + (f", {column.unit}" if column.unit else "")
        yield f"    {column.meaning[0].upper()}{column.meaning[1:]}."


def _array(kind: Kind, stored: list[Any]) -> Any:
    import numpy as np
    import pandas as pd

    if kind == "datetime64[ms, UTC]":
        return pd.DatetimeIndex(np.array(stored, dtype="datetime64[ms]"), tz="UTC")
    if kind == "float64":
        return np.array(stored, dtype="float64")
    if kind == "list":
        return pd.array([", ".join(_list_decoder.decode(text)) for text in stored], dtype="string")
    return pd.array(stored, dtype=kind)


def _stage_columns(timings: list[str]) -> dict[str, Any]:
    """`<stage>_ms` → one figure a run, NaN where the run had no such stage."""
    import numpy as np

    columns: dict[str, Any] = {}
    for index, text in enumerate(timings):
        for name, duration_ms in _timings_decoder.decode(text).items():
            if name not in columns:
                columns[name] = np.full(len(timings), np.nan)
            columns[name][index] = duration_ms
    return columns

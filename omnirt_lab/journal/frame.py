"""The history as a DataFrame, straight from the typed columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    import pandas as pd

_TIMES: Final = {"enqueued_at": "enqueued_at_ms", "finished_at": "finished_at_ms"}

_INTEGERS: Final = ("seed", "steps", "width_px", "height_px", "num_images", "batch_size", "peak_bytes", "rating")

_NUMBERS: Final = ("queue_wait_ms", "duration_ms", "guidance_scale", "saved_ms")

_IDS: Final = ("run_id", "job_id")

_TEXTS: Final = (
    *("state", "task", "model", "backend", "execution_mode", "worker_id", "prompt", "negative_prompt"),
    *("scheduler", "memory_kind", "error_type", "artifact_sha256", "note"),
)

_LISTS: Final = ("cache_hits", "tags")

FRAME_COLUMNS: Final = (*_IDS, *_TIMES.values(), *_TEXTS, *_INTEGERS, *_NUMBERS, *_LISTS, "timings")
"""Columns of the runs table that a frame needs, in the order in which `to_frame` takes them."""

_list_decoder = msgspec.json.Decoder(list[str])
_timings_decoder = msgspec.json.Decoder(dict[str, float])


def to_frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """One row a run, from rows of `FRAME_COLUMNS`.

    Times are `datetime64[ms, UTC]`; durations (`_ms`) float milliseconds, NaN where unknown; `peak_bytes`, counts and
    seeds nullable `Int64`; texts nullable `string`, of which `cache_hits` and `tags` are comma-separated lists. After
    them comes one column `<stage>_ms` for each stage of any of the runs.
    """
    import numpy as np
    import pandas as pd

    values = zip(*rows, strict=True) if rows else ((),) * len(FRAME_COLUMNS)
    columns = dict(zip(FRAME_COLUMNS, map(list, values), strict=True))
    frame: dict[str, Any] = {name: pd.array(columns[name], dtype="string") for name in _IDS}
    for name, source in _TIMES.items():
        frame[name] = pd.DatetimeIndex(np.array(columns[source], dtype="datetime64[ms]"), tz="UTC")
    frame |= {name: pd.array(columns[name], dtype="string") for name in _TEXTS}
    frame |= {name: pd.array(columns[name], dtype="Int64") for name in _INTEGERS}
    frame |= {name: np.array(columns[name], dtype="float64") for name in _NUMBERS}
    frame |= {name: pd.array(_joined(columns[name]), dtype="string") for name in _LISTS}
    for name, durations_ms in _stage_columns(columns["timings"]).items():
        frame.setdefault(name, durations_ms)
    return pd.DataFrame(frame)


def _joined(lists: list[str]) -> list[str]:
    return [", ".join(_list_decoder.decode(text)) for text in lists]


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

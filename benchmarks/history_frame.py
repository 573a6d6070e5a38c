"""The history as data: 10,000 runs to a DataFrame, and the newest 50 that match."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from recorded_run import record
from report import emit_report

from omnirt_lab.journal import Journal, RunQuery

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
REPEATS = 7
MAX_ALL_MS = 250.0
MAX_TOP_MS = 30.0
TOP = 50

MODEL = "tiny-shapes"
QUERIES = {
    f"frame of the newest {TOP}": RunQuery(limit=TOP),
    f"frame of the newest {TOP} of a model": RunQuery(limit=TOP, model=MODEL, state="succeeded"),
    f"frame of the newest {TOP} with a part of the prompt": RunQuery(limit=TOP, prompt="BLUE BACKGROUND, number 1"),
    "frame of the few that match, out of all": RunQuery(limit=TOP, prompt=f"NUMBER {RUNS // 2}"),
}


def median_ms(action: Callable[[], object]) -> float:
    took_ms = []
    for _ in range(REPEATS):
        start_ns = time.perf_counter_ns()
        action()
        took_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return statistics.median(took_ms)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        Journal.open(Path(directory)) as journal,
        journal.worker() as worker,
    ):
        for index in range(RUNS):
            record(journal, worker, index)
        journal.runs_frame(RunQuery(limit=1))  # pandas is imported by the first
        all_ms = median_ms(lambda: journal.runs_frame(RunQuery()))
        rows: list[dict[str, object]] = [{"what": f"frame of all {RUNS:,} runs", "median_ms": all_ms}]
        top_ms = {name: median_ms(lambda query=query: journal.runs_frame(query)) for name, query in QUERIES.items()}
        top_ms[f"rows of the newest {TOP}"] = median_ms(lambda: journal.query_runs(RunQuery(limit=TOP)))
        rows += [{"what": name, "median_ms": ms} for name, ms in top_ms.items()]
    verdicts = {
        f"{RUNS:,} runs to a DataFrame <= {MAX_ALL_MS:.0f} ms": all_ms <= MAX_ALL_MS,
        f"a filtered top {TOP} <= {MAX_TOP_MS:.0f} ms": max(top_ms.values()) <= MAX_TOP_MS,
    }
    emit_report("history_frame", rows, verdicts)


if __name__ == "__main__":
    main()

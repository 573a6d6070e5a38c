"""What storing a run costs, in CPU time and bytes, and that it stays so from the first run to the ten-thousandth."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from recorded_run import ending, record_events
from report import emit_report

from omnirt_lab.journal import Journal, Worker

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
WINDOW = RUNS // 5
MAX_CPU_MS = 2.0
MAX_RUN_BYTES = 15_000
FLAT_RATIO = 1.25


def store_one(journal: Journal, worker: Worker, index: int) -> tuple[float, float]:
    """CPU milliseconds of this thread: for the run's events, and for storing the run itself."""
    start_ns = time.thread_time_ns()
    writer = record_events(journal, worker, index)
    middle_ns = time.thread_time_ns()
    writer.finish(ending(index))
    return (middle_ns - start_ns) / 1e6, (time.thread_time_ns() - middle_ns) / 1e6


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        with Journal.open(path) as journal, journal.worker() as worker:
            for first in range(0, RUNS, WINDOW):
                costs = [store_one(journal, worker, index) for index in range(first, first + WINDOW)]
                events_ms, store_ms = (statistics.median(column) for column in zip(*costs, strict=True))
                rows.append(
                    {"runs": f"{first:,} to {first + WINDOW:,}", "store_cpu_ms": store_ms, "events_cpu_ms": events_ms}
                )
        run_bytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file()) // RUNS
    worst, flat = max(row["store_cpu_ms"] for row in rows), rows[-1]["store_cpu_ms"] / rows[0]["store_cpu_ms"]
    verdicts = {
        f"storing a run <= {MAX_CPU_MS} ms CPU ({worst:.2f})": worst <= MAX_CPU_MS,
        f"flat: the last fifth costs <= {FLAT_RATIO} times the first ({flat:.2f})": flat <= FLAT_RATIO,
        f"a run without pictures <= {MAX_RUN_BYTES:,} bytes ({run_bytes:,})": run_bytes <= MAX_RUN_BYTES,
    }
    emit_report("journal_storage", rows, verdicts)


if __name__ == "__main__":
    main()

"""What an emitted event costs the run: stored at once (a stage), and coalesced (a step that follows within 5 ms)."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from recorded_run import request
from report import emit_report

from omnirt_lab.journal import Journal
from omnirt_lab.records import StageStartData, StepData

EVENTS = 4_000
MAX_STAGE_P50_MS = 0.15


def measure(name: str, action: Callable[[int], object]) -> dict[str, object]:
    """Wall time of each of many calls."""
    took_ms = []
    for index in range(EVENTS):
        start_ns = time.perf_counter_ns()
        action(index)
        took_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    cuts = statistics.quantiles(took_ms, n=100)
    return {"what": name, "p50_ms": cuts[49], "p99_ms": cuts[98], "calls": EVENTS}


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        Journal.open(Path(directory)) as journal,
        journal.worker() as worker,
    ):
        job = journal.enqueue(request(0), is_async=True)
        writer = journal.claim(job.job_id, worker)
        assert writer is not None
        stage = measure("stage event, stored at once", lambda _: writer.emit(StageStartData(), stage="denoise"))
        journal.checkpoint()
        step = measure(
            "step, coalesced",
            lambda index: writer.emit(StepData(index=index, start_t_ns=0, timestep=1.0), stage="denoise"),
        )
        cancel = measure("is_cancel_requested", lambda _: writer.is_cancel_requested())
    verdict = f"a stored event <= {MAX_STAGE_P50_MS} ms at the median"
    emit_report("journal_events", [stage, step, cancel], {verdict: float(str(stage["p50_ms"])) <= MAX_STAGE_P50_MS})


if __name__ == "__main__":
    main()

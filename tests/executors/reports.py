"""What the reports of two runs of one request have in common, wherever the runs were made."""

from __future__ import annotations

import msgspec

from omnirt_lab.records import RunReport

OF_THE_RUN = {
    "run_id", "job_id", "trace_id", "worker_id", "execution_mode", "enqueued_at_ms", "finished_at_ms", "queue_wait_ms",
    "duration_ms", "timings", "stages", "steps", "memory", "cache_hits", "cache_details", "backend_timeline", "request",
    "artifacts", "stream_events", "probe", "warnings",
}  # fmt: skip
"""Fields of a report that another run of the same request does not share."""


def of_the_request(report: RunReport) -> dict[str, object]:
    """The other fields."""
    return {name: value for name, value in msgspec.to_builtins(report).items() if name not in OF_THE_RUN}

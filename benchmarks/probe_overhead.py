"""What watching a call costs: the built-in model, bare and watched in turn, with events going to a real journal.

Each pair of calls has the same seed, and every other pair runs in the other order. The figures are medians of the
pairs' ratios, with a bootstrap interval. The verdict goes by processor time of all threads: the calls wait for nothing,
so on a quiet machine that is the wall time, and on a busy one it leaves the others out. Both stand in the table.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores make tiny steps many times slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from recorded_run import request
from report import emit_report

import omnirt_lab
from omnirt_lab.journal import JobWriter, Journal, Worker
from omnirt_lab.pipelines.probe import Probe

WEIGHTS = Path(omnirt_lab.__file__).parent / "tiny_shapes" / "weights"
PAIRS = int(os.environ.get("PAIRS", "100"))
RESAMPLES = 5_000
CASES = (("built-in model, 20 steps", 64, 20, 0.03), ("20 steps of 40 ms or more", 160, 20, 0.01))
"""What, side of the picture in pixels, steps, and the share of the bare time that watching may cost."""


class Took(NamedTuple):
    """Milliseconds of one call, by two clocks."""

    wall_ms: float
    cpu_ms: float


def timed(action: Callable[[], object]) -> Took:
    wall_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
    action()
    return Took((time.perf_counter_ns() - wall_ns) / 1e6, (time.process_time_ns() - cpu_ns) / 1e6)


class Case:
    """A pipeline call of one size, bare and watched."""

    def __init__(
        self, pipeline: DiffusionPipeline, journal: Journal, worker: Worker, *, side_px: int, steps: int
    ) -> None:
        self._pipeline = pipeline
        self._probe = Probe(pipeline)
        self._journal, self._worker = journal, worker
        self._options = {"prompt": "a red circle", "num_inference_steps": steps, "height": side_px, "width": side_px}

    def bare(self, seed: int) -> Took:
        """Call the pipeline alone, just after a job was claimed, as that cools the processor's caches."""
        self._claim(seed)
        return timed(lambda: self._call(seed))

    def watched(self, seed: int) -> Took:
        """Call it under the probe, as the engine does."""
        writer = self._claim(seed)

        def watched_call() -> None:
            with self._probe.watch(writer, should_stop=writer.is_cancel_requested):
                self._call(seed)

        return timed(watched_call)

    def _claim(self, seed: int) -> JobWriter:
        writer = self._journal.claim(self._journal.enqueue(request(seed)).job_id, self._worker)
        assert writer is not None
        return writer

    def _call(self, seed: int) -> object:
        return self._pipeline(**self._options, generator=torch.Generator().manual_seed(seed))


def measure(case: Case) -> np.ndarray:
    """Shape (pairs, 2, 2): bare and watched, wall and processor milliseconds."""
    case.bare(0), case.watched(0)
    pairs = []
    for seed in range(PAIRS):
        if seed % 2:
            watched = case.watched(seed)
            pairs.append((case.bare(seed), watched))
        else:
            pairs.append((case.bare(seed), case.watched(seed)))
    return np.array(pairs)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    draws = np.random.default_rng(0).choice(values, size=(RESAMPLES, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    rows: list[dict[str, object]] = []
    verdicts = {}
    with (
        tempfile.TemporaryDirectory() as directory,
        Journal.open(Path(directory)) as journal,
        journal.worker() as worker,
    ):
        for what, side_px, steps, limit in CASES:
            pairs = measure(Case(pipeline, journal, worker, side_px=side_px, steps=steps))
            for column, clock in enumerate(Took._fields):
                bare, watched = pairs[:, 0, column], pairs[:, 1, column]
                shares = watched / bare - 1
                share = float(np.median(shares))
                low, high = interval(shares)
                rows.append(
                    {
                        "what": what,
                        "clock": clock,
                        "bare": float(np.median(bare)),
                        "watched": float(np.median(watched)),
                        "overhead_percent": 100 * share,
                        "from": 100 * low,
                        "to": 100 * high,
                        "pairs": PAIRS,
                    }
                )
            verdicts[f"{what}: watching costs at most {limit:.0%} (measured {share:.2%})"] = share <= limit
    emit_report("probe_overhead", rows, verdicts)


if __name__ == "__main__":
    main()

"""What previews cost a run: the built-in model at a large size, watched with previews and without in turn.

Each pair of calls has the same seed, and every other pair runs in the other order. `cost_percent` is the median of the
pairs' ratios of processor time, with a bootstrap interval. `counted_percent` is what the probe counts as its own cost
with previews more than without, against the whole call: it does not drown in a busy machine's noise, so the verdict
goes by it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores make tiny steps many times slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from probe_overhead import WEIGHTS, Took, interval, timed
from recorded_run import request
from report import emit_report

from omnirt_lab.journal import JobWriter, Journal, Worker
from omnirt_lab.pipelines.probe import Probe

PAIRS = int(os.environ.get("PAIRS", "5"))
LIMIT = 0.01
CASES = (("320 px, 40 steps", 320, 40),)
"""What, side of the picture in pixels, steps: long enough for previews; at 64 px and 20 steps there would be none."""


class Viewer:
    """Passes previews on to the journal, and counts them and the time in which they were made."""

    def __init__(self, writer: JobWriter) -> None:
        self._writer = writer
        self.count = 0

    def wants_preview(self) -> bool:
        """Always."""
        return True

    def show_preview(self, content: bytes, *, media_type: str, step: int) -> None:
        """Store it."""
        self._writer.show_preview(content, media_type=media_type, step=step)
        self.count += 1


class Case:
    """A watched call of one size."""

    def __init__(
        self, pipeline: DiffusionPipeline, journal: Journal, worker: Worker, *, side_px: int, steps: int
    ) -> None:
        self._pipeline, self._probe = pipeline, Probe(pipeline)
        self._journal, self._worker = journal, worker
        self._options = {"prompt": "a red circle", "num_inference_steps": steps, "height": side_px, "width": side_px}
        self.counts: list[int] = []
        self.overheads_ns: dict[bool, list[int]] = {False: [], True: []}

    def run(self, seed: int, *, with_previews: bool) -> Took:
        """Make the call once."""
        writer = self._journal.claim(self._journal.enqueue(request(seed)).job_id, self._worker)
        assert writer is not None
        viewer = Viewer(writer)

        def call() -> None:
            with self._probe.watch(writer, viewer=viewer if with_previews else None) as reading:
                self._pipeline(**self._options, generator=torch.Generator().manual_seed(seed))
            self.overheads_ns[with_previews].append(reading.cost.overhead_ns)

        took = timed(call)
        if with_previews:
            self.counts.append(viewer.count)
        return took


def measure(case: Case) -> np.ndarray:
    """Shape (pairs, 2, 2): without and with previews, wall and processor milliseconds."""
    for with_previews in (False, True):
        case.run(0, with_previews=with_previews)
    case.counts.clear()
    for overheads_ns in case.overheads_ns.values():
        overheads_ns.clear()
    pairs = []
    for seed in range(PAIRS):
        order = (False, True) if seed % 2 else (True, False)
        took = {with_previews: case.run(seed, with_previews=with_previews) for with_previews in order}
        pairs.append((took[False], took[True]))
    return np.array(pairs)


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
        for what, side_px, steps in CASES:
            case = Case(pipeline, journal, worker, side_px=side_px, steps=steps)
            pairs = measure(case)
            without_ns, with_ns = (np.array(case.overheads_ns[with_previews]) for with_previews in (False, True))
            counted = float(np.median((with_ns - without_ns) / 1e6 / pairs[:, 1, 0]))
            for column, clock in enumerate(Took._fields):
                shares = pairs[:, 1, column] / pairs[:, 0, column] - 1
                share, (low, high) = float(np.median(shares)), interval(shares)
                rows.append(
                    {
                        "what": what,
                        "clock": clock,
                        "off": float(np.median(pairs[:, 0, column])),
                        "on": float(np.median(pairs[:, 1, column])),
                        "cost_percent": 100 * share,
                        "from": 100 * low,
                        "to": 100 * high,
                        "counted_percent": 100 * counted,
                        "previews": float(np.mean(case.counts)),
                        "pairs": PAIRS,
                    }
                )
            verdicts[f"{what}: previews cost at most {LIMIT:.0%} (counted {counted:.2%})"] = counted <= LIMIT
    emit_report("preview_cost", rows, verdicts)


if __name__ == "__main__":
    main()

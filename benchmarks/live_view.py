"""What the live view costs a run: in a real kernel, watched and not in turn, with previews, comm messages and all.

Each pair of runs has the same seed, and every other pair runs in the other order. Measured is what lies between a run's
first and last event. `cost_percent` is the median of the pairs' ratios, with a bootstrap interval. `counted_percent` is
what can be told apart from a busy machine's noise, and so the verdict goes by it: the processor time of all threads but
the run's own, more than without the view, and what the probe counts as its own cost, previews included, more than
without. The report that stands there in the end is not counted: it is shown without a live view, too.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores make tiny steps many times slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from jupyter_client.manager import start_new_kernel
from probe_overhead import interval
from report import emit_report

from omnirt_lab.records import TERMINAL_EVENTS, AnyEvent, JobStarted

PAIRS = int(os.environ.get("PAIRS", "8"))
LIMIT = 0.01
SIZES = {"64 px, 150 steps": (64, 150), "160 px, 60 steps": (160, 60)}
"""What → side of the picture in pixels, and steps: two to five seconds each on a quiet core."""
READY_S, RUN_S = 60, 1800


class Took(NamedTuple):
    """Nanoseconds of one run."""

    wall_ns: int
    cpu_ns: int
    """Of all threads."""
    own_cpu_ns: int
    """Of the run's own thread."""
    probe_ns: int
    """What the probe counts as its cost."""
    messages: int
    """What the live view has sent."""


class Stopwatch:
    """Notes the clocks at a run's first and last event."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, int, int]] = []

    def __call__(self, event: AnyEvent) -> None:
        """Hear an event, in the run's thread."""
        if isinstance(event, (JobStarted, *TERMINAL_EVENTS)):
            self.marks.append((time.perf_counter_ns(), time.process_time_ns(), time.thread_time_ns()))

    @property
    def spans(self) -> tuple[int, int, int]:
        """Wall, processor and own thread's nanoseconds."""
        first, last = self.marks
        return last[0] - first[0], last[1] - first[1], last[2] - first[2]


def run(seed: int, *, side_px: int, steps: int, live: bool) -> Took:
    """One run, in the kernel."""
    import omnirt_lab as lab
    from omnirt_lab.widgets.live_widget import LiveWidget

    sent = []
    show = LiveWidget.show

    def counted(widget: LiveWidget, *args: object, **options: object) -> None:
        sent.append(widget)
        show(widget, *args, **options)

    LiveWidget.show = counted
    try:
        lab.configure(live=live)
        clock = Stopwatch()
        result = lab.generate(
            "a red circle", seed=seed, steps=steps, width=side_px, height=side_px, progress=live, on_event=clock
        )
    finally:
        LiveWidget.show = show
    return Took(*clock.spans, result.report.probe.overhead_ns, len(sent))


def measure(what: str) -> None:
    """Print all pairs of this size, as JSON: without and with the view."""
    import torch

    torch.set_num_threads(1)
    side_px, steps = SIZES[what]
    for live in (False, True):
        run(0, side_px=side_px, steps=steps, live=live)
    pairs = []
    for seed in range(PAIRS):
        order = (False, True) if seed % 2 else (True, False)
        took = {live: run(seed, side_px=side_px, steps=steps, live=live) for live in order}
        pairs.append((took[False], took[True]))
    print(json.dumps(pairs))


def measured_in_a_kernel(what: str) -> np.ndarray:
    """Shape (pairs, 2, fields of Took)."""
    manager, client = start_new_kernel(startup_timeout=READY_S)
    lines: list[str] = []
    try:
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        code += f"import live_view\nlive_view.measure({what!r})"
        reply = client.execute_interactive(
            code, timeout=RUN_S, output_hook=lambda message: lines.append(_text(message))
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if reply["content"]["status"] != "ok":
        sys.exit("\n".join(reply["content"]["traceback"]))
    return np.array(json.loads("".join(lines)))


def _text(message: dict[str, object]) -> str:
    content = message["content"]
    assert isinstance(content, dict)
    return content["text"] if message["msg_type"] == "stream" and content["name"] == "stdout" else ""


def main() -> None:
    rows: list[dict[str, object]] = []
    verdicts = {}
    for what in SIZES:
        with tempfile.TemporaryDirectory() as directory:
            os.environ["OMNIRT_STATE_DIR"] = directory
            pairs = measured_in_a_kernel(what)
        wall, cpu, own, probe, messages = (pairs[:, :, column] for column in range(len(Took._fields)))
        extra = (cpu - own + probe)[:, 1] - (cpu - own + probe)[:, 0]
        counted = float(np.median(extra / wall[:, 1]))
        for clock, values in {"wall": wall, "cpu": cpu}.items():
            shares = values[:, 1] / values[:, 0] - 1
            low, high = interval(shares)
            rows.append(
                {
                    "what": what,
                    "clock": clock,
                    "off_ms": float(np.median(values[:, 0])) / 1e6,
                    "live_ms": float(np.median(values[:, 1])) / 1e6,
                    "cost_percent": 100 * float(np.median(shares)),
                    "from": 100 * low,
                    "to": 100 * high,
                    "counted_percent": 100 * counted,
                    "updates": float(np.mean(messages[:, 1])),
                    "pairs": PAIRS,
                }
            )
        verdicts[f"{what}: the live view costs at most {LIMIT:.0%} (counted {counted:.2%})"] = counted <= LIMIT
    emit_report("live_view", rows, verdicts)


if __name__ == "__main__":
    main()

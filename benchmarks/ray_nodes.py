"""A sweep on a Ray cluster of two nodes against the same sweep on one of them.

Each node is a raylet of its own with one CPU, so that it has room for one actor; both are on this machine, and share
its cores with each other and with the driver. So the ratio says what spreading costs rather than what a second machine
brings: two free cores would give 2, less what the driver, the raylets and the journal need. The sweeps are made in turn
several times, all actors warm; the figures are medians of the rounds, by the wall clock.
"""

from __future__ import annotations

import os
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # an actor has one CPU
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else Ray writes one into the home directory
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # it listens on 127.0.0.1 alone
    "RAY_USAGE_STATS_ENABLED": "0",
}

from report import emit_report

from omnirt_lab import Lab

sys.path.append(str(Path(__file__).parents[1]))  # for the tests' cluster
from tests.executors.clusters import two_nodes

ROUNDS = int(os.environ.get("ROUNDS", "5"))
RUNS, SIDE_PX, STEPS = 8, 160, 20
MIN_RATIO = 0.9
"""Less would mean that a second node makes a sweep slower, even where it brings no core of its own. It is no promise of
more: other processes of the machine take from the second node first."""


def swept(lab: Lab, nodes: int, turn: int) -> tuple[float, int]:
    """Seconds of a sweep with so many actors, and how many nodes it ran on."""
    lab.configure(ray_actors=nodes)
    seeds = range(turn * RUNS, (turn + 1) * RUNS)
    begun_s = time.perf_counter()
    sweep = lab.sweep(
        "a red circle", seed=seeds, width=SIDE_PX, height=SIDE_PX, steps=STEPS, execution_mode="ray", progress=False
    )
    took_s = time.perf_counter() - begun_s
    reports = [result.report for result in sweep.results if result is not None]
    assert len(reports) == RUNS, "every run succeeds"
    return took_s, len({report.backend_timeline[-1].node for report in reports})


def warm(lab: Lab) -> None:
    """Have an actor on each node, with the model in its memory."""
    lab.configure(ray_actors=2)
    jobs = [lab.submit("a red circle", steps=1_000, execution_mode="ray") for _ in range(2)]
    for job in jobs:
        next(event for event in job.events(timeout=120) if event.event == "step")
    for job in jobs:
        job.cancel()


def main() -> None:
    took_s: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder, two_nodes() as cluster, Lab(Path(folder) / "state") as lab:
        lab.configure(ray=cluster.address)
        warm(lab)
        for turn in range(ROUNDS):
            for nodes in (1, 2) if turn % 2 else (2, 1):
                seconds, used = swept(lab, nodes, turn * 3 + nodes)
                assert used == nodes, f"{used} nodes instead of {nodes}"
                took_s[nodes].append(seconds)
    one_s, two_s = statistics.median(took_s[1]), statistics.median(took_s[2])
    ratio = statistics.median(one / two for one, two in zip(took_s[1], took_s[2], strict=True))
    rows = [
        {"nodes": 1, "runs": RUNS, "sweep_ms": one_s * 1000, "runs_per_s": RUNS / one_s, "ratio": 1.0},
        {"nodes": 2, "runs": RUNS, "sweep_ms": two_s * 1000, "runs_per_s": RUNS / two_s, "ratio": ratio},
    ]
    print(f"both nodes, the driver and Ray share {os.cpu_count()} cores")
    emit_report(
        "ray_nodes", rows, {f"two nodes do {MIN_RATIO} times as much as one, or more ({ratio:.2f})": ratio >= MIN_RATIO}
    )


if __name__ == "__main__":
    main()

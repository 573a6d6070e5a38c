"""What keeping a pipeline in memory saves: the same run with a resident pipeline, and with one that is loaded for it.

The files are in the system's cache, so that a load is what it costs at best; from a cold disk it costs more. Both runs
of a pair have one seed and must draw the same picture. The figure is the median of the pairs' ratios, by wall time.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores make tiny steps many times slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from report import emit_report

from omnirt_lab import Lab

PAIRS = int(os.environ.get("PAIRS", "12"))
STEPS = (1, 20)
PROMPT = "a red circle on a blue background"


def run(lab: Lab, *, steps: int, seed: int, is_resident: bool) -> tuple[float, float, np.ndarray]:
    """Milliseconds of the call and of its `load` stage, and the picture."""
    lab.configure(resident_pipeline_cache=is_resident)
    began_ns = time.perf_counter_ns()
    result = lab.generate(PROMPT, steps=steps, seed=seed, progress=False)
    took_ms = (time.perf_counter_ns() - began_ns) / 1e6
    return took_ms, result.report.timings["load_ms"], np.asarray(result.images[0])


def measure(lab: Lab, steps: int) -> dict[str, object]:
    """One row: medians, and the median of the pairs' ratios."""
    resident, loaded = [], []
    for seed in range(PAIRS):
        run(lab, steps=1, seed=seed, is_resident=True)  # the load before has left none
        resident.append(run(lab, steps=steps, seed=seed, is_resident=True))
        loaded.append(run(lab, steps=steps, seed=seed, is_resident=False))
    same = all(np.array_equal(kept[2], anew[2]) for kept, anew in zip(resident, loaded, strict=True))
    return {
        "steps": steps,
        "resident_ms": statistics.median(took for took, _, _ in resident),
        "loaded_ms": statistics.median(took for took, _, _ in loaded),
        "speed_up": statistics.median(anew[0] / kept[0] for kept, anew in zip(resident, loaded, strict=True)),
        "resident_load_ms": statistics.median(load for _, load, _ in resident),
        "loaded_load_ms": statistics.median(load for _, load, _ in loaded),
        "same_pictures": same,
        "pairs": PAIRS,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Lab(Path(directory)) as lab:
        rows = [measure(lab, steps) for steps in STEPS]
    emit_report(
        "residency_cache",
        rows,
        {
            "a resident pipeline draws the same pictures": all(bool(row["same_pictures"]) for row in rows),
            "a resident pipeline is never slower than one that is loaded": all(
                float(str(row["speed_up"])) >= 1 for row in rows
            ),
        },
    )


if __name__ == "__main__":
    main()

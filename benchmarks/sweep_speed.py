"""A sweep of 24 runs on the built-in model against 24 bare pipeline calls in a loop, in one process.

Both load the model once, each with nothing resident before. Both are done in turn, several times; the figure is the
median of the pairs' ratios, by the wall clock. The sweep also stores pictures and reports, which the loop does not.
What a run spends beside the pipeline (`load` of a resident model with its weights' fingerprints, `export`), and what
the embedding cache saves a run, are medians from the reports: the sweep can be faster only where the second is larger.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores make tiny steps many times slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from diffusers import StableDiffusionPipeline
from report import emit_report

from omnirt_lab import Lab, Sweep
from omnirt_lab.pipelines.catalog import get_model

ROUNDS = int(os.environ.get("ROUNDS", "5"))
PROMPT = "a red circle on a blue background"
STEPS, GUIDANCE, SEEDS = (2, 4, 6), (1.0, 5.0), (1, 2, 3, 4)


def bare() -> float:
    """Seconds of the loop that a person would write."""
    start_s = time.perf_counter()
    pipeline = StableDiffusionPipeline.from_pretrained(get_model("tiny-shapes").location, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    for steps, guidance, seed in product(STEPS, GUIDANCE, SEEDS):
        generator = torch.Generator("cpu").manual_seed(seed)
        pipeline(PROMPT, num_inference_steps=steps, guidance_scale=guidance, generator=generator)
    return time.perf_counter() - start_s


def swept(lab: Lab) -> tuple[float, Sweep]:
    """Seconds of the sweep, stored pictures and reports included, and the sweep itself."""
    lab.cache.clear()
    start_s = time.perf_counter()
    sweep = lab.sweep(PROMPT, steps=STEPS, guidance_scale=GUIDANCE, seed=SEEDS, progress=False)
    return time.perf_counter() - start_s, sweep


def timing(pairs: list[tuple[float, float, Sweep]], stage: str) -> float:
    """Median of a stage over all runs of all sweeps."""
    results = [result for _, _, sweep in pairs for result in sweep.results if result is not None]
    return statistics.median(result.report.timings[stage] for result in results)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        bare()
        swept(lab)
        pairs = []
        for turn in range(ROUNDS):
            if turn % 2:
                loop_s, (sweep_s, sweep) = bare(), swept(lab)
            else:
                (sweep_s, sweep), loop_s = swept(lab), bare()
            pairs.append((loop_s, sweep_s, sweep))
        load_ms, export_ms = timing(pairs, "load_ms"), timing(pairs, "export_ms")
    speed_up = statistics.median(loop_s / sweep_s for loop_s, sweep_s, _ in pairs)
    row = {
        "runs": len(pairs[0][2]),
        "loop_ms": statistics.median(loop_s for loop_s, _, _ in pairs) * 1000,
        "sweep_ms": statistics.median(sweep_s for _, sweep_s, _ in pairs) * 1000,
        "speed_up": speed_up,
        "saved_ms_a_run": statistics.median(cell.saved_ms or 0 for _, _, sweep in pairs for cell in sweep.cells),
        "load_ms_a_run": load_ms,
        "export_ms_a_run": export_ms,
    }
    emit_report("sweep_speed", [row], {"a sweep of 24 runs is faster than 24 bare calls": speed_up > 1})


if __name__ == "__main__":
    main()

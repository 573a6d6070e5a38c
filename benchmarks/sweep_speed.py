"""A sweep of 24 runs on the built-in model against 24 bare pipeline calls in a loop, in one process.

All load the model once, each with nothing resident before. There are two loops that a person would write: one keeps
its pictures in memory, the other saves them as PNG files, as a sweep does beside its reports. The sweep is made twice:
with each run in a call of its own, bit-exact with a single run; and with `batch_size=4`, the four seeds of a cell in
one call. All are done in turn, several times; each figure is the median of the ratios within a turn, by the wall clock
and by CPU time of the process, which a busy machine disturbs less.

With a call for each run the sweep can be faster only where the embedding cache saves more (`saved_ms_a_run`, by the
reports) than a run spends beside the pipeline (`load` of a resident model with its weights' fingerprints, `export`).
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
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
LOOP, SAVING_LOOP, ALONE, BATCHED = "loop", "loop that saves", "one run a call", "four runs a call"
STEPS, GUIDANCE, SEEDS = (2, 4, 6), (1.0, 5.0), (1, 2, 3, 4)


def bare(folder: Path | None = None) -> None:
    """The loop that a person would write; with a folder it saves the pictures."""
    pipeline = StableDiffusionPipeline.from_pretrained(get_model("tiny-shapes").location, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pictures = []
    for steps, guidance, seed in product(STEPS, GUIDANCE, SEEDS):
        generator = torch.Generator("cpu").manual_seed(seed)
        picture = pipeline(PROMPT, num_inference_steps=steps, guidance_scale=guidance, generator=generator).images[0]
        pictures.append(picture)
        if folder is not None:
            picture.save(folder / f"{steps}-{guidance}-{seed}.png")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the wall clock and of the process's CPUs."""
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start_s, time.process_time() - cpu_start_s


def timing(sweeps: list[Sweep], stage: str) -> float:
    """Median of a stage over all runs of all sweeps."""
    results = [result for sweep in sweeps for result in sweep.results if result is not None]
    return statistics.median(result.report.timings[stage] for result in results)


def ratios(turns: list[dict[str, tuple[float, float]]], sweep: str, loop: str) -> dict[str, float | str]:
    """How much faster than this loop this sweep was."""
    return {
        "sweep": sweep,
        "against": loop,
        "loop_ms": statistics.median(turn[loop][0] for turn in turns) * 1000,
        "sweep_ms": statistics.median(turn[sweep][0] for turn in turns) * 1000,
        "speed_up": statistics.median(turn[loop][0] / turn[sweep][0] for turn in turns),
        "cpu_speed_up": statistics.median(turn[loop][1] / turn[sweep][1] for turn in turns),
    }


def spent(sweeps: list[Sweep]) -> dict[str, float | int]:
    """What a run of these sweeps spends beside the pipeline, and what the embedding cache saves it."""
    return {
        "runs": len(sweeps[0]),
        "saved_ms_a_run": statistics.median(cell.saved_ms or 0 for sweep in sweeps for cell in sweep.cells),
        "load_ms_a_call": timing(sweeps, "load_ms"),
        "export_ms_a_call": timing(sweeps, "export_ms"),
    }


def main() -> None:
    torch.set_num_threads(1)
    made: dict[str, list[Sweep]] = {ALONE: [], BATCHED: []}
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder) / "state") as lab:

        def swept(name: str, batch_size: int) -> None:
            sweep = lab.sweep(
                PROMPT, steps=STEPS, guidance_scale=GUIDANCE, seed=SEEDS, batch_size=batch_size, progress=False
            )
            made[name].append(sweep)

        works: dict[str, Callable[[], None]] = {
            LOOP: bare,
            SAVING_LOOP: lambda: bare(Path(folder)),
            ALONE: lambda: swept(ALONE, 1),
            BATCHED: lambda: swept(BATCHED, len(SEEDS)),
        }
        turns = []
        for turn in range(-1, ROUNDS):  # the first one warms up
            taken = {}
            for name in sorted(works, reverse=turn % 2 == 0):
                lab.cache.clear()
                taken[name] = timed(works[name])
            turns.append(taken)
        costs = {name: spent(sweeps[1:]) for name, sweeps in made.items()}
    rows = [
        {**ratios(turns[1:], sweep, loop), **costs[sweep]} for sweep in (BATCHED, ALONE) for loop in (LOOP, SAVING_LOOP)
    ]
    holds = float(rows[0]["speed_up"]) > 1
    emit_report("sweep_speed", rows, {"a sweep of 24 runs, 4 of them a call, is faster than 24 bare calls": holds})


if __name__ == "__main__":
    main()

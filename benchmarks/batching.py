"""Eight queued prompts on the built-in model: eight calls of the pipeline, one after the other, against one for all.

Both go through the queue and the journal, report by report; the text embeddings are forgotten before each. They are
done in turn, several times; the speed-up is the median of the ratios within a turn, by the wall clock and by CPU time
of the process, which a busy machine disturbs less. Then the pictures are compared with those of the single runs: the
stored ones in 255ths of full scale, and the float ones of eight such batches, as the pipeline hands them out. Two runs
of a batch are replayed. All at the default guidance.
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
import torch
from report import emit_report

from omnirt_lab import GenerateResult, Lab
from omnirt_lab.engine import build_request
from omnirt_lab.lab.jobs import Job
from omnirt_lab.lab.replay import verdict_of
from omnirt_lab.pipelines.batching import shared_arguments
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.loading import load_pipeline, resolve_placement
from omnirt_lab.pipelines.row_rounding import rounded_as_alone

ROUNDS = int(os.environ.get("ROUNDS", "5"))
STEPS = (4, 20)
PROMPTS = [
    f"a {colour} {shape} on a white background"
    for colour in ("red", "green", "blue", "yellow")
    for shape in ("circle", "star")
]
ALONE, TOGETHER = 1, len(PROMPTS)
WANTED_SPEED_UP = 1.5
BATCHES = 8
ALLOWED_DIFFERENCE = 2e-6
DEADLINE_S = 600.0


def drawn(lab: Lab, steps: int, size: int) -> list[GenerateResult]:
    """Queue all prompts, then let the engine know, and wait for the results."""
    lab.configure(batch_window_ms=0, max_batch_size=size)
    jobs = []
    for seed, prompt in enumerate(PROMPTS[:-1]):
        job = lab.journal.enqueue(build_request(prompt, {"steps": steps, "seed": seed}), is_async=True)
        jobs.append(Job(lab.journal, job.job_id, job.run_id))
    jobs.append(lab.submit(PROMPTS[-1], steps=steps, seed=len(PROMPTS) - 1))
    return [job.result(timeout=DEADLINE_S) for job in jobs]


def timed(lab: Lab, steps: int, size: int) -> tuple[float, float]:
    """Seconds by the wall clock and of the process's CPUs."""
    lab.cache.clear()
    lab.generate(PROMPTS[0], steps=1, progress=False)  # loads the model again
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    results = drawn(lab, steps, size)
    taken = time.perf_counter() - start_s, time.process_time() - cpu_start_s
    assert {result.report.batch_size for result in results} == {size}
    return taken


def measured(lab: Lab, steps: int) -> dict[str, float | int]:
    """The speed-up at this number of steps."""
    turns = []
    for turn in range(-1, ROUNDS):  # the first one warms up
        sizes = (ALONE, TOGETHER) if turn % 2 else (TOGETHER, ALONE)
        turns.append({size: timed(lab, steps, size) for size in sizes})
    turns, differences = turns[1:], float_differences(steps)
    return {
        "steps": steps,
        "jobs": len(PROMPTS),
        "alone_ms": statistics.median(turn[ALONE][0] for turn in turns) * 1000,
        "together_ms": statistics.median(turn[TOGETHER][0] for turn in turns) * 1000,
        "speed_up": statistics.median(turn[ALONE][0] / turn[TOGETHER][0] for turn in turns),
        "cpu_speed_up": statistics.median(turn[ALONE][1] / turn[TOGETHER][1] for turn in turns),
        "largest_difference": largest_difference(lab, steps),
        "largest_in_millionths": max(differences) * 1e6,
        "bit_equal": differences.count(0.0),
        "float_pictures": len(differences),
    }


def largest_difference(lab: Lab, steps: int) -> int:
    """Of a colour value, in 255ths, between the pictures made together and those made alone."""
    files = [[result.report.pictures()[0] for result in drawn(lab, steps, size)] for size in (ALONE, TOGETHER)]
    difference = verdict_of(*files)[1]
    assert difference is not None
    return difference


def float_differences(steps: int) -> list[float]:
    """The largest difference of a colour value, 0 to 1, for each picture of several batches."""
    shared = {"prompt": "", "generator": None, "num_inference_steps": steps, "output_type": "np"}
    differences: list[float] = []
    with torch.no_grad():
        pipeline = load_pipeline(get_model("tiny-shapes"), task="text2image", placement=resolve_placement()).pipeline
        pipeline.set_progress_bar_config(disable=True)
        for batch in range(BATCHES):
            seeds = range(batch * TOGETHER, (batch + 1) * TOGETHER)
            with rounded_as_alone(pipeline, TOGETHER):
                together = pipeline(**shared_arguments(shared, arguments_of(seeds))).images
            alone = [pipeline(**shared_arguments(shared, [row])).images[0] for row in arguments_of(seeds)]
            differences += [float(np.abs(a - b).max()) for a, b in zip(together, alone, strict=True)]
    return differences


def arguments_of(seeds: range) -> list[dict[str, object]]:
    """What the call is given for each prompt."""
    return [
        {"prompt": prompt, "generator": torch.Generator().manual_seed(seed)}
        for prompt, seed in zip(PROMPTS, seeds, strict=True)
    ]


def is_replayed_bit_for_bit(lab: Lab) -> bool:
    """Whether the first and the last of a batch come out the same bits again."""
    results = drawn(lab, STEPS[0], TOGETHER)
    return all(lab.replay(result.report, progress=False).verdict == "bit_exact" for result in (results[0], results[-1]))


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder) / "state") as lab:
        rows = [measured(lab, steps) for steps in STEPS]
        is_same = is_replayed_bit_for_bit(lab)
    verdicts = {
        f"eight prompts in one call take {WANTED_SPEED_UP} times less than eight calls, or better": min(
            row["speed_up"] for row in rows
        )
        >= WANTED_SPEED_UP,
        "no colour value differs by more than 1 of 255 from the single run's": all(
            row["largest_difference"] <= 1 for row in rows
        ),
        f"no float picture is further than {ALLOWED_DIFFERENCE} from its single run's": all(
            row["largest_in_millionths"] <= ALLOWED_DIFFERENCE * 1e6 for row in rows
        ),
        "a replay of a batched run is bit-exact": is_same,
    }
    emit_report("batching", rows, verdicts)


if __name__ == "__main__":
    main()

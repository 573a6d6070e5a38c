"""What each way to execute a job costs over a bare call of the pipeline, and how soon a warm child is at work.

A job is the whole of `generate`: it is checked, queued, claimed, run, watched, and its picture stored; a bare call is
the diffusers pipeline alone, in this process. Each round makes one of each, in an order that turns, with the same
seed and the same picture; the figures are medians of the rounds' differences and ratios, by the wall clock, since a
child's time is no time of this process. A mode that cannot run the built-in model is named and left out.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores make tiny steps many times slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from report import emit_report

import omnirt_lab
from omnirt_lab import Lab
from omnirt_lab.errors import LabError
from omnirt_lab.records import AnyEvent, ExecutionMode, JobStarted

WEIGHTS = Path(omnirt_lab.__file__).parent / "tiny_shapes" / "weights"
PROMPT = "a red circle on a blue background"
ROUNDS = int(os.environ.get("ROUNDS", "20"))
CASES = (("1 step", 64, 1), ("20 steps", 64, 20), ("20 steps of a larger picture", 160, 20))
"""What, side of the picture in pixels, steps."""

MAX_MORE_MS = 60.0
"""What a warm child may add to a job that runs here: two messages a job, one an event, and the wake-ups between."""


def timed_ms(action: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start_ns = time.perf_counter_ns()
    picture = action()
    return (time.perf_counter_ns() - start_ns) / 1e6, picture


class Case:
    """One request, made bare and in each mode."""

    def __init__(self, lab: Lab, pipeline: StableDiffusionPipeline, *, side_px: int, steps: int) -> None:
        self._lab, self._pipeline = lab, pipeline
        self._side_px, self._steps = side_px, steps

    def bare(self, seed: int) -> np.ndarray:
        """Call the pipeline alone."""
        generator = torch.Generator().manual_seed(seed)
        output = self._pipeline(
            PROMPT, num_inference_steps=self._steps, height=self._side_px, width=self._side_px, generator=generator
        )
        return np.asarray(output.images[0])

    def job(self, mode: ExecutionMode, seed: int) -> np.ndarray:
        """Run it as a job."""
        result = self._lab.generate(
            PROMPT, steps=self._steps, height=self._side_px, width=self._side_px, seed=seed, progress=False,
            execution_mode=mode,
        )  # fmt: skip
        return np.asarray(result.images[0])

    def measure(self, modes: list[ExecutionMode]) -> dict[str, list[float]]:
        """Milliseconds of each way, one a round; `bare` is one of the ways."""
        ways: dict[str, Callable[[int], np.ndarray]] = {"bare": self.bare}
        ways |= {mode: lambda seed, mode=mode: self.job(mode, seed) for mode in modes}
        for way in ways.values():
            way(0)
        took: dict[str, list[float]] = {name: [] for name in ways}
        for seed in range(ROUNDS):
            names = list(ways)[seed % len(ways) :] + list(ways)[: seed % len(ways)]
            pictures = {}
            for name in names:
                ms, pictures[name] = timed_ms(lambda name=name, seed=seed: ways[name](seed))
                took[name].append(ms)
            assert all(np.array_equal(pictures["bare"], picture) for picture in pictures.values()), "another picture"
        return took


def available(lab: Lab) -> tuple[list[ExecutionMode], dict[str, str]]:
    """The modes that run the built-in model, and why the others do not."""
    modes: list[ExecutionMode] = []
    reasons = {}
    for mode in get_args(ExecutionMode):
        try:
            lab.generate(PROMPT, steps=1, seed=0, progress=False, execution_mode=mode)
            modes.append(mode)
        except LabError as error:
            reasons[mode] = str(error)
    return modes, reasons


def child_times(lab: Lab) -> dict[str, float]:
    """Milliseconds: a cold job, and of warm ones how long it takes until the child has begun."""
    lab.cache.clear()
    cold_ms, _ = timed_ms(lambda: np.asarray(_draw(lab)))
    until_started: list[float] = []
    for _ in range(ROUNDS):
        asked_ns = time.perf_counter_ns()

        def note(event: AnyEvent, asked_ns: int = asked_ns) -> None:
            if isinstance(event, JobStarted):
                until_started.append((time.perf_counter_ns() - asked_ns) / 1e6)

        _draw(lab, on_event=note)
    return {"first job in a new child": cold_ms, "warm: until the child has begun": statistics.median(until_started)}


def _draw(lab: Lab, **options: Callable[[AnyEvent], None]) -> object:
    return lab.generate(PROMPT, steps=1, seed=0, progress=False, execution_mode="subprocess", **options).images[0]


def main() -> None:
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    rows: list[dict[str, object]] = []
    verdicts = {}
    with tempfile.TemporaryDirectory() as directory, Lab(Path(directory)) as lab:
        modes, reasons = available(lab)
        for what, side_px, steps in CASES:
            took = Case(lab, pipeline, side_px=side_px, steps=steps).measure(modes)
            for mode in modes:
                pairs = list(zip(took["bare"], took[mode], strict=True))
                rows.append(
                    {
                        "what": what,
                        "mode": mode,
                        "bare_ms": statistics.median(took["bare"]),
                        "mode_ms": statistics.median(took[mode]),
                        "ratio": statistics.median(mode_ms / bare_ms for bare_ms, mode_ms in pairs),
                        "more_ms": statistics.median(mode_ms - bare_ms for bare_ms, mode_ms in pairs),
                    }
                )
            if "subprocess" in modes:
                here, apart = took["legacy_call"], took["subprocess"]
                more_ms = statistics.median(b - a for a, b in zip(here, apart, strict=True))
                claim = f"{what}: a warm child takes at most {MAX_MORE_MS:.0f} ms more than a job here ({more_ms:.1f})"
                verdicts[claim] = more_ms <= MAX_MORE_MS
        for what, ms in child_times(lab).items() if "subprocess" in modes else ():
            nothing = dict.fromkeys(("bare_ms", "ratio", "more_ms"))
            rows.append({"what": what, "mode": "subprocess", **nothing, "mode_ms": ms})
    for mode, reason in reasons.items():
        print(f"{mode} is left out: {reason}")
    emit_report("execution_modes", rows, verdicts)


if __name__ == "__main__":
    main()

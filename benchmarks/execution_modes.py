"""What each way to execute a job costs over a bare call of the pipeline, and how soon a warm child or actor is at work.

A job is the whole of `generate`: it is checked, queued, claimed, run, watched, and its picture stored; a bare call is
the diffusers pipeline alone, in this process. Each round makes one of each, in an order that turns, with the same
seed and the same picture; the figures are medians of the rounds' differences and ratios, by the wall clock, since a
child's time is no time of this process. `ray` is one actor on a cluster of this machine, and shares its cores; its
first job starts the cluster too. A mode that cannot run a model is named and left out. The built-in model has no
modular blocks, so that mode is measured with a tiny SDXL, over a bare call of the blocks.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import get_args

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores make tiny steps many times slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from diffusers import DiffusionPipeline, ModularPipeline, StableDiffusionPipeline, StableDiffusionXLAutoBlocks
from report import emit_report

import omnirt_lab
from omnirt_lab import Lab
from omnirt_lab.errors import LabError
from omnirt_lab.pipelines.modular_blocks import find_loops
from omnirt_lab.records import AnyEvent, ExecutionMode, JobStarted

sys.path.append(str(Path(__file__).parents[1]))  # for the tests' tiny pipelines
from tests.pipelines import tiny

WEIGHTS = Path(omnirt_lab.__file__).parent / "tiny_shapes" / "weights"
PROMPT = "a red circle on a blue background"
ROUNDS = int(os.environ.get("ROUNDS", "20"))
CASES = (("1 step", 64, 1), ("20 steps", 64, 20), ("20 steps of a larger picture", 160, 20))
"""What, side of the picture in pixels, steps."""

APART: dict[ExecutionMode, str] = {"subprocess": "child", "ray": "actor"}
"""Modes whose jobs run in another process, and what that is."""

MAX_MORE_MS: dict[ExecutionMode, float] = {"subprocess": 25.0, "ray": 75.0}
MAX_MORE_SHARE = 0.1
"""What a warm child or actor may add to a job that runs here, whichever is more: two messages a job, one an event, and
the wake-ups between. The share allows for what two processes of one machine differ by."""


def timed_ms(action: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start_ns = time.perf_counter_ns()
    picture = action()
    return (time.perf_counter_ns() - start_ns) / 1e6, picture


class Case:
    """One request, made bare and in each mode."""

    def __init__(
        self,
        lab: Lab,
        pipeline: DiffusionPipeline,
        *,
        model: str,
        side_px: int,
        steps: int,
        prompt: str = PROMPT,
        **options: float,
    ) -> None:
        self._lab, self._pipeline, self._model = lab, pipeline, model
        self._options = {"height": side_px, "width": side_px, **options}
        self._steps, self._prompt = steps, prompt

    def bare(self, seed: int) -> np.ndarray:
        """Call the pipeline alone."""
        generator = torch.Generator().manual_seed(seed)
        output = self._pipeline(self._prompt, num_inference_steps=self._steps, generator=generator, **self._options)
        return np.asarray(output.images[0])

    def bare_blocks(self, seed: int) -> np.ndarray:
        """Call the pipeline's blocks alone."""
        options = {name: value for name, value in self._options.items() if name != "guidance_scale"}
        generator = torch.Generator().manual_seed(seed)
        images = self._blocks(
            prompt=self._prompt, num_inference_steps=self._steps, generator=generator, output="images", **options
        )
        return np.asarray(images[0])

    @cached_property
    def _blocks(self) -> ModularPipeline:
        pipeline = StableDiffusionXLAutoBlocks().init_pipeline()
        parts = {name: part for name, part in self._pipeline.components.items() if part is not None}
        guider = pipeline.guider.new(guidance_scale=self._options["guidance_scale"])
        pipeline.update_components(**parts, guider=guider)
        chosen = pipeline._blocks.get_execution_blocks(prompt=True)  # noqa: SLF001  # `blocks` is a copy
        next(find_loops(chosen)).set_progress_bar_config(disable=True)
        return pipeline

    def job(self, mode: ExecutionMode, seed: int) -> np.ndarray:
        """Run it as a job."""
        result = self._lab.generate(
            self._prompt, model=self._model, steps=self._steps, seed=seed, progress=False, execution_mode=mode,
            **self._options,
        )  # fmt: skip
        return np.asarray(result.images[0])

    def measure(self, modes: list[ExecutionMode]) -> dict[str, list[float]]:
        """Milliseconds of each way, one a round; `bare` is one of the ways."""
        ways: dict[str, Callable[[int], np.ndarray]] = {"bare": self.bare}
        ways |= {"bare blocks": self.bare_blocks} if "modular" in modes else {}
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
            for name, picture in pictures.items():
                by_blocks = name in ("bare blocks", "modular")  # they call the denoiser twice, which moves a level
                most = np.abs(pictures["bare"].astype(int) - picture.astype(int)).max()
                assert most <= by_blocks, f"{name} made another picture"
        return took


def available(lab: Lab, **options: object) -> tuple[list[ExecutionMode], dict[str, str]]:
    """The modes that run a model, and why the others do not."""
    modes: list[ExecutionMode] = []
    reasons = {}
    for mode in get_args(ExecutionMode):
        try:
            lab.generate(PROMPT, steps=1, seed=0, progress=False, execution_mode=mode, **options)
            modes.append(mode)
        except LabError as error:
            reasons[mode] = str(error)
    return modes, reasons


def rows_of(what: str, took: dict[str, list[float]], modes: list[ExecutionMode]) -> list[dict[str, object]]:
    """A row for each mode, beside the bare call of the same kind."""
    rows: list[dict[str, object]] = []
    for mode in modes:
        bare = took["bare blocks" if mode == "modular" else "bare"]
        pairs = list(zip(bare, took[mode], strict=True))
        rows.append(
            {
                "what": what,
                "mode": mode,
                "bare_ms": statistics.median(bare),
                "mode_ms": statistics.median(took[mode]),
                "ratio": statistics.median(mode_ms / bare_ms for bare_ms, mode_ms in pairs),
                "more_ms": statistics.median(mode_ms - bare_ms for bare_ms, mode_ms in pairs),
            }
        )
    return rows


def tiny_sdxl(lab: Lab, folder: Path) -> list[dict[str, object]]:
    """The rows of a tiny SDXL, which every mode can run."""
    tiny.build("sdxl").save_pretrained(folder)
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    shape = {"model": str(folder), "guidance_scale": 5.0}
    modes, _ = available(lab, width=64, height=64, **shape)
    took = Case(lab, pipeline, side_px=64, steps=5, prompt="a red circle", **shape).measure(modes)
    return rows_of("tiny SDXL, 5 steps", took, modes)


def latencies(lab: Lab, mode: ExecutionMode) -> dict[str, float]:
    """Milliseconds: a cold job, and of warm ones how long it takes until the other process has begun."""
    lab.cache.clear()
    cold_ms, _ = timed_ms(lambda: np.asarray(_draw(lab, mode)))
    until_started: list[float] = []
    for _ in range(ROUNDS):
        asked_ns = time.perf_counter_ns()

        def note(event: AnyEvent, asked_ns: int = asked_ns) -> None:
            if isinstance(event, JobStarted):
                until_started.append((time.perf_counter_ns() - asked_ns) / 1e6)

        _draw(lab, mode, on_event=note)
    what = APART[mode]
    return {
        f"first job in a new {what}": cold_ms,
        f"warm: until the {what} has begun": statistics.median(until_started),
    }


def _draw(lab: Lab, mode: ExecutionMode, **options: Callable[[AnyEvent], None]) -> object:
    return lab.generate(PROMPT, steps=1, seed=0, progress=False, execution_mode=mode, **options).images[0]


def main() -> None:
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    rows: list[dict[str, object]] = []
    verdicts = {}
    with tempfile.TemporaryDirectory() as directory, Lab(Path(directory)) as lab:
        lab.configure(ray="local", ray_actors=1)
        modes, reasons = available(lab)
        apart = [mode for mode in modes if mode in APART]
        for what, side_px, steps in CASES:
            took = Case(lab, pipeline, model="tiny-shapes", side_px=side_px, steps=steps).measure(modes)
            rows += rows_of(what, took, modes)
            for mode in apart:
                here = took["legacy_call"]
                more_ms = statistics.median(b - a for a, b in zip(here, took[mode], strict=True))
                limit_ms = max(MAX_MORE_MS[mode], MAX_MORE_SHARE * statistics.median(here))
                claim = (
                    f"{what}: a warm {APART[mode]} takes at most {limit_ms:.0f} ms more than a job here ({more_ms:.1f})"
                )
                verdicts[claim] = more_ms <= limit_ms
        for mode in apart:
            for what, ms in latencies(lab, mode).items():
                rows.append(
                    {"what": what, "mode": mode, "bare_ms": None, "mode_ms": ms, "ratio": None, "more_ms": None}
                )
        rows += tiny_sdxl(lab, Path(directory) / "sdxl")
    for mode, reason in reasons.items():
        print(f"{mode} is left out: {reason}")
    emit_report("execution_modes", rows, verdicts)


if __name__ == "__main__":
    main()

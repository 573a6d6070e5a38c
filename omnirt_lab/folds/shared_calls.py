"""What jobs that shared a pipeline call have in common, told apart from what each did alone.

Each of them has the stages and steps of the call in its own events, by its own clock. Two clocks differ by a constant,
so what was one stage took the same nanoseconds for all of them.
"""

from __future__ import annotations

from typing import TypeAlias

from omnirt_lab.records import StageTiming, StepTiming

SharedTime: TypeAlias = tuple[str, int]
"""A stage, or a step, and the nanoseconds that it took by the wall clock; -1 while it is open."""


def time_of(timing: StageTiming | StepTiming) -> SharedTime:
    """By what a stage or a step is known again in another job of its call."""
    name = timing.name if isinstance(timing, StageTiming) else f"step {timing.index}"
    return name, -1 if timing.end_t_ns is None else timing.end_t_ns - timing.start_t_ns

"""torch's profiler, with its times on the clock of the lab's events.

Reads the profiler's raw events: its own list of them takes seconds to build for the operators of a few steps.
Operators and their kernels are matched as torch's `_parse_kineto_results` does it: by correlation id.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from torch._C._autograd import DeviceType, _profiler_enabled
from torch.profiler import profile, record_function

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.folds.operators import OperatorCall
from omnirt_lab.records import WarningData

_MARK: Final = "omnirt_lab: clock"
_SILENT: Final = "6"
"""Above every level of libkineto's messages."""

_MARKS: Final = 3
"""The first one is slow, as it starts what the others find started; the shortest one tells the clock best."""

_NOT_OPERATORS: Final = ("profiler::", "[memory]", "[OutOfMemory]")

PROFILED: Final = WarningData(
    code="profiled",
    message="torch's profiler watched this run and slowed it: its times are not to be compared with other runs'",
    hint="Run it again without the profiler for times; the profile tells shares.",
)


def is_profiled() -> bool:
    """Whether torch's profiler watches this thread, whoever has started it."""
    return bool(_profiler_enabled())


class Profiler:
    """One session of torch's profiler over the operators of this thread and, where there is one, of the GPU.

    Raises
    ------
    InvalidRequestError
        If another session watches this thread.
    """

    def __init__(self) -> None:
        if is_profiled():
            raise InvalidRequestError(
                "torch's profiler is running already", hint="End that session first: there can be one at a time."
            )
        if not torch.cuda.is_available():  # libkineto would write to the cell's output at each beginning and end;
            os.environ.setdefault("KINETO_LOG_LEVEL", _SILENT)  # with a GPU it may have an error to tell
        self._session = profile()  # of all activities that there are
        self._marks_ns: list[int] = []
        self._session.start()
        for _ in range(_MARKS):
            with record_function(_MARK):
                self._marks_ns.append(time.monotonic_ns())

    def stop(self) -> tuple[OperatorCall, ...]:
        """End the session; what it saw, in no order."""
        self._session.stop()
        assert self._session.profiler is not None
        seen = self._session.profiler.kineto_results
        assert seen is not None
        events = [event for event in seen.events() if _is_work(event)]
        marks = [event for event in events if event.name() == _MARK and event.device_type() == DeviceType.CPU]
        marks.sort(key=lambda event: event.start_ns())
        return _calls_of(
            [event for event in events if event.name() != _MARK],
            later_ns=_clock_difference_ns(marks, self._marks_ns),
            has_device=any(event.device_type() != DeviceType.CPU for event in events),
        )


def _is_work(event: Any) -> bool:
    return not event.is_hidden_event() and not event.name().startswith(_NOT_OPERATORS) and not event.is_async()


def _clock_difference_ns(marks: Iterable[Any], marks_ns: Iterable[int]) -> int:
    """What must be added to the profiler's times to have the monotonic clock's."""
    shortest, at_ns = min(zip(marks, marks_ns, strict=True), key=lambda pair: pair[0].duration_ns())
    return int(at_ns - shortest.start_ns() - shortest.duration_ns() // 2)


def _calls_of(events: Sequence[Any], *, later_ns: int, has_device: bool) -> tuple[OperatorCall, ...]:
    on_host = [event for event in events if event.device_type() == DeviceType.CPU]
    kernels = [event for event in events if event.device_type() != DeviceType.CPU and not event.is_user_annotation()]
    kernels_ns: defaultdict[int, int] = defaultdict(int)
    for kernel in kernels:
        kernels_ns[kernel.linked_correlation_id()] += kernel.duration_ns()
    return (
        *(
            OperatorCall(
                name=event.name(),
                lane=f"thread {event.start_thread_id()}",
                start_ns=event.start_ns() + later_ns,
                end_ns=event.end_ns() + later_ns,
                device_ns=kernels_ns[event.correlation_id()] if has_device else None,
            )
            for event in on_host
        ),
        *(
            OperatorCall(
                name=kernel.name(),
                lane=_stream_of(kernel),
                start_ns=kernel.start_ns() + later_ns,
                end_ns=kernel.end_ns() + later_ns,
                is_kernel=True,
            )
            for kernel in kernels
        ),
    )


def _stream_of(kernel: Any) -> str:
    return f"{kernel.device_type().name.lower()}:{kernel.device_index()}, stream {kernel.device_resource_id()}"

"""What the probe writes to, and what may stand between a pipeline and its components."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from omnirt_lab.records import EventData


class Sink(Protocol):
    """Takes a job's events; the journal's job writer is one.

    `emit` never raises, and may be called from two threads at once: the pipeline's, and the one that samples memory.
    A gap between two components is reported when it is over, so `t_ns` of successive events may step back a little.
    """

    def emit(self, data: EventData, *, stage: str | None = None, t_ns: int | None = None) -> None:
        """Append one event; `t_ns` is when the fact happened, None for now."""

    def together(self) -> AbstractContextManager[None]:
        """Take the events that this thread emits in the block as one lot, which costs less than one by one."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds since the job was enqueued."""


class CallInterceptor(Protocol):
    """Stands between a pipeline and a component's call, as a cache of text embeddings does.

    The name of a call is the component's, with the method behind it where it is not its own call: `text_encoder`,
    `vae_encode`.
    """

    def wants(self, name: str, module: torch.nn.Module) -> bool:
        """Whether calls of this name go through the interceptor."""

    def __call__(
        self,
        name: str,
        module: torch.nn.Module,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        sink: Sink,
    ) -> Any:
        """Answer the call: with `call(*args, **kwargs)`, or with what that would have returned."""

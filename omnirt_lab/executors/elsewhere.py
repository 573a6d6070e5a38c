"""A run in another process than its journal's: `RemoteWriter` and `execute` there, `Relay` here.

Neither knows what carries the messages between them: a child process has pipes, an actor of a cluster its own stream.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omnirt_lab.errors import OutOfMemoryError
from omnirt_lab.executors.failures import ElsewhereError, error_info, error_of, is_out_of_memory
from omnirt_lab.executors.messages import Events, File, Finished, FromWorker, Preview, Raised, Run
from omnirt_lab.journal import ArtifactStore
from omnirt_lab.journal.artifacts import describe, missing
from omnirt_lab.journal.clock import boot_id, wall_ms
from omnirt_lab.records import AnyEvent, Artifact, EventData, JobFinishedData, ProbeCost, make_event

if TYPE_CHECKING:
    from omnirt_lab.executors import Execution
    from omnirt_lab.executors.run_writer import Files
    from omnirt_lab.journal import JobWriter


class CarriedFiles:
    """The files of a run on a machine that does not reach the store: they come with it, and go where the journal is."""

    def __init__(self, given: Mapping[str, bytes], send: Callable[[FromWorker], None]) -> None:
        self._given = given
        self._send = send

    def put_bytes(
        self,
        content: bytes,
        media_type: str,
        *,
        width_px: int | None = None,
        height_px: int | None = None,
        index: int = 0,
        seed: int | None = None,
    ) -> Artifact:
        """Send the bytes, and describe them."""
        self._send(File(content=content, media_type=media_type))
        return describe(content, media_type, width_px=width_px, height_px=height_px, index=index, seed=seed)

    def read(self, sha256: str) -> bytes:
        """What came with the run.

        Raises
        ------
        ArtifactNotFoundError
            If that did not.
        """
        if sha256 not in self._given:
            raise missing(sha256)
        return self._given[sha256]


class OpenBlock(threading.local):
    """The events of the outermost `together` block that the thread is in; None outside of one."""

    events: list[AnyEvent] | None = None


class RemoteWriter:
    """Sends a run's facts to the process that has the journal; thread-safe if `send` is.

    Times are this process's own, from the job's zero: on one boot of one machine the monotonic clock is everyone's.
    Another machine's goes on from when the run was sent, so that its times are early by as long as that took to
    arrive, and never out of order with those of the machine that has the journal.

    Parameters
    ----------
    worker_id
        Of this process.
    """

    def __init__(
        self,
        run: Run,
        send: Callable[[FromWorker], None],
        *,
        worker_id: str,
        is_cancelled: Callable[[], bool],
        wants_preview: Callable[[], bool],
    ) -> None:
        self.job = run.job
        self.worker_id = worker_id
        self.attempt = run.attempt
        self.artifacts: Files = (
            CarriedFiles(run.files, send) if run.state_dir is None else ArtifactStore(Path(run.state_dir))
        )
        self._send = send
        self._is_cancelled = is_cancelled
        self._wants_preview = wants_preview
        self._block = OpenBlock()
        is_here = run.job.boot_id == boot_id()
        self._zero_ns = run.job.monotonic_ns if is_here else time.monotonic_ns() - run.sent_t_ns

    def now_ns(self) -> int:
        """Nanoseconds since the job was enqueued."""
        return max(0, time.monotonic_ns() - self._zero_ns)

    def emit(self, data: EventData, *, stage: str | None = None, t_ns: int | None = None) -> None:
        """Send one event, or keep it for the end of the thread's block."""
        event = make_event(
            data, seq=1, t_ns=self.now_ns() if t_ns is None else t_ns, timestamp_ms=wall_ms(), stage=stage
        )
        if self._block.events is None:
            self._send(Events(events=(event,)))
        else:
            self._block.events.append(event)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send what this thread emits in the block as one message at its end, also when the block raises."""
        if self._block.events is not None:
            yield
            return
        self._block.events = []
        try:
            yield
        finally:
            events, self._block.events = self._block.events, None
            if events:
                self._send(Events(events=tuple(events)))

    def is_cancel_requested(self) -> bool:
        """Whether the run is to stop at its next boundary."""
        return self._is_cancelled()

    def wants_preview(self) -> bool:
        """Whether somebody looks."""
        return self._wants_preview()

    def show_preview(self, content: bytes, *, media_type: str, step: int) -> None:
        """Send the picture as it was predicted after `step` steps."""
        self._send(Preview(content=content, media_type=media_type, step=step))


def execute(writer: RemoteWriter, *, node: str | None = None) -> Finished | Raised:
    """Run the writer's job in this process, on this node of a cluster if of any, to its end; say what that was."""
    from omnirt_lab.executors.legacy_call import EXECUTOR  # loads torch

    execution: Execution | None = None
    try:
        execution = EXECUTOR.begin(writer.job.request, writer, attempt=writer.attempt, node=node)
        return Finished(data=execution.run())
    except Exception as error:  # noqa: BLE001  # whatever a pipeline raises ends its job in the other process
        return Raised(
            error=error_info(error, stage=None),
            cost=ProbeCost() if execution is None else execution.cost,
            is_spent=is_out_of_memory(error),
        )


class Relay:
    """Writes what a worker says of a run into the journal, and knows how the run ended."""

    def __init__(self, writer: JobWriter) -> None:
        self._writer = writer
        self.cost = ProbeCost()
        """What measuring cost a run that did not succeed."""
        self.is_spent = False
        """The worker had no memory left."""

    def take(self, message: FromWorker) -> JobFinishedData | None:
        """Follow one message; the answer is what the run ended in, None while it goes on.

        Raises
        ------
        LabError
            The one that the run raised, a JobCancelledError among them.
        OutOfMemoryError
            If the worker had no memory left.
        ElsewhereError
            For whatever else the run raised.
        """
        match message:
            case Events(events=events):
                self._append(events)
            case File():
                self._writer.artifacts.put_bytes(message.content, message.media_type)
            case Preview():
                self._writer.show_preview(message.content, media_type=message.media_type, step=message.step)
            case Finished():
                return message.data
            case Raised():
                self.cost, self.is_spent = message.cost, message.is_spent
                raise _error_of(message)
        return None

    def _append(self, events: tuple[AnyEvent, ...]) -> None:
        if len(events) == 1:
            self._emit(events[0])
            return
        with self._writer.together():
            for event in events:
                self._emit(event)

    def _emit(self, event: AnyEvent) -> None:
        self._writer.emit(event.data, stage=event.stage, t_ns=event.t_ns)


def _error_of(raised: Raised) -> Exception:
    error = error_of(raised.error)
    if not (raised.is_spent and isinstance(error, ElsewhereError)):
        return error
    spent = OutOfMemoryError(
        f"the process that ran it had not enough memory: {error}",
        hint=f"{raised.error.hint} The process has ended and its memory is free; the next run starts a new one.",
    )
    spent.__cause__ = error.__cause__
    return spent

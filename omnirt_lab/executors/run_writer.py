"""What an execution writes to: the journal's own writer, or one that sends its facts to whoever has the journal."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from omnirt_lab.journal import JobRecord
from omnirt_lab.records import Artifact, EventData


class Files(Protocol):
    """The journal's `ArtifactStore`, as far as a run needs it."""

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
        """Store the bytes, and describe them."""

    def read(self, sha256: str) -> bytes:
        """The stored bytes; an ArtifactNotFoundError if there are none."""


class RunWriter(Protocol):
    """The journal's `JobWriter`, as far as a run needs it; also a probe's `Sink` and `PreviewViewer`."""

    @property
    def job(self) -> JobRecord:
        """The job that is run."""

    @property
    def worker_id(self) -> str:
        """Who runs it, for the report."""

    @property
    def artifacts(self) -> Files:
        """Where the run's files go, and where its inputs are."""

    def emit(self, data: EventData, *, stage: str | None = None, t_ns: int | None = None) -> None:
        """Append one event; `t_ns` is when the fact happened, None for now."""

    def together(self) -> AbstractContextManager[None]:
        """Take the events that this thread emits in the block as one lot."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds since the job was enqueued."""

    def is_cancel_requested(self) -> bool:
        """Whether the run is to stop at its next boundary."""

    def wants_preview(self) -> bool:
        """Whether somebody looks."""

    def show_preview(self, content: bytes, *, media_type: str, step: int) -> None:
        """Take the picture as it was predicted after `step` steps."""

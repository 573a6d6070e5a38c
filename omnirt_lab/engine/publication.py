"""Pipelines of this process that the hosted API serves."""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from omnirt_lab.engine.gathering import gather
from omnirt_lab.engine.sharing import Part, shared
from omnirt_lab.errors import InvalidRequestError, LabError
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal import published_queue

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from omnirt_lab.engine.engine import Engine
    from omnirt_lab.journal import JobWriter

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

_WAIT_S: Final = 0.5
_SETTLE_S: Final = 0.005
"""Between two looks at the queue, so that a run beside it, whose every event wakes the thread, keeps its pace."""

_RETRY_S: Final = 1.0

_log: Final = logging.getLogger(__name__)


class Publication:
    """A thread that takes the jobs for one published pipeline, as a worker of its own, until it is closed."""

    def __init__(self, engine: Engine, pipeline: DiffusionPipeline, name: str) -> None:
        from omnirt_lab.executors.published import guarded  # loads torch

        self.name = name
        self._engine = engine
        self._pipeline = pipeline
        self._queue = published_queue(name)
        self._stopping = threading.Event()
        self._cursor = engine.journal.cursor()
        self._open = ExitStack()
        self._open.enter_context(guarded(pipeline))
        with ExitStack() as undo:
            undo.callback(self._open.close)
            self._worker = engine.journal.worker("published", model=name)
            undo.pop_all()
        self._thread = threading.Thread(target=self._work, name=f"omnirt-published-{name}", daemon=True)
        self._thread.start()

    def unguard(self) -> None:
        """Let go of the pipeline's own calls."""
        self._open.close()

    def close(self) -> None:
        """Finish the job at hand and take no more; what still waits is lost, unless another worker has the name."""
        self._stopping.set()
        self._cursor.wake()
        self._thread.join()
        self._worker.close()
        self.unguard()

    def _work(self) -> None:
        journal = self._engine.journal
        with self._cursor as cursor:
            while not self._stopping.is_set():
                try:
                    cursor.after_id = journal.last_event_id()  # before the look at the queue: no job falls between
                    writers = self._claim()
                    for writer, execution in self._executions(writers):
                        self._engine.work(writer, execution)
                    if not writers and cursor.wait(_WAIT_S):
                        self._stopping.wait(_SETTLE_S)
                except LabError as error:
                    _log.warning("no job for %s can be taken now: %s", self.name, error)
                    self._stopping.wait(_RETRY_S)
        journal.close_thread()

    def _claim(self) -> list[JobWriter]:
        """Take the job whose turn it is, and those that may share its call; empty where none waits."""
        from omnirt_lab.executors.published import takes_company  # loads torch

        journal = self._engine.journal
        if not SETTINGS.current.is_batching:
            writer = journal.claim_next(self._worker, self._queue)
            return [] if writer is None else [writer]
        return gather(
            journal,
            self._worker,
            self._queue,
            arrived=threading.Event(),
            takes_company=functools.partial(takes_company, self._pipeline),
            is_closing=self._stopping.is_set,
        )

    def _executions(self, writers: Sequence[JobWriter]) -> Iterable[Part]:
        from omnirt_lab.executors.published import PublishedBatchedCall, published_call  # loads torch

        if len(writers) > 1:
            return shared(PublishedBatchedCall(self._pipeline, writers))
        return ((writer, published_call(self._pipeline, writer)) for writer in writers)


class Publications:
    """What this process has published, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Publication] = {}
        self._lock = threading.Lock()

    def publish(self, engine: Engine, pipeline: DiffusionPipeline, name: str) -> None:
        """Serve the pipeline under this name, instead of the one that this process served under it before.

        Raises
        ------
        InvalidRequestError
            If it is no diffusers pipeline, or the name is none that may be published.
        """
        require_name(name)
        with self._lock:
            before = self._by_name.get(name)
            if before is not None:
                before.unguard()  # it may be the same pipeline, which the new one guards
            self._by_name[name] = Publication(engine, pipeline, name)  # first, so that no waiting job is lost
        if before is not None:
            before.close()

    def unpublish(self, name: str) -> None:
        """Serve it no longer, once the job at hand has ended.

        Raises
        ------
        InvalidRequestError
            If this process has published nothing under this name.
        """
        with self._lock:
            publication = self._by_name.pop(name, None)
            known = ", ".join(self._by_name) or "nothing"
        if publication is None:
            raise InvalidRequestError(
                f"this process has published nothing as {name!r}", hint=f"It has published: {known}."
            )
        publication.close()

    def close(self) -> None:
        """Unpublish all."""
        with self._lock:
            publications = list(self._by_name.values())
            self._by_name.clear()
        for publication in publications:
            publication.close()


def require_name(name: str) -> None:
    """Refuse what may not be the name of a published pipeline.

    Raises
    ------
    InvalidRequestError
        Saying why.
    """
    from omnirt_lab.pipelines.catalog import BUILTIN_NAMES  # loads huggingface_hub

    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{name!r} cannot be the name of a published pipeline",
            hint="Use 1 to 64 letters, digits, dots, dashes and underscores.",
        )
    if name in BUILTIN_NAMES:
        raise InvalidRequestError(f"{name!r} is a built-in model", hint="Publish the pipeline under another name.")

"""What `/metrics` shows: the journal's events, counted on from where the last server was."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Final, NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.registry import Collector

from omnirt_lab.errors import JobNotFoundError, LabError
from omnirt_lab.folds import series
from omnirt_lab.folds.series import SeriesState
from omnirt_lab.journal import SERIES, Journal, JournalEntry, Snapshot
from omnirt_server import exposition, families
from omnirt_server.families import Blocks, Health, Levels
from omnirt_server.follower import Follower

KEEP_EVERY_S: Final = 10.0
"""How often the state is put away; a server that is killed reads on from there, and comes to the same."""

KINDS: Final = ("kernel", "runner")
"""Workers whose absence is worth a 0."""

_log: Final = logging.getLogger(__name__)


class Counted(NamedTuple):
    """The fold, and how far it has come; replaced as one."""

    after_id: int
    state: SeriesState


class Metrics(Collector):
    """A collector of the registry that also holds jupyter_server's own series.

    1. `start` takes up the snapshot, and a thread counts on from there. Until it has come to the journal's end no
       sum is shown: half of one would seem to fall, or to leap.
    2. Every few seconds, and at the end, the state is put away. Purging a run counts what the snapshot lacks of it.
    3. `page` reads what stands in the journal now, and has the registry written; `collect` only formats.
    """

    _registered: ClassVar[Metrics | None] = None

    def __init__(self, journal: Journal, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._journal = journal
        self._registry = registry
        self._undelivered_spans: Callable[[], int] | None = None
        self._levels: Levels | None = None
        self._blocks = Blocks()
        self._lock = threading.Lock()
        self._counted = _taken_up(journal)
        self._kept = self._counted
        self._follower = Follower(journal, self._on_entries, after_id=self._counted.after_id, name="series")
        self._task: asyncio.Task[None] | None = None

    def watch_export(self, undelivered_spans: Callable[[], int]) -> None:
        """Show how many spans the trace export could not deliver; the call is quick and never raises."""
        self._undelivered_spans = undelivered_spans

    def start(self) -> None:
        """Begin, in the running loop."""
        if Metrics._registered is not None:  # of a server of this process that was not stopped
            Metrics._registered.unregister()
        self._registry.register(self)
        Metrics._registered = self
        self._follower.start()
        self._task = asyncio.create_task(self._keep_on(), name="omnirt-metrics")

    async def stop(self) -> None:
        """End, with the state put away."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.to_thread(self._follower.stop)
        await asyncio.to_thread(self._keep)
        if Metrics._registered is self:
            self.unregister()

    def page(self, *, is_openmetrics: bool) -> bytes:
        """The whole registry as text; some milliseconds, so not for the loop."""
        self._levels = _read_levels(self._journal)
        write = exposition.openmetrics if is_openmetrics else exposition.text
        return write(self._registry)

    def unregister(self) -> None:
        """Take it out of the registry."""
        self._registry.unregister(self)
        Metrics._registered = None

    def describe(self) -> list[Metric]:
        """Nothing: names are not checked against each other, and nothing is collected when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family of the lab."""
        has_caught_up = self._follower.has_caught_up
        yield from families.counted(self._counted.state if has_caught_up else None, self._blocks)
        levels = self._levels
        yield from families.present(levels, Health(journal=levels is not None, series=self._follower.is_alive))
        yield families.exported(None if self._undelivered_spans is None else self._undelivered_spans())

    def _on_entries(self, entries: Sequence[JournalEntry]) -> None:
        """In the follower's thread."""
        with self._lock:
            state = series.apply(self._counted.state, [(entry.job_id, entry.event) for entry in entries])
            self._counted = Counted(entries[-1].id, state)

    async def _keep_on(self) -> None:
        while True:
            await asyncio.to_thread(self._keep)
            await asyncio.sleep(KEEP_EVERY_S)

    def _keep(self) -> None:
        """Put the state away if it has changed."""
        try:
            self._forget_purged()
            counted = self._counted
            if counted is not self._kept:
                content = series.encode(counted.state)
                self._journal.put_snapshot(Snapshot(name=SERIES, after_id=counted.after_id, state=content))
                self._kept = counted
        except LabError as error:  # the next time tries again; a later start reads more of the journal
            _log.warning("the metrics cannot be put away now: %s", error)

    def _forget_purged(self) -> None:
        """Drop the jobs that ended and were purged before the follower could read how."""
        gone = [job_id for job_id in self._counted.state.active if not _has_job(self._journal, job_id)]
        if gone:
            with self._lock:
                self._counted = Counted(self._counted.after_id, series.forget(self._counted.state, gone))


def _taken_up(journal: Journal) -> Counted:
    """Where the last server was; a new journal gets its first snapshot, so that a purge knows what is counted."""
    snapshot = journal.find_snapshot(SERIES)
    if snapshot is not None:
        state = series.decode(snapshot.state)
        if state is not None:
            return Counted(snapshot.after_id, state)
        _log.warning("the metrics of another version of the lab cannot be read on; they are counted anew")
    else:
        journal.put_snapshot(Snapshot(name=SERIES, after_id=0, state=series.encode(SeriesState())))
    return Counted(0, SeriesState())


def _read_levels(journal: Journal) -> Levels | None:
    """None where the journal cannot be read."""
    try:
        live = Counter(worker.kind for worker in journal.live_workers())
        return Levels(queue_depth=journal.queue_depth(), workers=dict.fromkeys(KINDS, 0) | live)
    except (LabError, OSError) as error:
        _log.warning("the queue and the workers cannot be read now: %s", error)
        return None


def _has_job(journal: Journal, job_id: str) -> bool:
    try:
        journal.get_job(job_id)
    except JobNotFoundError:
        return False
    return True

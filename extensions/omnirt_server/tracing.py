"""Sends the trace of each job that ends to a collector.

1. A thread follows the journal. The journal is its queue: while a collector is slow, the thread reads on later, and
   nothing grows and nobody waits.
2. Of the jobs that ended it claims each, so that of several servers with this collector one sends it; and sends the
   traces of what it has read together in one request, which is retried within OpenTelemetry's timeout.
3. What was not taken then is counted and not sent again. How far it has come is put away, and a later start goes on
   from there: jobs that ended while no server ran are sent too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from omnirt_lab.errors import JobNotFoundError, LabError, RunNotFoundError
from omnirt_lab.export.target import Target
from omnirt_lab.folds import trace as trace_fold
from omnirt_lab.journal import Journal, JournalEntry, Snapshot
from omnirt_lab.records import TERMINAL_EVENTS
from omnirt_server.follower import Follower

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from omnirt_lab.export.collector import Collector

_log: Final = logging.getLogger(__name__)


class Tracing:
    """The export of one server."""

    def __init__(self, journal: Journal, target: Target | None, *, has_texts: bool = False) -> None:
        self.delivered_spans = 0
        """Since this server began."""
        self.undelivered_spans = 0
        """What the collector did not take from this server, and from those before it."""
        self.last_error: str | None = None
        """Why spans were not taken the last time that some were not."""

        self._journal = journal
        self._target = target
        self._has_texts = has_texts
        self._collector: Collector | None = None
        self._is_stopping = False
        self._uncounted = 0
        """Undelivered spans that the journal does not know of yet."""
        self._ended: list[str] = []
        """Jobs that ended and are not yet sent."""
        self._follower: Follower | None = None

    @property
    def is_configured(self) -> bool:
        """Whether there is a collector to send to."""
        return self._target is not None

    def start(self) -> None:
        """Begin, if there is a collector to send to."""
        if self._target is not None:
            after_id = self._taken_up(self._target)
            self.undelivered_spans = self._journal.undelivered_spans(self._target.name)
            self._follower = Follower(self._journal, self._on_entries, after_id=after_id, name="tracing")
            self._follower.start()

    async def stop(self) -> None:
        """End after the request at hand, which has at most OpenTelemetry's timeout; what is next stays for later."""
        self._is_stopping = True
        if self._collector is not None:
            self._collector.stop()
        if self._follower is not None:
            await asyncio.to_thread(self._follower.stop)

    def _taken_up(self, target: Target) -> int:
        """Where the last server was; for a new collector, the journal's end: what was before is not sent."""
        snapshot = self._journal.find_snapshot(_snapshot_name(target))
        if snapshot is not None:
            return snapshot.after_id
        after_id = self._journal.last_event_id()
        self._journal.put_snapshot(Snapshot(name=_snapshot_name(target), after_id=after_id, state=b""))
        return after_id

    def _on_entries(self, entries: Sequence[JournalEntry]) -> None:
        """In the follower's thread."""
        self._ended += [entry.job_id for entry in entries if isinstance(entry.event, TERMINAL_EVENTS)]
        if not self._ended or self._is_stopping or self._target is None:
            return
        try:
            self._send(self._target)
            self._count_undelivered(self._target)
            snapshot = Snapshot(name=_snapshot_name(self._target), after_id=entries[-1].id, state=b"")
            self._journal.put_snapshot(snapshot)
        except LabError as error:  # the journal is locked or full: the rest goes with the next events, or a later start
            self.last_error = str(error)
            _log.warning("traces cannot be sent now: %s", error)

    def _send(self, target: Target) -> None:
        spans: list[ReadableSpan] = []
        try:
            while self._ended:
                spans += self._claimed_spans(self._ended[0], target)
                del self._ended[0]
        finally:
            if spans:
                self._deliver(spans, target)

    def _claimed_spans(self, job_id: str, target: Target) -> Sequence[ReadableSpan]:
        """The spans of a job that nobody else sends; none if it was purged meanwhile."""
        from omnirt_lab.export import otlp  # OpenTelemetry is heavy, and servers without a collector do without

        try:
            report = self._journal.get_report(self._journal.get_job(job_id).run_id)
            if not self._journal.claim_export(job_id, target.name):
                return ()
        except (JobNotFoundError, RunNotFoundError):
            return ()
        return otlp.to_spans(trace_fold.of_report(report, job_id=job_id, has_texts=self._has_texts))

    def _deliver(self, spans: Sequence[ReadableSpan], target: Target) -> None:
        if self._collector is None:
            from omnirt_lab.export.collector import Collector  # as above

            self._collector = Collector(target)
        delivery = self._collector.send(spans)
        self.delivered_spans += delivery.delivered
        self.undelivered_spans += delivery.undelivered
        self._uncounted += delivery.undelivered
        if delivery.undelivered:
            self.last_error = delivery.reason
            _log.warning(
                "%d of %d spans were not taken by %s: %s",
                delivery.undelivered,
                len(spans),
                target.name,
                delivery.reason,
            )
        elif delivery.reason:
            _log.info("%s remarked: %s", target.name, delivery.reason)

    def _count_undelivered(self, target: Target) -> None:
        if self._uncounted:
            self._journal.count_undelivered_spans(target.name, self._uncounted)
            self._uncounted = 0


def _snapshot_name(target: Target) -> str:
    return f"otlp {target.name}"

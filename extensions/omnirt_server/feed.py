"""The newest events, ready to send, and a wake-up for whoever follows a job.

A subscriber is a place in a job's events (`seq`), never a queue. What it reads next comes from the few events that are
kept in memory for all subscribers together, or, for one that has fallen behind, from the journal. So a client that
stalls costs nobody anything.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from omnirt_lab.journal import Journal, JournalEntry
from omnirt_lab.records import TERMINAL_EVENTS
from omnirt_server.follower import Follower

MAX_JOBS: Final = 64
"""Jobs whose newest events are kept in memory."""

MAX_FRAMES: Final = 512
"""Newest events that are kept of each."""

BATCH: Final = 128
"""Events that a subscriber gets at once: what waits in the socket's buffer of one that does not read."""


class Frame(NamedTuple):
    """One event of a job, encoded once for all who get it."""

    id: int
    """The journal's id of the event; an SSE stream resumes by it."""

    seq: int

    event: str

    is_terminal: bool

    json: bytes
    """The event on the wire."""

    @property
    def sse(self) -> bytes:
        """The event as a server-sent event."""
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self.id, self.event.encode(), self.json)


def frame_of(entry: JournalEntry) -> Frame:
    """Encode an event."""
    event = entry.event
    return Frame(
        id=entry.id,
        seq=event.seq,
        event=event.event,
        is_terminal=isinstance(event, TERMINAL_EVENTS),
        json=msgspec.json.encode(event),
    )


class Feed:
    """Follows the journal, and gives each subscriber a job's events in order, each exactly once."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._recent: OrderedDict[str, list[Frame]] = OrderedDict()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_queued: list[Callable[[], None]] = []
        """Called in the loop when a job has been queued."""
        self._follower = Follower(journal, self._on_entries, after_id=journal.last_event_id(), name="feed")

    @property
    def is_alive(self) -> bool:
        """Whether new events are being noticed."""
        return self._follower.is_alive

    def start(self) -> None:
        """Begin, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._follower.start()

    async def stop(self) -> None:
        """Stop following."""
        await asyncio.to_thread(self._follower.stop)

    async def follow(self, job_id: str, *, after_seq: int = 0, idle_s: float = 15.0) -> AsyncIterator[Sequence[Frame]]:
        """The job's events behind `after_seq`, up to the terminal one; an empty batch after `idle_s` without any.

        Raises
        ------
        JobNotFoundError
            If there is no such job.
        """
        news = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(news)
        try:
            while True:
                news.clear()
                frames = self._kept_after(job_id, after_seq)
                if frames is None:
                    frames = await self._read(job_id, after_seq)
                if frames:
                    yield frames
                    after_seq = frames[-1].seq
                    if frames[-1].is_terminal:
                        return
                elif await self._is_over(job_id, after_seq):
                    return
                elif not await _is_set(news, idle_s):
                    yield ()
        finally:
            self._forget(job_id, news)

    async def wait_for_end(self, job_id: str) -> None:
        """Return when the job has reached its terminal event."""
        async for _ in self.follow(job_id):
            pass

    def _forget(self, job_id: str, news: asyncio.Event) -> None:
        waiting = self._waiting[job_id]
        waiting.discard(news)
        if not waiting:
            del self._waiting[job_id]

    def _kept_after(self, job_id: str, after_seq: int) -> Sequence[Frame] | None:
        """What memory has behind `after_seq`; None where it cannot tell."""
        kept = self._recent.get(job_id)
        if not kept or kept[0].seq > after_seq + 1:
            return None
        begin = after_seq + 1 - kept[0].seq
        return kept[begin : begin + BATCH]

    async def _read(self, job_id: str, after_seq: int) -> Sequence[Frame]:
        return await asyncio.to_thread(_frames_after, self._journal, job_id, after_seq)

    async def _is_over(self, job_id: str, after_seq: int) -> bool:
        """The job has ended, and there is nothing behind `after_seq`."""
        kept = self._recent.get(job_id)
        if kept and kept[-1].seq <= after_seq:
            return kept[-1].is_terminal
        job = await asyncio.to_thread(self._journal.get_job, job_id)
        return job.is_ended and not await self._read(job_id, after_seq)

    def _on_entries(self, entries: Sequence[JournalEntry]) -> None:
        """In the follower's thread: encode, and hand over to the loop."""
        assert self._loop is not None
        frames: dict[str, list[Frame]] = {}
        for entry in entries:
            frames.setdefault(entry.job_id, []).append(frame_of(entry))
        self._loop.call_soon_threadsafe(self._take, frames)

    def _take(self, frames: dict[str, list[Frame]]) -> None:
        for job_id, new in frames.items():
            kept = self._recent.setdefault(job_id, [])
            kept.extend(new)
            del kept[:-MAX_FRAMES]
            self._recent.move_to_end(job_id)
            for news in self._waiting.get(job_id, ()):
                news.set()
        if any(new[0].seq == 1 for new in frames.values()):
            for wake in self.on_queued:
                wake()
        while len(self._recent) > MAX_JOBS:
            self._recent.popitem(last=False)


def _frames_after(journal: Journal, job_id: str, after_seq: int) -> Sequence[Frame]:
    return [frame_of(entry) for entry in journal.entries(job_id, after_seq=after_seq, limit=BATCH)]


async def _is_set(news: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await news.wait()
    except TimeoutError:
        return False
    return True

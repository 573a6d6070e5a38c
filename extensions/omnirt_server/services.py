"""What all handlers of one server share, and the order in which it starts and stops."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol

from omnirt_lab.journal import Journal
from omnirt_server.feed import Feed
from omnirt_server.limits import Limits
from omnirt_server.metrics import Metrics
from omnirt_server.runner import Runner
from omnirt_server.tracing import Tracing


class Part(Protocol):
    """Something that works in the background while the server runs."""

    def start(self) -> None:
        """Begin, in the running loop."""

    def stop(self) -> Awaitable[None]:
        """End, and leave nothing behind."""
        ...


@dataclass
class Services:
    """One server's journal, and what reads and writes it."""

    journal: Journal
    limits: Limits
    feed: Feed
    metrics: Metrics
    tracing: Tracing
    runner: Runner
    parts: list[Part] = field(default_factory=list)
    """Started in order, stopped in reverse."""

    def start(self) -> None:
        """Start every part."""
        for part in self.parts:
            part.start()

    async def stop(self) -> None:
        """Stop every part and close the journal."""
        for part in reversed(self.parts):
            await part.stop()
        self.journal.close()

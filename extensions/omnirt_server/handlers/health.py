"""Whether the server lives, and whether it can do its work."""

from __future__ import annotations

import asyncio

from jupyter_server.auth.decorator import allow_unauthenticated

from omnirt_lab.errors import LabError
from omnirt_lab.journal import Journal
from omnirt_lab.records.api import Health
from omnirt_server.handlers.base import LabHandler


class HealthHandler(LabHandler):
    """Liveness: the loop answers."""

    @allow_unauthenticated
    async def get(self) -> None:
        """Return `ok`."""
        self.reply(Health(status="ok"))


class ReadyHandler(LabHandler):
    """Readiness: the journal can be read, new events are noticed, and jobs can be run."""

    @allow_unauthenticated
    async def get(self) -> None:
        """Return each check; 503 unless all are `ok`."""
        checks = {
            "journal": await asyncio.to_thread(_journal_state, self.services.journal),
            "feed": "ok" if self.services.feed.is_alive else "the journal is no longer followed",
            "runner": self.services.runner.state,
        }
        is_ready = all(state == "ok" for state in checks.values())
        self.reply(Health(status="ok" if is_ready else "unavailable", checks=checks), status=200 if is_ready else 503)


def _journal_state(journal: Journal) -> str:
    try:
        journal.queue_depth()
    except LabError as error:
        return error.code
    return "ok"

"""Ends the jobs of workers that have died."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from omnirt_lab.errors import LabError
from omnirt_lab.journal import Journal

INTERVAL_S: Final = 0.5

_log: Final = logging.getLogger(__name__)


class Reaper:
    """Looks twice a second whether every running job's worker still lives."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="omnirt-reaper")

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                lost = await asyncio.to_thread(self._journal.reap_lost)
                if lost:
                    _log.warning("jobs lost with their worker: %s", ", ".join(lost))
            except (LabError, OSError) as error:
                _log.warning("lost jobs cannot be ended now: %s", error)
            await asyncio.sleep(INTERVAL_S)

"""A job's events as server-sent events."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from jupyter_server.auth.decorator import authorized
from tornado import web
from tornado.iostream import StreamClosedError

from omnirt_lab.errors import InvalidRequestError
from omnirt_server.handlers.base import LabHandler
from omnirt_server.queries import EventsQuery

MEDIA_TYPE: Final = "text/event-stream"
KEEP_ALIVE: Final = b": keep-alive\n\n"
KEEP_ALIVE_S: Final = 15.0


class EventsHandler(LabHandler):
    """`GET /v1/jobs/{id}/events`."""

    _sending: asyncio.Task[Any] | None = None

    @web.authenticated
    @authorized
    async def get(self, job_id: str) -> None:
        """Send the job's events as they come, from `Last-Event-ID` on; ends after the terminal one."""
        after_seq = await asyncio.to_thread(self.services.journal.seq_at, job_id, self._last_event_id())
        self.media_type = MEDIA_TYPE
        self.set_header("Content-Type", MEDIA_TYPE)
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Accel-Buffering", "no")
        self._sending = asyncio.current_task()
        try:
            await self.flush()
            async for frames in self.services.feed.follow(job_id, after_seq=after_seq, idle_s=KEEP_ALIVE_S):
                self.write(b"".join(frame.sse for frame in frames) or KEEP_ALIVE)
                await self.flush()
        except (StreamClosedError, asyncio.CancelledError):  # the client has gone
            return
        finally:
            self._sending = None

    def on_connection_close(self) -> None:
        """Stop sending to a client that has gone."""
        if self._sending is not None:
            self._sending.cancel()

    def _last_event_id(self) -> int:
        asked = self.query(EventsQuery).last_event_id
        text = self.request.headers.get("Last-Event-ID")
        if text is None:
            return asked or 0
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise InvalidRequestError(
                f"the Last-Event-ID {text[:40]!r} is no event's id",
                hint="Send the `id` of the last event you got.",
            )
        return int(text)

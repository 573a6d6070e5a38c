"""A job's events over a WebSocket, which can also cancel it."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from omnirt_lab.errors import JobNotFoundError, LabError
from omnirt_lab.records.api import CancelAcknowledged, CancelAction, StreamError
from omnirt_server.failures import InvalidMessageError, body_of
from omnirt_server.handlers.sockets import LabSocket

_decoder: Final = msgspec.json.Decoder(CancelAction)

NO_SUCH_JOB: Final = 4404
"""Close code for a job that the journal does not have."""


class StreamHandler(LabSocket):
    """`WS /v1/jobs/{id}/stream`: each message is one event as SSE has it in `data`; closes after the terminal one."""

    _job_id: str = ""

    async def opened(self, *args: str) -> None:
        """Start sending."""
        (self._job_id,) = args
        self._answering = asyncio.Lock()
        self.start(self._send_events())

    async def received(self, message: str | bytes) -> None:
        """Cancel the job, or say what was not understood."""
        async with self._answering:
            try:
                await self.send(await self._cancel(message))
            except LabError as error:
                await self.send(StreamError(error=body_of(error).error))

    async def _send_events(self) -> None:
        try:
            async for frames in self.services.feed.follow(self._job_id):
                for frame in frames:
                    await self.write_message(frame.json.decode())
        except JobNotFoundError as error:
            await self.send(StreamError(error=body_of(error).error))
            self.close(NO_SUCH_JOB, error.code)
            return
        async with self._answering:  # a cancel that ended the job is acknowledged all the same
            self.close(1000)

    async def _cancel(self, message: str | bytes) -> CancelAcknowledged:
        try:
            _decoder.decode(message)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            hint = 'The one message that this stream takes is {"action": "cancel"}.'
            raise InvalidMessageError.of(error, hint=hint) from error
        job = await asyncio.to_thread(self.services.journal.request_cancel, self._job_id)
        return CancelAcknowledged(job_id=job.job_id, state=job.state)

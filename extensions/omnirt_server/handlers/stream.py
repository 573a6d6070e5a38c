"""A job's events over a WebSocket, which can also cancel it."""

from __future__ import annotations

import asyncio

import msgspec

from omnirt_lab.errors import JobNotFoundError, LabError
from omnirt_lab.records.api import ApiError, CancelAcknowledged, CancelAction, StreamError
from omnirt_server.failures import body_of
from omnirt_server.handlers.sockets import LabSocket

_decoder = msgspec.json.Decoder(CancelAction)

NO_SUCH_JOB = 4404
"""Close code for a job that the journal does not have."""


class StreamHandler(LabSocket):
    """`WS /v1/jobs/{id}/stream`: each message is one event as SSE has it in `data`; closes after the terminal one."""

    _job_id: str = ""

    async def serve(self, *args: str) -> None:
        """Send the job's events."""
        (job_id,) = args
        self._job_id = job_id
        try:
            async for frames in self.services.feed.follow(job_id):
                for frame in frames:
                    await self.write_message(frame.json.decode())
        except JobNotFoundError as error:
            await self.send(StreamError(error=body_of(error).error))
            self.close(NO_SUCH_JOB, error.code)

    async def on_message(self, message: str | bytes) -> None:
        """Cancel the job, or say what was not understood."""
        try:
            _decoder.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            await self.send(StreamError(error=_not_understood(error)))
            return
        try:
            job = await asyncio.to_thread(self.services.journal.request_cancel, self._job_id)
        except LabError as error:
            await self.send(StreamError(error=body_of(error).error))
            return
        await self.send(CancelAcknowledged(job_id=job.job_id, state=job.state))


def _not_understood(error: Exception) -> ApiError:
    return ApiError(
        message=f"the message was not understood: {error}",
        type="invalid_request_error",
        code="invalid_message",
        hint='The one message that this stream takes is {"action": "cancel"}.',
    )

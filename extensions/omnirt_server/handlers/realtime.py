"""OpenAI's Realtime API, as far as it makes sense for pictures."""

from __future__ import annotations

from typing import Final

from omnirt_lab.errors import LabError
from omnirt_server.handlers.sockets import LabSocket
from omnirt_server.realtime import RealtimeSession, error_message
from omnirt_server.submission import DEFAULT_MODEL, Caller

NO_SUCH_MODEL: Final = 4404
"""Close code where the address names a model that the server does not serve."""


class RealtimeHandler(LabSocket):
    """`WS /v1/realtime?model=…`: prompts in, stage events, previews and pictures out; see `records.realtime`.

    A client that leaves takes no job with it: what it asked for is made, and stands in the history.
    """

    async def opened(self, *args: str) -> None:  # noqa: ARG002  # the route has none
        """Greet the client."""
        caller = Caller(traceparent=self.request.headers.get("traceparent"))
        self._session = RealtimeSession(self, self.services, model=self._model(), caller=caller)
        try:
            await self._session.begin()
        except LabError as error:
            await self.send(error_message(error))
            self.close(NO_SUCH_MODEL, error.code)

    async def received(self, message: str | bytes) -> None:
        """Hand it to the session."""
        await self._session.handle(message)

    def _model(self) -> str:
        named = self.request.query_arguments.get("model")
        return named[-1].decode("utf-8", "replace") if named else DEFAULT_MODEL

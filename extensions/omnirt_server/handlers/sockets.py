"""What every WebSocket does alike."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import msgspec
from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado import web
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from omnirt_lab.records import Artifact
from omnirt_server.handlers.base import artifact_url
from omnirt_server.handlers.route import LabRoute

KEY_PREFIX: Final = "openai-insecure-api-key."
"""How browsers' OpenAI clients send the key, as one of the subprotocols."""


SUBPROTOCOLS: Final = ("realtime", "omnirt")


class LabSocket(LabRoute, WebSocketMixin, WebSocketHandler, JupyterHandler):
    """A WebSocket of the API. What it sends beside its answers runs in tasks, which end with the connection."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Begin without tasks."""
        super().initialize(*args, **kwargs)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def max_message_size(self) -> int:
        """Tornado closes the connection at a larger message (1009)."""
        return self.services.limits.message_bytes

    async def prepare(self, **kwargs: Any) -> None:
        """Take a key that came as a subprotocol for what it is."""
        for protocol in self.request.headers.get("Sec-WebSocket-Protocol", "").split(","):
            name = protocol.strip()
            if name.startswith(KEY_PREFIX) and "Authorization" not in self.request.headers:
                self.request.headers["Authorization"] = f"Bearer {name.removeprefix(KEY_PREFIX)}"
        await ensure_async(super().prepare(**kwargs))

    @ws_authenticated
    async def get(self, *args: str, **kwargs: str) -> None:
        """Open the WebSocket for whoever is authorized; 401 and 403 come before the upgrade."""
        is_authorized = await ensure_async(
            self.authorizer.is_authorized(self, self.current_user, "execute", self.auth_resource)
        )
        if not is_authorized:
            raise web.HTTPError(403)
        await super().get(*args, **kwargs)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Browsers want one of theirs back; never the one that is the key."""
        return next((name for name in subprotocols if name in SUBPROTOCOLS), None)

    async def open(self, *args: str, **kwargs: str) -> None:
        """Begin; no message is read before this returns."""
        super().open(*args, **kwargs)
        await self._guard(self.opened(*args))

    async def on_message(self, message: str | bytes) -> None:
        """Take a message; the next one is read when this returns, so a client that does not read is not read."""
        await self._guard(self.received(message))

    async def opened(self, *args: str) -> None:
        """Say what comes first, and start what is sent beside the answers."""
        raise NotImplementedError

    async def received(self, message: str | bytes) -> None:
        """Answer a message."""
        raise NotImplementedError

    def start(self, sending: Coroutine[Any, Any, None]) -> None:
        """Do this beside the client's messages; cancel it when the connection ends."""
        task = asyncio.create_task(self._guard(sending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send(self, value: object) -> None:
        """Send a record as JSON, and wait until the client takes it."""
        await self.write_message(msgspec.json.encode(value).decode())

    def artifact_url(self, artifact: Artifact) -> str:
        """Where the file is, by the address that the client used for this server."""
        return artifact_url(self, artifact)

    def on_close(self) -> None:
        """Stop sending."""
        for task in self._tasks:
            task.cancel()
        super().on_close()

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except WebSocketClosedError:  # the client has gone
            return
        except Exception:  # an edge that must answer
            self.log.exception("a WebSocket of %s failed", self.request.path)
            self.close(1011, "internal error")

    def get_compression_options(self) -> dict[str, Any] | None:
        """No compression: messages are small and many."""
        return None

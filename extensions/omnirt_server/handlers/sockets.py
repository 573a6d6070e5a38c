"""What every WebSocket does alike."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import web
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from omnirt_server.services import Services
from omnirt_server.settings import SERVICES_KEY

KEY_PREFIX: Final = "openai-insecure-api-key."
"""How browsers' OpenAI clients send the key, as one of the subprotocols."""


class LabSocket(ExtensionHandlerMixin, WebSocketMixin, WebSocketHandler, JupyterHandler):
    """A WebSocket of the API. `serve` runs as a task from `open` until either side ends it."""

    auth_resource = "omnirt"
    _serving: asyncio.Task[None] | None = None

    @property
    def services(self) -> Services:
        """What all handlers share."""
        services: Services = self.settings[SERVICES_KEY]
        return services

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

    def open(self, *args: str, **kwargs: str) -> None:
        """Begin."""
        super().open(*args, **kwargs)
        self._serving = asyncio.create_task(self._serve_to_end(*args))

    async def serve(self, *args: str) -> None:
        """Send what there is to send; the connection is closed when this returns."""
        raise NotImplementedError

    async def send(self, value: object) -> None:
        """Send a record as JSON, and wait until the client takes it."""
        await self.write_message(msgspec.json.encode(value).decode())

    def on_close(self) -> None:
        """Stop sending."""
        if self._serving is not None:
            self._serving.cancel()
        super().on_close()

    async def _serve_to_end(self, *args: str) -> None:
        try:
            await self.serve(*args)
            self.close(1000)
        except (WebSocketClosedError, asyncio.CancelledError):  # the client has gone
            return
        except Exception:  # an edge that must answer
            self.log.exception("a WebSocket of %s failed", self.request.path)
            self.close(1011, "internal error")

    def get_compression_options(self) -> dict[str, Any] | None:
        """No compression: messages are small and many."""
        return None

"""A Jupyter server that serves this extension alone: no kernels, files or terminals for whoever has the token."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import secrets
from collections.abc import Sequence
from typing import Any

from jupyter_server.serverapp import ServerApp
from traitlets import default
from traitlets.config import Config

from omnirt_server.app import OmniRTApp


class HostedServer(ServerApp):
    """`omnirt serve`. Its defaults differ from Jupyter's; flags and configuration files win over them."""

    name = "omnirt-serve"
    default_services = ("api", "auth", "security")  # type: ignore[assignment]  # a tuple of thirteen there

    @default("allow_root")
    def _default_allow_root(self) -> bool:
        return True  # nothing that a request can ask for runs code of its own

    @default("log_level")
    def _default_log_level(self) -> int:
        return logging.WARNING

    @default("authenticate_prometheus")
    def _default_authenticate_prometheus(self) -> bool:
        return not _is_loopback(self.ip)


def make_server(argv: Sequence[str], *, defaults: dict[str, Any]) -> HostedServer:
    """Make a server that listens, ready to `start`.

    Raises
    ------
    SystemExit
        If the port is taken; the log says so.
    LabError
        If the state directory cannot be used.
    """
    server = HostedServer.instance(
        config=Config(OmniRTApp={"open_browser": False}, IdentityProvider=_token()),
        no_browser_open_file=True,
        answer_yes=True,
        port_retries=0,
        reraise_server_extension_failures=True,
        allow_unauthenticated_access=False,
        terminals_enabled=False,
        jpserver_extensions={"omnirt_server": True},
        **defaults,
    )
    server.initialize(argv=list(argv), find_extensions=False, starter_extension=OmniRTApp.name)
    _settle()
    return server


def _settle() -> None:
    """Spare the garbage collector what is loaded by now: it stays, and a look through it stops the loop for 0.1 s."""
    gc.collect()
    gc.freeze()


def _token() -> dict[str, str]:
    """A new token, where the environment has none; one that Jupyter made itself it would print in its own banner."""
    if "JUPYTER_TOKEN" in os.environ or "JUPYTER_TOKEN_FILE" in os.environ:
        return {}
    return {"token": secrets.token_hex(24)}


def _is_loopback(ip: str) -> bool:
    if ip == "localhost":
        return True
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False

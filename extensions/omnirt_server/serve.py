"""Serve the generation API, the metrics and the page, without a notebook server."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from omnirt_server.hosted import HostedServer

DEFAULT_PORT: Final = 8000

_FLAGS: Final = {
    "host": "ServerApp.ip",
    "port": "ServerApp.port",
    "base_url": "ServerApp.base_url",
    "token": "IdentityProvider.token",
    "state_dir": "OmniRTApp.state_dir",
    "otlp_endpoint": "OmniRTApp.otlp_endpoint",
    "runners": "OmniRTApp.runners",
    "max_queued": "OmniRTApp.max_queued",
    "batch_window_ms": "OmniRTApp.batch_window_ms",
    "max_batch_size": "OmniRTApp.max_batch_size",
    "ray": "OmniRTApp.ray",
    "log_level": "ServerApp.log_level",
}
"""Option → the trait that it sets; one that is not given leaves the trait to configuration files and defaults."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help=f"port to listen on (default: {DEFAULT_PORT})")
    parser.add_argument("--model", action="append", metavar="MODEL", help="allow this model; may be repeated")
    parser.add_argument("--otlp-endpoint", metavar="URL", help="send traces to this OTLP/HTTP collector")
    parser.add_argument("--token", help="the token that requests need (default: $JUPYTER_TOKEN, else a new one)")
    parser.add_argument("--base-url", metavar="PATH", help="path in front of every route (default: /)")
    parser.add_argument("--state-dir", metavar="DIR", help="the lab's state directory (default: the user's)")
    parser.add_argument("--runners", type=int, metavar="N", help="runner kernels; 0 runs no jobs (default: 1)")
    parser.add_argument("--max-queued", type=int, metavar="N", help="jobs that may wait (default: 100)")
    parser.add_argument("--batch-window-ms", type=float, metavar="MS", help="let jobs share calls; each waits so long")
    parser.add_argument("--max-batch-size", type=int, metavar="N", help="jobs that share a call (default: 8)")
    parser.add_argument("--ray", metavar="ADDRESS", help="Ray cluster for ray jobs: HOST:PORT, auto, or local")
    parser.add_argument("--log-level", choices=("DEBUG", "INFO", "WARN", "ERROR"), help="(default: WARN)")
    parser.add_argument("--set", action="append", default=[], metavar="TRAIT=VALUE", help="any Jupyter Server option")


def arguments_to_argv(arguments: argparse.Namespace) -> list[str]:
    """What a person asked for, as Jupyter's own command line."""
    given = {trait: getattr(arguments, name) for name, trait in _FLAGS.items()}
    argv = [f"--{trait}={value}" for trait, value in given.items() if value is not None]
    argv += [f"--OmniRTApp.allowed_models={model}" for model in _models(arguments.model)]
    return argv + [f"--{setting}" for setting in arguments.set]


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from omnirt_server.hosted import make_server  # jupyter_server is heavy, and other commands do without

    server = make_server(arguments_to_argv(arguments), defaults={"port": DEFAULT_PORT})
    for line in greeting(server):
        print(line, file=sys.stderr, flush=True)
    server.start()
    return 0


def greeting(server: HostedServer) -> list[str]:
    """What to do next: where the server is, the token, and a command that works."""
    address = f"http://{_reachable(server.ip)}:{server.port}{server.base_url}"
    token = server.identity_provider.token
    header = f" -H 'Authorization: Bearer {token}'" if token else ""
    body = '{"inputs": {"prompt": "a red circle on a blue background"}, "config": {"steps": 20, "seed": 7}}'
    return [
        f"OmniRT Lab serves at {address}",
        f"  page    {address}?token={token}" if token else f"  page    {address}",
        f"  token   {token or '(none: everybody who reaches the port may use it)'}",
        f"  try     curl -sS {address}v1/generate{header} -d '{body}'",
        f"  metrics curl -sS {address}metrics{header if server.authenticate_prometheus else ''}",
        "Stop it with Ctrl-C.",
    ]


def _models(asked: list[str] | None) -> list[str]:
    """The built-in model stays allowed beside those that were asked for."""
    return [] if asked is None else list(dict.fromkeys(["tiny-shapes", *asked]))


def _reachable(ip: str) -> str:
    """An address of this machine, where the server listens on all of them."""
    if not ip or ip in ("*", "localhost"):
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{address}]" if address.version == 6 else str(address)

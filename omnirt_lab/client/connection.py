"""What both transports are made with."""

from __future__ import annotations

from typing import Final, TypedDict, TypeVar

import httpx

from omnirt_lab.client.calls import Call
from omnirt_lab.client.failures import ServerUnreachableError
from omnirt_lab.client.following import SILENCE_S

T = TypeVar("T")

TIMEOUT_S: Final = 60.0


class Options(TypedDict):
    """Arguments of httpx's clients."""

    base_url: str
    headers: dict[str, str]


def options(url: str, token: str | None) -> Options:
    """Where the server is, and what every request carries."""
    return {
        "base_url": f"{url.rstrip('/')}/",
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
    }


def timeout_of(call: Call[T], timeout_s: float) -> httpx.Timeout:
    """How long to wait for the answer to a call."""
    return httpx.Timeout(timeout_s, read=None) if call.is_waiting else httpx.Timeout(timeout_s)


def stream_timeout(timeout_s: float) -> httpx.Timeout:
    """How long a stream may say nothing."""
    return httpx.Timeout(timeout_s, read=SILENCE_S)


def unreachable(url: httpx.URL, error: httpx.TransportError) -> ServerUnreachableError:
    """What a failure below HTTP means."""
    return ServerUnreachableError(
        f"no answer from {url}: {type(error).__name__}: {error}",
        hint="Check the address, and that the server runs: `omnirt serve`.",
    )

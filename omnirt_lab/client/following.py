"""A job's event stream over as many connections as it takes: each event once, in order."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from omnirt_lab.client import calls
from omnirt_lab.client.calls import Call
from omnirt_lab.client.failures import ServerUnreachableError, error_of
from omnirt_lab.records import TERMINAL_EVENTS, AnyEvent, decode_event

FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 5.0
MAX_ATTEMPTS: Final = 10
"""Connections in a row that brought nothing, about half a minute; then the server counts as gone."""

SILENCE_S: Final = 45.0
"""A stream that says nothing for so long is broken: the server keeps one alive every 15 s."""

_PASSING: Final = frozenset(
    {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
)
"""Answers of a server, or of a proxy before it, that may be better a moment later."""


class Following:
    """How far a stream has come: what one connection leaves to the next. It does no I/O itself."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._last_event_id = 0
        self._attempts = 0
        self._rest = b""
        self._has_brought_events = False
        self.is_over = False

    def connect(self) -> Call[bytes]:
        """The next connection's request."""
        self._rest = b""
        self._has_brought_events = False
        return calls.events(self._job_id, self._last_event_id)

    def refuse(self, status: int, content: bytes) -> None:
        """Take an answer that is no stream.

        Raises
        ------
        LabError
            What the server answered, unless it may pass.
        """
        if status not in _PASSING:
            raise error_of(status, content)

    def take(self, chunk: bytes) -> Iterator[AnyEvent]:
        """The events that are whole with this chunk. Bytes, since text lines would also end at U+2028."""
        self._attempts = 0
        *blocks, self._rest = (self._rest + chunk).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            if b"data" in fields:
                event = decode_event(fields[b"data"])
                self._last_event_id = int(fields[b"id"])
                self._has_brought_events = True
                self.is_over = isinstance(event, TERMINAL_EVENTS)
                yield event

    def close(self) -> None:
        """Take a connection's orderly end: with nothing in it, the stream was at its end before."""
        self.is_over = self.is_over or not self._has_brought_events

    def pause_s(self, error: Exception | None) -> float:
        """How long to wait before the next connection.

        Raises
        ------
        ServerUnreachableError
            After too many in a row.
        """
        self._attempts += 1
        if self._attempts > MAX_ATTEMPTS:
            raise ServerUnreachableError(
                f"the events of {self._job_id} broke off, and {MAX_ATTEMPTS} new connections brought nothing",
                hint="Check that the server runs; events(job_id) begins anew, and nothing is lost.",
            ) from error
        return min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (self._attempts - 1))

"""Messages on a byte stream: each behind its length, four bytes, the highest first."""

from __future__ import annotations

import os
import select
import struct
import threading
from collections.abc import Iterator
from typing import Final

_LENGTH: Final = struct.Struct(">I")

CHUNK_BYTES: Final = 65_536
"""What a pipe holds."""


class FrameBuffer:
    """Bytes as they come become whole messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, chunk: bytes) -> Iterator[bytes]:
        """Take the next bytes of the stream, and yield each message that is complete now."""
        self._bytes += chunk
        while len(self._bytes) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._bytes)[0]
            if len(self._bytes) < end:
                return
            message = bytes(self._bytes[_LENGTH.size : end])
            del self._bytes[:end]
            yield message


class FrameWriter:
    """Writes messages to a file descriptor that it owns, each whole, from any thread.

    Parameters
    ----------
    patience_s
        How long the other side may leave the stream full before `write` gives up; None waits for ever.
    """

    def __init__(self, descriptor: int, *, patience_s: float | None = None) -> None:
        self._descriptor = descriptor
        self._patience_ms = None if patience_s is None else patience_s * 1000
        self._lock = threading.Lock()
        self._is_open = True
        os.set_blocking(descriptor, False)

    def write(self, message: bytes) -> None:
        """Write it.

        Raises
        ------
        OSError
            If nobody reads: the other side is gone, or stands still. The stream may end inside of a message then.
        """
        with self._lock:
            if not self._is_open:
                raise BrokenPipeError("the stream is closed")
            rest = memoryview(_LENGTH.pack(len(message)) + message)
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            while rest:
                if not poll.poll(self._patience_ms):
                    raise TimeoutError("the other side does not read")
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:  # room for less than a page is none
                    continue

    def close(self) -> None:
        """Close the descriptor."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self._descriptor)

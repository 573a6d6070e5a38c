"""The files that runs made, by their sha256."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

from jupyter_server.auth.decorator import authorized
from tornado import web

from omnirt_server.handlers.base import LabHandler

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")

_MAGIC: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"RIFF": "audio/wav",
}


class ArtifactHandler(LabHandler):
    """`GET /v1/artifacts/{sha256}`: the bytes never change, so they may be kept for ever."""

    @web.authenticated
    @authorized
    async def get(self, sha256: str) -> None:
        """Return the file, or the range of it that was asked for."""
        await self._answer(sha256)

    @web.authenticated
    @authorized
    async def head(self, sha256: str) -> None:
        """Return the headers alone."""
        await self._answer(sha256)

    async def _answer(self, sha256: str) -> None:
        path: Path = await asyncio.to_thread(self.services.journal.artifacts.path, sha256)
        self.set_header("Etag", f'"{sha256}"')
        self.set_header("Cache-Control", "private, max-age=31536000, immutable")
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("X-Content-Type-Options", "nosniff")
        if self.check_etag_header():
            self.set_status(304)
            return
        self._send(await asyncio.to_thread(path.read_bytes))

    def _send(self, content: bytes) -> None:
        self.media_type = media_type_of(content)
        asked = _RANGE.fullmatch(self.request.headers.get("Range", ""))
        if asked is None:
            self.finish(content)
            return
        begin, end = _bounds(asked[1], asked[2], len(content))
        if begin >= end:
            self.set_header("Content-Range", f"bytes */{len(content)}")
            raise web.HTTPError(416, f"the file has {len(content)} bytes")
        self.set_status(206)
        self.set_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.finish(content[begin:end])

    def compute_etag(self) -> None:
        """Leave the tag as it is: the sha256."""


def media_type_of(content: bytes) -> str:
    """What the bytes are, by how they begin."""
    if content[4:8] == b"ftyp":
        return "video/mp4"
    return next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), "application/octet-stream")


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """The half-open part that `bytes=first-last` names (RFC 9110, 14.1.2)."""
    if first:
        return int(first), min(int(last) + 1, size) if last else size
    return max(0, size - int(last or "0")), size

"""Files that runs made or began with, each stored once, by the sha256 of its bytes."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from omnirt_lab.errors import ArtifactNotFoundError
from omnirt_lab.journal.state import unusable
from omnirt_lab.records import Artifact

ARTIFACTS: Final = "artifacts"

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class ArtifactStore:
    """Private files (mode 0600) under `artifacts` in the state directory, named by content."""

    def __init__(self, state_directory: Path) -> None:
        self.state_directory = state_directory
        self._directory = state_directory / ARTIFACTS

    def put_bytes(
        self,
        content: bytes,
        media_type: str,
        *,
        width_px: int | None = None,
        height_px: int | None = None,
        index: int = 0,
        seed: int | None = None,
    ) -> Artifact:
        """Store the bytes, unless they are there already, and describe them.

        Raises
        ------
        StateDirError
            If the disk is full or cannot be written; nothing is left half-written.
        """
        artifact = describe(content, media_type, width_px=width_px, height_px=height_px, index=index, seed=seed)
        path = self._path_of(artifact.sha256)
        if not path.exists() or path.stat().st_size != len(content):  # a power cut can leave an empty file
            _write(path, content)
        return artifact

    def path(self, sha256: str) -> Path:
        """Where the file is.

        Raises
        ------
        ArtifactNotFoundError
            If there is none, or `sha256` is not 64 lower-case hex digits.
        """
        if not _SHA256.fullmatch(sha256) or not self._path_of(sha256).is_file():
            raise missing(sha256)
        return self._path_of(sha256)

    def read(self, sha256: str) -> bytes:
        """The stored bytes.

        Raises
        ------
        ArtifactNotFoundError
            If there are none.
        """
        return self.path(sha256).read_bytes()

    def size_bytes(self, hashes: Iterable[str]) -> int:
        """Of these files together, where they are there."""
        return sum(path.stat().st_size for path in map(self._path_of, hashes) if path.is_file())

    def remove(self, hashes: Iterable[str]) -> int:
        """Delete these files, where they are there; the bytes that this freed."""
        freed_bytes = 0
        for path in map(self._path_of, hashes):
            try:
                size_bytes = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                continue
            freed_bytes += size_bytes
        return freed_bytes

    def _path_of(self, sha256: str) -> Path:
        return self._directory / sha256[:2] / sha256


def describe(
    content: bytes,
    media_type: str,
    *,
    width_px: int | None = None,
    height_px: int | None = None,
    index: int = 0,
    seed: int | None = None,
) -> Artifact:
    """The artifact that these bytes are, wherever they are stored."""
    return Artifact(
        sha256=hashlib.sha256(content).hexdigest(),
        media_type=media_type,
        size_bytes=len(content),
        width_px=width_px,
        height_px=height_px,
        index=index,
        seed=seed,
    )


def missing(sha256: str) -> ArtifactNotFoundError:
    """The error for a file that is not there."""
    return ArtifactNotFoundError(
        f"no artifact has the sha256 {sha256[:80]!r}",
        hint="Look it up in the report of the run; a purge removes the files of its runs.",
    )


def _write(path: Path, content: bytes) -> None:
    """Write it whole or not at all."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.draft")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise unusable(path, error) from error

"""Where results of this process find their pictures: they are named by content, so any store that has one will do."""

from __future__ import annotations

import threading

from omnirt_lab.errors import ArtifactNotFoundError
from omnirt_lab.journal import ArtifactStore, state_dir


class ArtifactStores:
    """The stores of the labs that this process has opened, and the user's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: list[ArtifactStore] = []

    def add(self, store: ArtifactStore) -> None:
        """Look here from now on, before all others."""
        with self._lock:
            self._opened.insert(0, store)

    def read(self, sha256: str) -> bytes:
        """The bytes with this sha256.

        Raises
        ------
        ArtifactNotFoundError
            If no store has them.
        """
        with self._lock:
            opened = list(self._opened)
        for store in opened:
            try:
                return store.read(sha256)
            except ArtifactNotFoundError:
                continue
        return ArtifactStore(state_dir()).read(sha256)


STORES = ArtifactStores()

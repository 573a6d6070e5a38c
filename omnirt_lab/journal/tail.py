"""What a running job has emitted and the journal has not yet: a file that outlives a killed process.

A commit between two of torch's steps costs 0.2 ms, for its code and pages have left the processor's caches; a line at
the end of a file costs a third of that, and the kernel keeps it when the process is gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from omnirt_lab.journal.events import to_json
from omnirt_lab.journal.state import WORKERS
from omnirt_lab.records import AnyEvent, decode_event


class Tail:
    """One running job's events that wait for the next commit, a line each. Made with the first one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def append(self, waiting: Iterable[AnyEvent]) -> bool:
        """Write them down; False where the disk does not take them."""
        lines = "".join([to_json(event) + "\n" for event in waiting]).encode()
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            return os.write(self._fd, lines) == len(lines)
        except OSError:
            return False

    def close(self) -> None:
        """Write no more; the file stays."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def remove(self) -> None:
        """The journal has it all."""
        if self._fd is not None:
            self.close()
            self._path.unlink(missing_ok=True)


def tail_path(state_dir: Path, worker_id: str, job_id: str) -> Path:
    """Where the events of this worker's job wait."""
    return state_dir / WORKERS / f"{worker_id}.{job_id}.tail"


def read_tail(path: Path, *, after_seq: int) -> list[AnyEvent]:
    """The events that follow on `after_seq` without a gap; a last line that was cut short is left out."""
    found: list[AnyEvent] = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            event = decode_event(line)
        except msgspec.DecodeError:
            break
        if event.seq == after_seq + len(found) + 1:
            found.append(event)
    return found

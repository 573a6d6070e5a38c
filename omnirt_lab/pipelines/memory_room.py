"""How much memory a device has, and how much of it is free.

Sources: psutil's `available`; the memory controllers of cgroups (https://docs.kernel.org/admin-guide/cgroup-v2.html and
`cgroup-v1/memory.html`), whose limit counts where it is lower; `torch.cuda.mem_get_info`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import torch

_ROOT: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Room:
    """One device's memory."""

    available_bytes: int
    """What this process could still take."""

    capacity_bytes: int
    """All that it could have if nothing else was there."""


@dataclass(frozen=True)
class _Files:
    """Where a cgroup's controller says what it allows, and what is used; which cache it could drop."""

    limit: str
    usage: str
    droppable: str


_V2: Final = _Files("memory.max", "memory.current", "inactive_file")
_V1: Final = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def room_on(device: torch.device) -> Room:
    """The memory of this device; what this process's allocator holds and does not use counts as available."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Room(free + unused, total)
    if device.type == "mps":
        total = torch.mps.recommended_max_memory()
        return Room(total - torch.mps.current_allocated_memory(), total)
    return host_room()


def host_room(*, root: Path = _ROOT, own: Path = _OWN) -> Room:
    """The machine's memory, or what the process's cgroup leaves of it.

    Parameters
    ----------
    root, own
        Where the cgroups are, and the file that says which are this process's.
    """
    machine = psutil.virtual_memory()
    rooms = [Room(machine.available, machine.total)]
    for line in _lines(own):
        _, controllers, path = line.split(":", maxsplit=2)
        if not controllers:
            rooms += _limits(root, path, _V2)
        elif "memory" in controllers.split(","):
            rooms += _limits(root / "memory", path, _V1)
    return Room(min(room.available_bytes for room in rooms), min(room.capacity_bytes for room in rooms))


def _limits(root: Path, path: str, files: _Files) -> list[Room]:
    """The limits of a cgroup and of all above it. In a container its own one stands at the root."""
    folder = root / path.lstrip("/")
    found = [_limit(at, files) for at in (folder, *folder.parents) if at.is_relative_to(root)]
    return [room for room in found if room is not None]


def _limit(folder: Path, files: _Files) -> Room | None:
    limit, used = (_number(folder / name) for name in (files.limit, files.usage))
    if limit is None or used is None:
        return None
    stats = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat"))
    return Room(max(0, limit - used + int(stats.get(files.droppable, 0))), limit)


def _number(path: Path) -> int | None:
    """The file's number; None for `max`, and where there is no such file."""
    text = "".join(_lines(path))
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []

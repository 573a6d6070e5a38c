"""Where the journal lives: a private directory on a local disk."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

import psutil

from omnirt_lab.errors import StateDirError

STATE_DIR_VARIABLE: Final = "OMNIRT_STATE_DIR"

WORKERS: Final = "workers"
"""Directory within it: a lock for each live worker, and beside it what its running jobs have not committed yet."""

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"afs", "afpfs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gpfs", "lustre"}
    | {"nfs", "nfs4", "smb3", "smbfs", "webdav"}
)
"""Types on which SQLite's WAL cannot work: its index is memory that all readers of the file share."""


class Mount(Protocol):
    """What is asked of a mounted file system; `psutil.disk_partitions` has it."""

    @property
    def mountpoint(self) -> str:
        """Absolute path."""

    @property
    def fstype(self) -> str:
        """The kernel's word, such as `ext4`."""


def state_dir() -> Path:
    """The directory that the user's settings name; it need not exist.

    `$OMNIRT_STATE_DIR`, else `$XDG_STATE_HOME/omnirt`, else `~/.local/state/omnirt`.
    """
    chosen = os.environ.get(STATE_DIR_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state").absolute() / "omnirt"


def usable_directory(directory: Path | None = None, *, mounts: Iterable[Mount] | None = None) -> Path:
    """The state directory, made (mode 0700) where it is missing.

    Without `directory` it is `state_dir()`; where that is nobody's explicit choice and lies on a network file system,
    a local directory takes its place, with a warning.

    Parameters
    ----------
    mounts
        The mounted file systems; by default the machine's own.

    Raises
    ------
    StateDirError
        If it cannot be made or written, or is on a network file system by explicit choice.
    """
    is_chosen = directory is not None or STATE_DIR_VARIABLE in os.environ
    path = state_dir() if directory is None else directory.absolute()
    file_system = _file_system_of(path, psutil.disk_partitions(all=True) if mounts is None else mounts)
    if file_system in NETWORK_FILE_SYSTEMS:
        if is_chosen:
            raise StateDirError(
                f"{path} is on a network file system ({file_system}), where the journal cannot work",
                hint=f"Set {STATE_DIR_VARIABLE} to a directory on a local disk.",
            )
        network, path = path, _local_directory()
        warnings.warn(
            f"{network} is on a network file system ({file_system}), where the journal cannot work: "
            f"the history of this machine is kept in {path}. Set {STATE_DIR_VARIABLE} to choose where.",
            stacklevel=3,
        )
    _make_private(path)
    return path


def _file_system_of(path: Path, mounts: Iterable[Mount]) -> str | None:
    """Type of the file system that holds `path`: the mount with the longest matching path, the later one of equals."""
    resolved = path.resolve()
    holding = [mount for mount in mounts if resolved.is_relative_to(mount.mountpoint)]
    return max(reversed(holding), key=lambda mount: len(mount.mountpoint)).fstype if holding else None


def _local_directory() -> Path:
    """A directory that outlives a reboot where the system has one (`/var/tmp`), named for the user."""
    base = Path("/var/tmp")  # noqa: S108  # _make_private refuses one that somebody else has made
    user = os.environ.get("USERNAME", "user") if sys.platform == "win32" else str(os.getuid())
    return (base if base.is_dir() else Path(tempfile.gettempdir())) / f"omnirt-{user}"


def _make_private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sys.platform != "win32" and path.stat().st_uid != os.getuid():
            raise StateDirError(
                f"{path} belongs to another user", hint=f"Set {STATE_DIR_VARIABLE} to a directory of your own."
            )
        with tempfile.TemporaryFile(dir=path):
            pass
    except StateDirError:
        raise
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> StateDirError:
    """The typed error for what the operating system said of a path in the state directory."""
    hint = f"Set {STATE_DIR_VARIABLE} to a directory that you may write to."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = f"Free some space, or set {STATE_DIR_VARIABLE} to a directory on another disk."
    return StateDirError(f"{path} cannot be written: {error.strerror or error}", hint=hint)

"""The connection of this process to a Ray cluster: one that it starts on this machine, or one that is there."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from omnirt_lab.errors import ClusterUnreachableError, LabError, NotAvailableError
from omnirt_lab.executors.following import TICK_S
from omnirt_lab.units import BYTES_PER_MIB

LOCAL: Final = "local"

AUTO: Final = "auto"
"""The cluster whose node this machine is."""

CONNECT_S: Final = 60.0
"""How long it may take to start or join one; a local one takes 7 s."""

_KNOCK_S: Final = 5.0
"""How long the cluster's port may take to be opened."""

_STORE_BYTES: Final = 256 * BYTES_PER_MIB
"""A local cluster's shared memory: a message of a run is a picture at most."""

_TOKEN: Final = "RAY_AUTH_TOKEN"  # noqa: S105  # a variable's name
_MODE: Final = "RAY_AUTH_MODE"
_TOKEN_SOURCES: Final = (_MODE, _TOKEN, "RAY_AUTH_TOKEN_PATH")

_exiting: Final = threading.Event()
"""The interpreter ends: no cluster is started any more."""


class Share(NamedTuple):
    """What an actor takes of its node."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs"


class Cluster:
    """A connection, held by a thread of its own: the system ends what a thread has started with the thread.

    Where this process is connected already, that connection is used, and left as it is.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._ended = threading.Event()
        self._settled = threading.Event()
        self._unwanted = threading.Event()
        self._error: LabError | None = None
        threading.Thread(target=self._live, name="omnirt-ray", daemon=True).start()

    @property
    def is_usable(self) -> bool:
        """It is connected, or about to be."""
        return not (self._ended.is_set() or self._unwanted.is_set())

    def wait(self, patience: Callable[[], None]) -> None:
        """Return when it is connected; `patience` is called again and again until then, and may raise.

        Raises
        ------
        ClusterUnreachableError, NotAvailableError
            If it cannot be, or not within a minute.
        """
        waited_s = 0.0
        while not self._settled.wait(TICK_S):
            patience()
            waited_s += TICK_S
            if waited_s > CONNECT_S:
                raise _unreachable(self.address, f"it does not answer within {CONNECT_S:.0f} s")
        if self._error is not None:
            raise self._error
        if not self.is_usable:
            raise _unreachable(self.address, "it was left")

    def room_for(self, share: Share) -> int:
        """How many such actors the nodes that live could have at a time, whoever has them.

        Raises
        ------
        NotAvailableError
            If no node is large enough for one.
        """
        room = sum(_room_of(node["Resources"], share) for node in get_ray().nodes() if node["Alive"])
        if not room:
            raise NotAvailableError(
                f"no node of the Ray cluster {self.address!r} has {share}",
                hint="Ask for less: omnirt_lab.configure(ray_actor_cpus=…, ray_actor_gpus=…).",
            )
        return room

    def has_gpus(self) -> bool:
        """Whether any node has one."""
        return any(node["Resources"].get("GPU") for node in get_ray().nodes() if node["Alive"])

    def close(self) -> None:
        """Leave it; one that this process has started ends."""
        self._unwanted.set()
        if self._settled.is_set():
            self._ended.wait(CONNECT_S)

    def _live(self) -> None:
        try:
            with self._connection():
                atexit.register(self._exit)  # after Ray's own, so that it runs before that
                self._settled.set()
                self._unwanted.wait()
        except LabError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001  # Ray raises whatever it likes; whoever waits is told
            self._error = _unreachable(self.address, f"{type(error).__name__}: {error}")
        finally:
            self._settled.set()
            self._ended.set()
            atexit.unregister(self._exit)

    def _exit(self) -> None:
        _exiting.set()
        self.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[None]:
        if _exiting.is_set():
            raise _unreachable(self.address, "this process ends")
        with _private_environment() if self.address == LOCAL else contextlib.nullcontext():
            ray = get_ray()
        if ray.is_initialized():
            _require(ray.get_runtime_context().gcs_address, self.address)
            yield
        else:
            with _started(ray) if self.address == LOCAL else _joined(ray, self.address):
                yield


def get_ray() -> Any:
    """The `ray` package.

    Raises
    ------
    NotAvailableError
        If it is not installed.
    """
    os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")  # else the process's `print` is Ray's from its first message on
    try:
        import ray  # heavy, and an extra
    except ImportError as error:
        raise NotAvailableError(
            "execution_mode 'ray' needs the package ray", hint="Install it: pip install 'omnirt-lab[ray]'"
        ) from error
    return ray


def _require(connected: str, address: str) -> None:
    """A process has one cluster at a time, and this one's owner has chosen it."""
    if address not in (LOCAL, AUTO, connected):
        raise NotAvailableError(
            f"this process is connected to the Ray cluster {connected!r}, not to {address!r}",
            hint="Call ray.shutdown() first, or omnirt_lab.configure(ray='auto') to use that one.",
        )


@contextlib.contextmanager
def _started(ray: Any) -> Iterator[None]:
    """A cluster of this process's own: not heard of outside this machine, nor by other users of it."""
    directory = Path(tempfile.mkdtemp(prefix=f"omnirt-ray-{os.getpid()}-", dir=_short_temporary_directory()))
    try:
        with _private_environment():
            ray.init(
                address=LOCAL,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_STORE_BYTES,
                _temp_dir=str(directory / "ray"),  # Ray opens its own directory to all, and cannot open this one
            )
        try:
            yield
        finally:
            ray.shutdown()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    if address != AUTO:
        _knock(address)
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself takes minutes to say that nobody is there."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except OSError as error:
        raise _unreachable(address, str(error)) from error


@cache
def _own_variables() -> dict[str, str]:
    """A local cluster's variables, the same ones for each that the process starts, as Ray reads some of them once.

    Nobody is told that it is used; it listens on 127.0.0.1 alone, as it does by itself on Windows and macOS; with a
    token of its own here it writes none into the home directory; it starts no process for each CPU beforehand; and
    actors have this process's priority, where Ray's would let any busy program take nearly all of their time.
    """
    own = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_worker_niceness": "0",
    }
    if not any(name in os.environ for name in _TOKEN_SOURCES):
        own[_TOKEN] = secrets.token_hex(32)
        if "ray" not in sys.modules:  # else it has read the mode, and sets it by itself
            own[_MODE] = "token"
    return own


@contextlib.contextmanager
def _private_environment() -> Iterator[None]:
    own = _own_variables()
    before = {name: os.environ.get(name) for name in (*own, *_TOKEN_SOURCES)}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _short_temporary_directory() -> str | None:
    """Where sockets may lie, whose paths end at 107 bytes; None is the system's own choice."""
    return "/tmp" if sys.platform != "win32" else None  # noqa: S108  # a directory of our own is made in it


def _room_of(resources: dict[str, float], share: Share) -> int:
    wanted = {"CPU": share.cpus, "GPU": share.gpus}
    return int(min(resources.get(name, 0.0) // amount for name, amount in wanted.items() if amount))


def _unreachable(address: str, reason: str) -> ClusterUnreachableError:
    hint = (
        "Try again when this machine is less busy."
        if address == LOCAL
        else "This machine must be a node of it: ray start --address=HOST:PORT (--num-cpus=0 to run nothing here). "
        "omnirt_lab.configure(ray='local') starts one on this machine alone."
    )
    return ClusterUnreachableError(f"the Ray cluster {address!r} cannot be reached: {reason}", hint=hint)

"""Runs the server's queued jobs in private kernels, one after the other in each."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, get_args

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.journal import Journal
from omnirt_lab.records import ExecutionMode, Record
from omnirt_lab.units import NS_PER_MS
from omnirt_server.cluster_lane import CLUSTER_MODES, ClusterLane, ClusterOptions
from omnirt_server.feed import Feed
from omnirt_server.lane import Lane, LaneOptions
from omnirt_server.runtime_directory import RuntimeDirectory
from omnirt_server.submission import DEFAULT_MODEL

_HERE: Final = tuple(mode for mode in get_args(ExecutionMode) if mode not in CLUSTER_MODES)

_CUDA: Final = re.compile(r"cuda:(\d+)")

_log: Final = logging.getLogger(__name__)


class RunnerOptions(Record, frozen=True, kw_only=True):
    """What the operator says about runners."""

    kernels: int = 1
    """On each device; 0 leaves the queue to other servers on the same journal."""

    devices: tuple[str, ...] = ("",)
    """`cpu`, `cuda:1` …; the empty name is what the machine has."""

    prewarm: bool = False
    """Start at once, and load the built-in model if it is allowed."""

    cancel_grace_s: float = 5.0

    allowed_models: tuple[str, ...] = ()

    batch_window_ms: float | None = None
    """How long a job waits for others that may share its pipeline call; None for one job a call."""

    max_batch_size: int = 8

    cluster: ClusterOptions | None = None
    """The Ray cluster for jobs that ask for one."""


class Runner:
    """The part of the server that has its jobs run. Kernels start with the first job, unless they are prewarmed."""

    def __init__(self, journal: Journal, feed: Feed, options: RunnerOptions) -> None:
        self._journal = journal
        self._options = options
        self._directory: RuntimeDirectory | None = None
        self.started_at_ms = time.time_ns() // NS_PER_MS
        """Milliseconds since 1970: since then the server takes jobs."""
        self._in_hand: set[str] = set()
        self._lanes: list[Lane] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._environments = [device_environment(name) for name in options.devices for _ in range(options.kernels)]
        feed.on_queued.append(self._wake)

    @property
    def state(self) -> str:
        """`ok`, or what keeps jobs from being run."""
        if any(task.done() for task in self._tasks):
            return "a runner's task has ended; restart the server"
        return next((lane.trouble for lane in self._lanes if lane.trouble is not None), "ok")

    def start(self) -> None:
        """Begin, in the running loop."""
        cluster = self._options.cluster
        if not self._environments and cluster is None:
            return
        self._directory = RuntimeDirectory()
        options = LaneOptions(
            prewarm=self._options.prewarm,
            loads_builtin=DEFAULT_MODEL in self._options.allowed_models,
            cancel_grace_s=self._options.cancel_grace_s,
            batch_window_ms=self._options.batch_window_ms,
            max_batch_size=self._options.max_batch_size,
            modes=None if cluster is None else _HERE,
        )
        for index, own in enumerate(self._environments):
            environment = _environment(self._journal.directory, self._directory.path, own)
            base = self._directory.path / str(index)
            self._add(Lane(self._journal, self._in_hand, base, environment, options))
        if cluster is not None:
            environment = _environment(self._journal.directory, self._directory.path, {})
            self._add(ClusterLane(self._journal, self._directory.path / "cluster", environment, cluster))

    async def stop(self) -> None:
        """End the kernels. The jobs that they ran are lost; queued ones wait for the next server."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                _log.error("a runner's task ended", exc_info=result)
        self._tasks.clear()
        if self._directory is not None:
            await asyncio.to_thread(self._directory.remove)

    def _add(self, lane: Lane) -> None:
        self._tasks.append(asyncio.create_task(lane.run(), name=f"omnirt-runner-{len(self._lanes)}"))
        self._lanes.append(lane)

    def _wake(self) -> None:
        for lane in self._lanes:
            lane.news.set()


def device_environment(name: str) -> dict[str, str]:
    """The variables that leave a process this device alone.

    Raises
    ------
    InvalidRequestError
        If the name means nothing.
    """
    if not name:
        return {}
    if name == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    if match := _CUDA.fullmatch(name):  # never tried on a machine with two GPUs
        return {"CUDA_VISIBLE_DEVICES": match[1]}
    raise InvalidRequestError(
        f"there is no runner device {name!r}", hint="OmniRTApp.runner_devices takes cpu, cuda:0, cuda:1 …, or ''."
    )


def _environment(state_dir: Path, runtime_dir: Path, own: Mapping[str, str]) -> dict[str, str]:
    """The server's environment, with the journal that it follows and without a person's IPython start-up files."""
    return {
        **os.environ,
        "OMNIRT_STATE_DIR": str(state_dir),
        "IPYTHONDIR": str(runtime_dir / "ipython"),
        **own,
    }

"""The place of jobs that a Ray cluster runs: one kernel, which claims them itself and follows many at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from omnirt_lab.errors import LabError, RunnerUnavailableError
from omnirt_lab.journal import Journal
from omnirt_lab.records import ExecutionMode, Record
from omnirt_server.lane import IDLE_S, Lane, LaneOptions
from omnirt_server.submission import RUNNER_QUEUE

CLUSTER_MODES: Final[tuple[ExecutionMode, ...]] = ("ray",)

ADDRESS_VARIABLE: Final = "OMNIRT_RAY"
"""Where the lab's processes learn the cluster's address."""

_LEAVE_S: Final = 10.0
"""How long a kernel may take to give up its jobs and to leave the cluster; one of its own takes 2 s to end."""

_MODULE: Final = "__import__('omnirt_lab.engine.cluster_runner', fromlist=['cluster_runner'])"

_log: Final = logging.getLogger(__name__)


class ClusterOptions(Record, frozen=True, kw_only=True):
    """What the operator says about a Ray cluster; the words are those of `omnirt_lab.configure`."""

    address: str
    """`local`, `auto` or `HOST:PORT`."""

    cancel_grace_s: float = 5.0

    actors: int | None = None

    actor_cpus: float | None = None

    actor_gpus: float | None = None


class ClusterLane(Lane):
    """Lets its kernel know when jobs wait.

    Whether a job has a place, and whether it is to be cancelled, is the kernel's own matter: it kills an actor that
    does not stop. So a kernel that lives leaves no job in doubt, and one that has died leaves all of its jobs lost.
    """

    worker_kind = "cluster"

    def __init__(self, journal: Journal, base: Path, environment: Mapping[str, str], cluster: ClusterOptions) -> None:
        environment = {**environment, ADDRESS_VARIABLE: cluster.address}
        super().__init__(journal, set(), base, environment, LaneOptions(modes=CLUSTER_MODES))
        self._cluster = cluster

    async def run(self) -> None:
        """Work until cancelled, and leave no process behind."""
        try:
            while True:
                self.news.clear()
                if self._kernel is not None and self._kernel.died.is_set():
                    await self._bury()
                if await self._find_next() is not None:
                    await self._spread()
                try:
                    async with asyncio.timeout(IDLE_S):
                        await self.news.wait()
                except TimeoutError:
                    pass  # a look all the same: the feed may be blind
        finally:
            await self._leave()

    async def _spread(self) -> None:
        try:
            kernel = await self._kernel_at_work()
            await kernel.execute(f"{_MODULE}.spread()")
        except LabError as error:
            _log.warning("the jobs of the cluster are not taken: %s", error)
            await self._on_failure(str(error))
        except Exception as error:  # noqa: BLE001  # the lane outlives whatever befalls a kernel
            _log.exception("the jobs of the cluster are not taken")
            await self._on_failure(f"{type(error).__name__}: {error}")
        else:
            self._failures, self.trouble = 0, None

    async def _leave(self) -> None:
        """Have the kernel give up its jobs and leave the cluster, and kill it."""
        kernel = self._kernel
        if kernel is not None and not kernel.died.is_set():
            try:
                async with asyncio.timeout(_LEAVE_S):
                    await kernel.execute(f"{_MODULE}.leave()")
            except (TimeoutError, RunnerUnavailableError) as error:
                _log.warning("the runner %s is killed before it has left the cluster: %s", kernel.pid, error)
        await self._bury()

    def _beginning(self) -> str:
        options = self._cluster
        return (
            f"{_MODULE}.begin({RUNNER_QUEUE!r}, cancel_grace_s={options.cancel_grace_s!r}, "
            f"ray_actors={options.actors!r}, ray_actor_cpus={options.actor_cpus!r}, "
            f"ray_actor_gpus={options.actor_gpus!r})"
        )

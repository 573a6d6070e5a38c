"""One runner's place on a device: its kernel, started again when it dies, and the jobs that it is given."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from omnirt_lab.errors import LabError, RunnerUnavailableError
from omnirt_lab.journal import JobRecord, Journal
from omnirt_lab.records import ErrorInfo, ExecutionMode, JobState, Record
from omnirt_server.runner_kernel import RunnerKernel
from omnirt_server.submission import RUNNER_QUEUE

START_S: Final = 120.0
"""How long a kernel may take to load torch; a cold disk takes a minute."""

MAX_FAILURES: Final = 3
"""Attempts in a row that took no job, after which the waiting jobs fail."""

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 8.0
_LOOK_EVERY_S: Final = 0.25
"""How often a wish to cancel is looked for; the kernel itself looks at each step."""

IDLE_S: Final = 1.0
"""How often the queue is looked at without having been told of it."""

_RUNNING: Final[tuple[JobState, ...]] = ("running",)
_MOST_RUNNING: Final = 1_000

_MODULE: Final = "__import__('omnirt_lab.engine.runner', fromlist=['runner'])"

_log: Final = logging.getLogger(__name__)


class LaneOptions(Record, frozen=True, kw_only=True):
    """How a lane treats its kernel."""

    prewarm: bool = False

    loads_builtin: bool = False
    """Prewarming loads the built-in model too."""

    cancel_grace_s: float = 5.0
    """Seconds from a wish to cancel to the interrupt, and from there to the kill."""

    batch_window_ms: float | None = None
    """How long a job waits in the kernel for others that may share its call; None for one job a call."""

    max_batch_size: int = 8

    modes: tuple[ExecutionMode, ...] | None = None
    """Of the jobs that it takes; None for all."""


class Lane:
    """Takes jobs from the queue and gives them to its kernel, one after the other.

    1. `_next_job` waits until a job is queued that no other lane has in hand.
    2. `_kernel_at_work` is the kernel, started if there is none.
    3. `_run` sends it the job's id and waits for the answer; it presses ever harder where a job is to be cancelled.
       With batching the kernel takes jobs that may share the call along, which no lane has in hand.
    4. A kernel that has died, or has answered and left its job running, is buried, which ends the job as lost.
    5. A job that is still queued then was not taken: that counts as a failure, and after three in a row all fail.

    Parameters
    ----------
    in_hand
        Jobs that the server's lanes have taken from the queue; shared.
    base
        Path that the kernel's files begin with.
    """

    worker_kind = "runner"
    """What the kernel's worker is in the journal."""

    def __init__(
        self, journal: Journal, in_hand: set[str], base: Path, environment: Mapping[str, str], options: LaneOptions
    ) -> None:
        self.news = asyncio.Event()
        """Set it when a job was queued."""
        self.trouble: str | None = None
        """What keeps the kernel from taking jobs; None if all is well."""
        self._journal = journal
        self._in_hand = in_hand
        self._base = base
        self._environment = environment
        self._options = options
        self._kernel: RunnerKernel | None = None
        self._kernels = 0
        self._failures = 0

    async def run(self) -> None:
        """Work until cancelled, and leave no process behind."""
        try:
            if self._options.prewarm:
                await self._prewarm()
            while True:
                job_id = await self._next_job()
                self._in_hand.add(job_id)
                try:
                    await self._attempt(job_id)
                finally:
                    self._in_hand.discard(job_id)
        finally:
            await self._bury()

    async def _prewarm(self) -> None:
        try:
            kernel = await self._kernel_at_work()
            if self._options.loads_builtin:
                await kernel.execute(f"{_MODULE}.load_builtin()")
        except Exception as error:  # noqa: BLE001  # the lane outlives whatever befalls a kernel
            self.trouble = f"the runner could not be prewarmed: {error}"
            _log.warning("%s", self.trouble)

    async def _next_job(self) -> str:
        while True:
            self.news.clear()
            if self._kernel is not None and self._kernel.died.is_set():
                await self._bury()
            job_id = await self._find_next()
            if job_id is not None and job_id not in self._in_hand:
                return job_id
            try:
                async with asyncio.timeout(IDLE_S):
                    await self.news.wait()
            except TimeoutError:
                pass  # a look all the same: the feed may be blind

    async def _find_next(self) -> str | None:
        try:
            job = await asyncio.to_thread(
                self._journal.find_next, RUNNER_QUEUE, beside=tuple(self._in_hand), modes=self._options.modes
            )
        except LabError as error:
            _log.warning("the queue cannot be read now: %s", error)
            return None
        return None if job is None else job.job_id

    async def _attempt(self, job_id: str) -> None:
        """Have the job run, whatever becomes of it; wait a while where it was not taken."""
        trouble = "it took no job"
        try:
            await self._run(await self._kernel_at_work(), job_id)
        except LabError as error:
            trouble = str(error)
            _log.warning("job %s: %s", job_id, error)
        except Exception as error:  # noqa: BLE001  # the lane outlives whatever befalls a kernel
            trouble = f"{type(error).__name__}: {error}"
            _log.exception("job %s", job_id)
        try:
            was_taken = await self._settle(job_id)
        except LabError as error:
            trouble, was_taken = str(error), False
        if was_taken:
            self._failures, self.trouble = 0, None
        else:
            await self._on_failure(trouble)

    async def _settle(self, job_id: str) -> bool:
        """Leave no kernel in doubt, and say whether the job was taken."""
        job = await asyncio.to_thread(self._journal.get_job, job_id)
        kernel = self._kernel
        if kernel is not None:
            left = await asyncio.to_thread(self._running_in, kernel)
            if left or kernel.died.is_set():
                await self._bury()
        return job.state != "queued"

    async def _on_failure(self, trouble: str) -> None:
        self._failures += 1
        self.trouble = f"the runner has failed {self._failures} times in a row: {trouble}"
        if self._failures >= MAX_FAILURES:
            await self._fail_waiting(self.trouble)
        await asyncio.sleep(min(_FIRST_PAUSE_S * 2 ** (self._failures - 1), _LONGEST_PAUSE_S))

    async def _fail_waiting(self, trouble: str) -> None:
        """End the jobs that wait for a runner, unless another one lives that may take them."""
        error = ErrorInfo(
            type=RunnerUnavailableError.__name__,
            message=trouble,
            hint="Look into the server's log. A request that is sent again makes the server try again.",
        )
        try:
            others = await asyncio.to_thread(self._journal.live_workers)
            if not any(worker.kind == self.worker_kind for worker in others):
                failed = await asyncio.to_thread(
                    self._journal.fail_queued, RUNNER_QUEUE, error, modes=self._options.modes
                )
                _log.error("%s; %d jobs have failed", trouble, len(failed))
        except LabError as refusal:
            _log.error("%s; the waiting jobs cannot be ended now: %s", trouble, refusal)

    async def _kernel_at_work(self) -> RunnerKernel:
        """The kernel, ready for a job.

        Raises
        ------
        RunnerUnavailableError
            If it does not start.
        """
        if self._kernel is not None and not self._kernel.died.is_set():
            return self._kernel
        await self._bury()
        self._kernels += 1
        kernel = self._kernel = RunnerKernel(
            self._base.with_name(f"{self._base.name}-{self._kernels}.json"), self._environment
        )
        try:
            async with asyncio.timeout(START_S):
                await kernel.start()
                await kernel.execute(self._beginning())
        except TimeoutError as error:
            await self._bury()
            raise RunnerUnavailableError(
                f"the runner was not ready after {START_S:.0f} s", hint="See the server's log."
            ) from error
        except Exception:  # whatever it was passes on, and no kernel is left half-started
            await self._bury()
            raise
        return kernel

    def _beginning(self) -> str:
        """The code that makes the kernel a worker."""
        return (
            f"{_MODULE}.begin(batch_window_ms={self._options.batch_window_ms!r}, "
            f"max_batch_size={self._options.max_batch_size!r})"
        )

    async def _run(self, kernel: RunnerKernel, job_id: str) -> None:
        executing = asyncio.create_task(kernel.execute(f"{_MODULE}.run({job_id!r})"))
        pressure = _Pressure(kernel, self._options.cancel_grace_s)
        try:
            while not (await asyncio.wait({executing}, timeout=_LOOK_EVERY_S))[0]:
                if await self._should_stop(kernel, job_id):
                    await pressure.rise()
                else:
                    pressure.fall()
            executing.result()
        finally:
            executing.cancel()
            await asyncio.gather(executing, return_exceptions=True)

    async def _should_stop(self, kernel: RunnerKernel, job_id: str) -> bool:
        """Whether a job in the kernel is to be cancelled, or it has none left."""
        try:
            running = await asyncio.to_thread(self._running_in, kernel)
            if running:
                return any(job.cancel_requested for job in running)
            return await asyncio.to_thread(self._journal.is_cancel_requested, job_id)
        except LabError:  # not known any better than before
            return False

    def _running_in(self, kernel: RunnerKernel) -> list[JobRecord]:
        """The jobs that the kernel has claimed and not ended."""
        running = self._journal.list_jobs(states=_RUNNING, limit=_MOST_RUNNING)
        return [job for job in running if (job.worker_id or "").startswith(f"runner-{kernel.pid}-")]

    async def _bury(self) -> None:
        """Kill the kernel if it lives, and end what it ran."""
        kernel, self._kernel = self._kernel, None
        if kernel is None:
            return
        died_by_itself = kernel.died.is_set()
        if not died_by_itself:
            await kernel.kill()
        try:
            lost = await asyncio.to_thread(self._journal.reap_lost)
        except (LabError, OSError) as error:
            _log.warning("lost jobs cannot be ended now: %s", error)
        else:
            if lost:
                _log.warning("the runner %s ended, and with it: %s", kernel.pid, ", ".join(lost))
        if died_by_itself:
            await kernel.kill()  # what it had started, and its files


class _Pressure:
    """From the wish that a job stops, which its worker reads itself, to an interrupt, to a kill."""

    def __init__(self, kernel: RunnerKernel, grace_s: float) -> None:
        self._kernel = kernel
        self._grace_s = grace_s
        self._since_s: float | None = None
        self._was_interrupted = False

    def fall(self) -> None:
        """No job is to be cancelled, or no more."""
        self._since_s, self._was_interrupted = None, False

    async def rise(self) -> None:
        """Called again and again while the job goes on."""
        now_s = asyncio.get_running_loop().time()
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < self._grace_s:
            return
        if not self._was_interrupted:
            _log.warning("a job does not stop: the runner %s is interrupted", self._kernel.pid)
            self._was_interrupted, self._since_s = True, now_s
            await self._kernel.interrupt()
        else:
            _log.warning("a job does not stop: the runner %s is killed", self._kernel.pid)
            await self._kernel.kill()

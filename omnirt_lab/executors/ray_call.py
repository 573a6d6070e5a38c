"""The executor of many machines: actors on a Ray cluster run the jobs, and this process writes their events down.

An actor makes the same call as `legacy_call`, with caches of its own, and no part in this process's disk: the pictures
of a request travel with it, and what it makes comes back.

A run whose actor dies is tried again on another one, at most three times in all. Nothing of a lost attempt is taken
back: its events stay in the journal, its stages open, since nobody has seen them end. The next attempt's `job_started`
begins the report's stages, steps, memory and caches afresh, so that they are those of one attempt; `backend_timeline`
has every one, with its worker and node. A pipeline that raises has done so for its own reasons, and is not run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omnirt_lab.errors import ActorDiedError, JobCancelledError, LabError
from omnirt_lab.executors.following import Following, current_directory
from omnirt_lab.executors.ray_pool import ActorPool
from omnirt_lab.records import GenerateRequest, JobFinishedData, ProbeCost, WarningData

if TYPE_CHECKING:
    from omnirt_lab.journal import JobWriter

MAX_ATTEMPTS: Final = 3

_MAX_SILENT: Final = 10
"""Actors that may die before they have begun a run: as many as a lost node had idle ones, and no end of them."""


class RayExecutor:
    """Holds the actors of this process between jobs."""

    def __init__(self) -> None:
        self._pool = ActorPool()

    def check(self, request: GenerateRequest) -> None:
        """Check the request on an actor, whose node has the models; no weights are loaded.

        Raises
        ------
        InvalidRequestError, UnknownModelError
            For what is wrong with it, or with what was configured.
        ClusterUnreachableError
            If the cluster does not answer.
        """
        for _ in range(_MAX_SILENT):
            try:
                actor = self._pool.find_ready(_wait_on)
                if actor is not None:  # else the request's own run finds what is wrong with it
                    actor.check(request, directory=current_directory(), patience=_wait_on)
            except ActorDiedError:  # idle, or with another's run: this request has nothing to do with that
                continue
            return

    def begin(self, request: GenerateRequest, writer: JobWriter) -> RayCall:  # noqa: ARG002  # the writer's job
        """Take the job."""
        return RayCall(self._pool, writer)

    def places(self) -> int:
        """How many runs can go on side by side; 1 where that cannot be known: then the run itself says why."""
        try:
            return self._pool.places(_wait_on)
        except LabError:
            return 1

    def close(self) -> None:
        """Let go of the actors, and leave the cluster."""
        self._pool.close()


class RayCall:
    """One job: an actor is lent, and followed; when it dies, another one."""

    def __init__(self, pool: ActorPool, writer: JobWriter) -> None:
        self._pool = pool
        self._writer = writer
        self._following = Following(writer)

    @property
    def cost(self) -> ProbeCost:
        """What the probe in the actor cost a run that did not succeed."""
        return self._following.cost

    def run(self) -> JobFinishedData:
        """Have an actor run it.

        Raises
        ------
        JobTimeoutError
            When `timeout_s` is over, all attempts together; the actor is dead.
        ActorDiedError
            When the last attempt's actor has died.
        OutOfMemoryError
            When an actor has no memory left, and was ended.
        """
        files = self._files()
        attempt, silent = 1, 0
        while True:
            try:
                return self._attempt(attempt, files)
            except ActorDiedError as error:
                self._wait_on()
                if self._following.has_heard:
                    if attempt == MAX_ATTEMPTS:
                        raise _given_up(error) from error
                    self._warn(attempt, error)
                    attempt += 1
                else:
                    silent += 1
                    if silent == _MAX_SILENT:
                        raise

    def _attempt(self, attempt: int, files: dict[str, bytes]) -> JobFinishedData:
        self._following.has_heard = False
        with self._pool.lent(self._writer.job.request.model, self._wait_on) as actor:
            return self._following.run(actor, attempt=attempt, files=files)

    def _files(self) -> dict[str, bytes]:
        inputs = self._writer.job.request.inputs
        named = [sha256 for sha256 in (inputs.image, inputs.mask) if sha256 is not None]
        return {sha256: self._writer.artifacts.read(sha256) for sha256 in named}

    def _warn(self, attempt: int, error: ActorDiedError) -> None:
        self._writer.emit(
            WarningData(
                code="attempt_lost",
                message=f"attempt {attempt} of {MAX_ATTEMPTS} was lost, and the run begins again elsewhere: {error}",
                hint=error.hint,
            )
        )

    def _wait_on(self) -> None:
        self._following.require_time()
        if self._writer.is_cancel_requested():
            raise JobCancelledError("the job was cancelled while no actor ran it", hint="Run it again.")


def _given_up(error: ActorDiedError) -> ActorDiedError:
    return ActorDiedError(f"{MAX_ATTEMPTS} attempts were lost, the last one so: {error}", hint=error.hint)


def _wait_on() -> None:
    """Wait without end."""


EXECUTOR: Final = RayExecutor()

"""An actor as the process sees it that has hired it."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from omnirt_lab.errors import ActorDiedError, LabError, NotAvailableError
from omnirt_lab.executors.failures import error_of
from omnirt_lab.executors.following import TICK_S
from omnirt_lab.executors.messages import (
    PROTOCOL,
    VERSION,
    Check,
    Checked,
    Finished,
    FromWorker,
    Hello,
    Raised,
    Run,
    ToWorker,
    decode_from_worker,
    encode,
)
from omnirt_lab.executors.ray_actor import Actor
from omnirt_lab.executors.ray_cluster import Share, get_ray
from omnirt_lab.records import GenerateRequest

ANSWER_S: Final = 30.0
"""How long it may take to check a request; some milliseconds are usual."""

_THREADS: Final = 4
"""Of an actor: one run, and what is told beside it."""


class HiredActor:
    """One actor, its stream of messages, and what is known of it. One thread at a time runs something on it."""

    def __init__(self, share: Share) -> None:
        ray = get_ray()
        self.share = share
        self.is_lent = False
        """Whoever lends it has given it to a run."""
        self.is_busy = False
        self.is_lost = False
        """It has died, or was killed: nothing more is to be asked of it."""
        self.models: set[str] = set()
        """What it has run: most likely it still has their weights."""
        self.name = "a new actor"
        self._inbox: deque[FromWorker] = deque()
        self._stream: Any = None
        self._numbers = itertools.count(1)
        self._handle = (
            ray.remote(Actor)
            .options(
                num_cpus=share.cpus,
                num_gpus=share.gpus,
                max_restarts=0,  # whoever has the run tries it again, and says so
                max_task_retries=0,
                max_concurrency=_THREADS,
            )
            .remote()
        )
        self._hello = self._handle.hello.remote()
        self._is_greeted = False

    @property
    def has_news(self) -> bool:
        """`receive` would not wait."""
        return bool(self._inbox) or self._has_lot(0)

    def is_ready(self) -> bool:
        """Whether it can run jobs now.

        Raises
        ------
        NotAvailableError
            If its node lacks omnirt-lab or a library of it, or has another version.
        ActorDiedError
            If it has died.
        """
        if self._is_greeted:
            return True
        if not get_ray().wait([self._hello], timeout=0)[0]:
            return False
        hello = self._get(self._hello)
        assert isinstance(hello, Hello)
        if (hello.protocol, hello.version) != (PROTOCOL, VERSION):
            self.kill()
            raise NotAvailableError(
                f"{hello.node} has omnirt-lab {hello.version}, and this process has {VERSION}",
                hint=f"Install this version on each node: pip install omnirt-lab=={VERSION}",
            )
        self.name = f"actor {hello.pid} on {hello.node}"
        self._is_greeted = True
        return True

    def check(self, request: GenerateRequest, *, directory: str, patience: Callable[[], None]) -> None:
        """Have it say what is wrong with a request, also while it runs another one.

        Raises
        ------
        LabError
            What is wrong.
        ActorDiedError
            If it dies before it answers.
        """
        check = Check(number=next(self._numbers), request=request, directory=directory)
        answer = self._handle.tell.remote(encode(check))
        deadline_s = time.monotonic() + ANSWER_S
        while not get_ray().wait([answer], timeout=TICK_S)[0]:
            patience()
            if time.monotonic() > deadline_s:
                return  # what it runs leaves it no time; the request's own run finds what is wrong with it
        checked = self._get(answer)
        if isinstance(checked, Checked) and checked.error is not None:
            raise error_of(checked.error)

    def send(self, message: ToWorker) -> None:
        """Say something; that it is gone is for `receive` to tell."""
        if isinstance(message, Run):
            self.is_busy = True
            self.models.add(message.job.request.model)
            self._stream = self._handle.run.options(num_returns="streaming").remote(encode(message))
        else:
            self._handle.tell.remote(encode(message))

    def receive(self, timeout_s: float) -> FromWorker | None:
        """The next that it says of its run; None if it says nothing for so long.

        Raises
        ------
        ActorDiedError
            When it has died, and all that had arrived was received.
        """
        if not self._inbox:
            if not self._has_lot(timeout_s):
                return None
            lot = self._get_lot()
            self._inbox.extend(map(decode_from_worker, lot))
        message = self._inbox.popleft()
        if isinstance(message, Finished | Raised):
            self.is_busy = False
        return message

    def kill(self) -> None:
        """End it now."""
        self.is_lost = True
        ray = get_ray()
        if ray.is_initialized():  # else Ray would start a cluster to ask
            ray.kill(self._handle)

    def _has_lot(self, timeout_s: float) -> bool:
        ray = get_ray()
        if not ray.is_initialized():  # Ray would start a cluster to ask
            raise self._death("the cluster was left")
        return self._stream is not None and bool(ray.wait([self._stream], timeout=timeout_s)[0])

    def _get_lot(self) -> list[bytes]:
        ray = get_ray()
        try:
            lot: list[bytes] = ray.get(next(self._stream))
        except StopIteration as error:
            raise self._death("its stream has ended before the run") from error
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            raise self._death(str(error)) from error
        return lot

    def _get(self, answer: Any) -> FromWorker:
        """What was answered to something that is no run."""
        ray = get_ray()
        try:
            return decode_from_worker(ray.get(answer))
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            if isinstance(error, ray.exceptions.RayActorError) and error.actor_init_failed:
                raise NotAvailableError(
                    f"no actor can be made: {str(error).strip().splitlines()[-1]}",
                    hint=f"Each node needs omnirt-lab {VERSION} and its libraries, where its Ray finds them.",
                ) from error
            raise self._death(str(error)) from error

    def _death(self, reason: str) -> LabError:
        self.is_lost, self.is_busy = True, False
        return ActorDiedError(
            f"{self.name} has died: {_in_short(reason)}",
            hint="Its node was lost or its process killed, most often for want of memory: see that node's logs.",
        )


def _in_short(reason: str) -> str:
    """Ray's own words, without the lines that name what was called."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("class_name:", "actor_id:", "pid:", "namespace:", "ip:"))]
    return " ".join(said)[:500] or "Ray does not say why"

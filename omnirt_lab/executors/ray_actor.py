"""What a Ray actor is: a process that keeps pipelines and runs jobs, wherever on the cluster it was put."""

from __future__ import annotations

import os
import platform
import queue
import threading
from collections.abc import Iterator

from omnirt_lab.executors import get_executor
from omnirt_lab.executors.far_worker import FarWorker, checked
from omnirt_lab.executors.messages import (
    PROTOCOL,
    VERSION,
    Check,
    Finished,
    FromWorker,
    Hello,
    Raised,
    decode_to_worker,
    encode,
)


class Actor:
    """Ray calls its methods in several threads; one of its own works."""

    def __init__(self) -> None:
        from ray import get_runtime_context  # only where an actor lives

        node_id = get_runtime_context().get_node_id()
        self._node = f"{platform.node()}/{node_id[:8]}"
        self._outbox: queue.SimpleQueue[FromWorker] = queue.SimpleQueue()
        self._worker = FarWorker(self._outbox.put, name=f"actor-{node_id[:8]}-{os.getpid()}", node=self._node)
        get_executor("legacy_call")  # loads torch
        threading.Thread(target=self._worker.work, name="omnirt-actor", daemon=True).start()

    def hello(self) -> bytes:
        """Say who it is; Ray answers when the actor stands, and has loaded its libraries."""
        hello = Hello(
            protocol=PROTOCOL, version=VERSION, python=platform.python_version(), pid=os.getpid(), node=self._node
        )
        return encode(hello)

    def run(self, message: bytes) -> Iterator[list[bytes]]:
        """Run a job, and yield what there is to say of it, in lots, until its end."""
        self._worker.take(decode_to_worker(message))
        is_over = False
        while not is_over:
            lot = [self._outbox.get()]
            while not self._outbox.empty():
                lot.append(self._outbox.get())
            is_over = isinstance(lot[-1], Finished | Raised)
            yield [encode(said) for said in lot]

    def tell(self, message: bytes) -> bytes | None:
        """Take what is said beside the run; the answer to a `Check`."""
        told = decode_to_worker(message)
        if isinstance(told, Check):
            return encode(checked(told))
        self._worker.take(told)
        return None

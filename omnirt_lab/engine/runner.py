"""The process that a server's runner is: a private kernel that is told the ids of jobs, and runs them.

`python -m omnirt_lab.engine.runner -f CONNECTION_FILE` is the kernel; the code that it is sent calls `begin`, then
`run` once a job. Nothing but the id crosses; what is wanted stands in the journal.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

from ipykernel.kernelapp import IPKernelApp

from omnirt_lab.engine.engine import Engine
from omnirt_lab.executors import get_executor
from omnirt_lab.executors.collection import end_quickly
from omnirt_lab.executors.parenthood import die_with_parent
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal import Journal
from omnirt_lab.records import GenerateRequest

_JOB_ID: Final = re.compile(r"[0-9a-f]{32}")

_PARENT_VARIABLE: Final = "JPY_PARENT_PID"
"""Where jupyter_client tells a kernel who started it."""

_engines: Final[list[Engine]] = []
"""The process's one engine, once it has begun."""


def begin(*, batch_window_ms: float | None = None, max_batch_size: int | None = None) -> str:
    """Load torch, open the journal, and register as a worker; its id. Without effect the second time.

    The settings are those of `omnirt_lab.configure`.
    """
    if not _engines:
        SETTINGS.change(batch_window_ms=batch_window_ms, max_batch_size=max_batch_size)
        get_executor("legacy_call")
        _engines.append(Engine(Journal.open(), worker_kind="runner"))
    return _engines[0].worker.worker_id


def load_builtin() -> None:
    """Make the built-in model resident, so that the first job need not wait for it."""
    from omnirt_lab.executors.resources import RESOURCES  # loads torch
    from omnirt_lab.pipelines.catalog import get_model

    request = GenerateRequest()
    with RESOURCES.residency.use(get_model(request.model), task=request.task):
        pass


def run(job_id: str) -> None:
    """Claim the job and run it to its end, whatever that is; nothing happens if it is not queued any more.

    Where batching is on, queued jobs that may share its call run with it.

    Raises
    ------
    ValueError
        If it is no job id.
    JobNotFoundError, JournalError
        If the journal has no such job, or cannot be used.
    """
    if not _JOB_ID.fullmatch(job_id):
        msg = f"{job_id!r} is no job id: 32 hex digits"
        raise ValueError(msg)
    begin()
    _engines[0].take(job_id)


def main() -> None:
    """Be a kernel until the server ends; where this is not Linux, ipykernel looks for it once a second."""
    parent = os.environ.get(_PARENT_VARIABLE)
    die_with_parent(None if parent is None else int(parent))
    end_quickly()
    IPKernelApp.launch_instance([*sys.argv[1:], "--IPKernelApp.ignore_cwd=True", "--HistoryManager.enabled=False"])


if __name__ == "__main__":
    main()

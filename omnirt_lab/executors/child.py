"""The child process of the `subprocess` mode: runs what its parent sends, one job after the other, until that ends.

`python -m omnirt_lab.executors.child READ_FD WRITE_FD PARENT_PID`, started by `subprocess_child`. The messages have
descriptors of their own, so that nothing that is printed gets among them.
"""

from __future__ import annotations

import os
import platform
import queue
import sys
import threading
from contextlib import suppress
from typing import Final

from omnirt_lab.executors import get_executor
from omnirt_lab.executors.elsewhere import RemoteWriter, execute
from omnirt_lab.executors.failures import error_info
from omnirt_lab.executors.frames import CHUNK_BYTES, FrameBuffer, FrameWriter
from omnirt_lab.executors.messages import (
    PROTOCOL,
    VERSION,
    Cancel,
    Check,
    Checked,
    FromWorker,
    Hello,
    Ready,
    Run,
    ShowPreviews,
    ToWorker,
    decode_to_worker,
    encode,
)
from omnirt_lab.executors.parenthood import die_with_parent
from omnirt_lab.executors.settings import SETTINGS

_PARENT_GONE: Final = 1


class Child:
    """Two threads: the main one works, the other one listens, so that a cancel is heard in the middle of a step.

    The listening thread answers checks itself, and ends the process where the parent closes its side: files are
    written whole or not at all, so nothing needs to be put away.
    """

    def __init__(self, read_descriptor: int, write_descriptor: int) -> None:
        self._read_descriptor = read_descriptor
        self._frames = FrameWriter(write_descriptor)
        self._runs: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._cancelled_run: str | None = None
        self._shows_previews = False

    def say(self, message: FromWorker) -> None:
        """Send a message; without a parent there is nothing left to do."""
        try:
            self._frames.write(encode(message))
        except OSError:
            os._exit(_PARENT_GONE)

    def listen(self) -> None:
        """Take what the parent says, until it says no more."""
        try:
            buffer = FrameBuffer()
            while chunk := os.read(self._read_descriptor, CHUNK_BYTES):
                for frame in buffer.add(chunk):
                    self._take(decode_to_worker(frame))
        finally:
            os._exit(0)

    def work(self) -> None:
        """Run what is sent, for ever."""
        while True:
            run = self._runs.get()
            _enter(run.directory)
            SETTINGS.current = run.settings
            self.say(execute(self._writer(run)))

    def _take(self, message: ToWorker) -> None:
        match message:
            case Run():
                self._shows_previews = message.shows_previews
                self._runs.put(message)
            case Cancel():
                self._cancelled_run = message.run_id
            case ShowPreviews():
                self._shows_previews = message.wanted
            case Check():
                self.say(_checked(message))

    def _writer(self, run: Run) -> RemoteWriter:
        return RemoteWriter(
            run,
            self.say,
            worker_id=f"{run.worker_id}/child-{os.getpid()}",
            is_cancelled=lambda: self._cancelled_run == run.job.run_id,
            wants_preview=lambda: self._shows_previews,
        )


def _checked(check: Check) -> Checked:
    _enter(check.directory)
    try:
        get_executor("legacy_call").check(check.request)
    except Exception as error:  # noqa: BLE001  # whatever it was, the parent waits for the answer
        return Checked(number=check.number, error=error_info(error, stage=None))
    return Checked(number=check.number)


def _enter(directory: str) -> None:
    with suppress(OSError):  # it is gone: then relative paths name nothing, and their own error says so
        os.chdir(directory)


def main() -> None:
    """Greet, load torch, and work."""
    read_descriptor, write_descriptor, parent_pid = (int(word) for word in sys.argv[1:4])
    die_with_parent(parent_pid)
    for descriptor in (read_descriptor, write_descriptor):
        os.set_inheritable(descriptor, False)
    child = Child(read_descriptor, write_descriptor)
    child.say(Hello(protocol=PROTOCOL, version=VERSION, python=platform.python_version()))
    threading.Thread(target=child.listen, name="omnirt-parent", daemon=True).start()
    get_executor("legacy_call")  # loads torch
    child.say(Ready())
    child.work()


if __name__ == "__main__":
    main()

"""The child process of the `subprocess` mode: runs what its parent sends, one job after the other, until that ends.

`python -m omnirt_lab.executors.child READ_FD WRITE_FD PARENT_PID`, started by `subprocess_child`. The messages have
descriptors of their own, so that nothing that is printed gets among them.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
from typing import Final

from omnirt_lab.executors import get_executor
from omnirt_lab.executors.far_worker import FarWorker
from omnirt_lab.executors.frames import CHUNK_BYTES, FrameBuffer, FrameWriter
from omnirt_lab.executors.messages import PROTOCOL, VERSION, FromWorker, Hello, Ready, decode_to_worker, encode
from omnirt_lab.executors.parenthood import die_with_parent

_PARENT_GONE: Final = 1


class Child:
    """Two threads: the main one works, the other one listens.

    The listening thread answers checks itself, and ends the process where the parent closes its side: files are
    written whole or not at all, so nothing needs to be put away.
    """

    def __init__(self, read_descriptor: int, write_descriptor: int) -> None:
        self._read_descriptor = read_descriptor
        self._frames = FrameWriter(write_descriptor)
        self._worker = FarWorker(self.say, name=f"child-{os.getpid()}")

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
                    self._worker.take(decode_to_worker(frame))
        finally:
            os._exit(0)

    def work(self) -> None:
        """Run what is sent, for ever."""
        self._worker.work()


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

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from omnirt_lab.journal.background import Background


@pytest.fixture
def _threads_change_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_threads_change_often")
def test_threads_that_ask_first_and_at_once_are_all_heard():
    for _ in range(100):
        background, together, done, failed = Background(), threading.Barrier(4), [], []

        def ask(background=background, together=together, done=done, failed=failed) -> None:
            together.wait()
            try:
                background.soon(lambda: done.append(None), after_ns=0)
            except RuntimeError as error:
                failed.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        background.close()

        assert (len(done), failed) == (4, [])

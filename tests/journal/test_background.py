from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omnirt_lab.journal import Journal
from omnirt_lab.journal.background import SOON_NS, Background
from omnirt_lab.records import JobFinishedData
from omnirt_lab.units import NS_PER_S
from tests.journal.writing import begin, step

AN_HOUR_NS = 3_600 * NS_PER_S


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


def test_the_end_waits_for_what_an_action_asks_for_too_and_leaves_no_thread():
    before, background, done = set(threading.enumerate()), Background(), []

    background.soon(lambda: background.soon(lambda: done.append(None), after_ns=AN_HOUR_NS), after_ns=AN_HOUR_NS)
    background.close()

    assert done == [None]
    assert set(threading.enumerate()) <= before


def test_it_goes_on_after_its_end_with_a_new_thread_and_puts_off_again():
    background, asked = Background(), threading.Event()
    background.soon(lambda: None)
    background.close()

    background.soon(asked.set)

    assert asked.wait(60)
    assert not background.is_closing
    background.close()


def test_the_end_stores_what_a_running_job_has_put_off_and_an_ended_job_puts_nothing_off(state_dir: Path):
    with Journal.open() as journal:
        journal._background = background = Counting()
        with journal.worker() as worker:
            ended, running = begin(journal, worker), begin(journal, worker)
            for writer in (ended, running):
                step(writer, 0)
                step(writer, 1)
            ended.finish(JobFinishedData())
            background.close()

            asked_per_job = [background.asked.count(writer._flush_late) for writer in (ended, running)]
            assert asked_per_job == [1, 1]
            assert tuple(journal.events(running.job.job_id)) == running.events


class Counting(Background):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Callable[[], None]] = []

    def soon(self, action: Callable[[], None], *, after_ns: int = SOON_NS) -> None:
        self.asked.append(action)
        super().soon(action, after_ns=after_ns)

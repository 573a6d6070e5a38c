"""What every test gets: one torch thread, a state directory of its own, and a check that nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch loads; two threads on shared cores slow tiny models fifteenfold
os.environ["HF_HUB_OFFLINE"] = "1"
gc.disable()  # until the tests begin: what is imported until then stays
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would children


START_PROCESSES = ("server", "notebook", "widgets", "executors")
"""Folders whose files take longest."""

THREAD_PATIENCE_S = 10


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first, so that short ones fill the end, and no process waits there for another's long one."""
    items.sort(key=lambda item: not set(START_PROCESSES) & {item.path.parent.name})


def pytest_collection_finish() -> None:
    """Spare the garbage collector the libraries, which each eviction would have it look through."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh state directory, so that no test sees another's journal or the user's."""
    path = tmp_path / "state"
    monkeypatch.setenv("OMNIRT_STATE_DIR", str(path))
    return path


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    started = [t for t in threading.enumerate() if t not in before and not t.daemon]
    for thread in started:
        thread.join(THREAD_PATIENCE_S)  # transformers does not wait for those that read weights when a load has failed
    left = [t for t in started if t.is_alive()]
    assert left == [], f"threads left running: {left}"

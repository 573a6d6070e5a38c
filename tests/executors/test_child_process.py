"""The child's process by itself: which pythons it may be, and that it ends with whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from omnirt_lab import Lab
from omnirt_lab.errors import InvalidRequestError, NotAvailableError
from omnirt_lab.executors import get_executor
from omnirt_lab.executors.child_death import death_of
from omnirt_lab.executors.failures import error_info
from omnirt_lab.executors.messages import VERSION
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.executors.subprocess_call import EXECUTOR
from omnirt_lab.executors.subprocess_child import ChildProcess
from tests.executors import environments
from tests.executors.processes import children

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a child takes over pipes, which Windows does not do")

DEADLINE_S = 60.0

PARENT = """
import os, signal, sys
from tests.executors.test_child_process import at_hand

child = at_hand()
os.kill(child.pid, signal.SIGSTOP)  # it does not notice by itself that nobody speaks to it any more
print(child.pid, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab, after which the settings are as they were."""
    before = SETTINGS.current
    with Lab() as opened:
        yield opened
    SETTINGS.current = before


def greeted(child: ChildProcess) -> ChildProcess:
    """The child, once it has said who it is; torch is not loaded yet."""
    wait_for(lambda: child._greeted or child.has_ended)
    return child


def at_hand() -> ChildProcess:
    """The executor's own child, greeted; nobody uses it."""
    with EXECUTOR._in_use() as child:
        return greeted(child)


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_python_with_another_version_is_refused(lab: Lab, tmp_path: Path) -> None:
    lab.configure(subprocess_python=environments.make(tmp_path / "old", version="0.0.9"))

    with pytest.raises(NotAvailableError, match=f"has omnirt-lab 0.0.9, and this process has {VERSION}") as caught:
        lab.generate("a red circle", execution_mode="subprocess")

    assert f"-m pip install omnirt-lab=={VERSION}" in caught.value.hint
    assert len(lab.history()) == 0


def test_a_python_without_the_lab_is_refused(lab: Lab, tmp_path: Path) -> None:
    lab.configure(subprocess_python=environments.make(tmp_path / "bare", sees_packages=False))

    with pytest.raises(NotAvailableError, match="No module named") as caught:
        lab.submit("a red circle", execution_mode="subprocess")

    assert "pip install" in caught.value.hint
    assert lab.journal.list_jobs() == []


def test_what_is_no_program_is_refused(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(NotAvailableError, match="no-such-python"):
        lab.configure(subprocess_python=tmp_path / "no-such-python")
    with pytest.raises(InvalidRequestError, match="cancel_grace_s"):
        lab.configure(cancel_grace_s=-1)

    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o700)
    lab.configure(subprocess_python=tmp_path / "text")
    with pytest.raises(NotAvailableError, match="cannot be started"):
        lab.generate("a red circle", execution_mode="subprocess")


def test_of_a_crash_the_thread_that_crashed_is_told() -> None:
    code = "import ctypes, threading; threading.Thread(target=threading.Event().wait, daemon=True).start(); "
    crashed = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", f"{code} print('first'); ctypes.string_at(0)"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip

    error = death_of(7, crashed.returncode, crashed.stdout, python="python", was_ready=True)

    assert "was killed by SIGSEGV" in str(error)
    told = str(error.__cause__).strip().splitlines()
    assert told[0] == "Fatal Python error: Segmentation fault"
    assert told[2].startswith("Current thread")
    assert "string_at" in told[3]
    assert error_info(error, stage=None).traceback == "\n".join(told)


def test_of_an_exit_the_last_line_is_told() -> None:
    error = death_of(7, 3, "a warning\nImportError: no torch\n", python="/bin/python", was_ready=False)

    assert "exited with status 3: ImportError: no torch" in str(error)
    assert "/bin/python" in error.hint


@pytest.mark.parametrize("end", ["by itself", "by SIGKILL"])
def test_a_child_ends_with_its_parent_even_when_it_is_stopped(end: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))

    if end == "by SIGKILL":
        parent.kill()
    parent.communicate("\n")

    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_child_outlives_the_thread_that_asked_for_it_and_ends_with_its_group() -> None:
    children: list[ChildProcess] = []
    thread = threading.Thread(target=lambda: children.append(greeted(ChildProcess(sys.executable))))
    thread.start()
    thread.join()
    (child,) = children
    process = psutil.Process(child.pid)

    assert process.status() != psutil.STATUS_ZOMBIE
    assert not child.has_ended

    child.stop()
    assert child.has_ended
    assert not process.is_running()


def test_a_cleared_cache_and_a_closed_lab_have_no_child(lab: Lab) -> None:
    for end in (lab.cache.clear, lab.engine.close):
        get_executor("subprocess")
        child = at_hand()

        end()

        assert child.has_ended
        assert lab.cache.stats()["workers"] == {}
        assert children() == []


def test_a_forked_process_leaves_its_parent_s_child_alone() -> None:
    child = at_hand()
    forked = os.fork()
    if not forked:
        EXECUTOR.kill()
        os._exit(0 if EXECUTOR._child is None else 1)

    assert os.waitpid(forked, 0)[1] == 0
    assert at_hand() is child
    assert psutil.pid_exists(child.pid or 0)
    EXECUTOR.close()
    assert child.has_ended

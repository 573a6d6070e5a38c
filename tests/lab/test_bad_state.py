"""A state directory that cannot be used: a typed error that says what to do, nothing half-written, a usable kernel."""

from __future__ import annotations

import logging.handlers
import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from omnirt_lab import Lab, LabError
from omnirt_lab.errors import (
    JournalCorruptError,
    JournalLockedError,
    JournalTooNewError,
    StateDirError,
)
from tests.journal.writing import run, wish

PROMPT = "a red circle on a blue background"

QUICK = {"steps": 2, "seed": 7, "progress": False}

CALLS: dict[str, Callable[[Lab], object]] = {
    "generate": lambda lab: lab.generate(PROMPT, **QUICK),
    "submit": lambda lab: lab.submit(PROMPT, steps=2),
    "history": lambda lab: lab.history(),
    "last_report": lambda lab: lab.last_report(),
    "get_report": lambda lab: lab.get_report("abcdef"),
    "get_job": lambda lab: lab.get_job("abcdef"),
}
"""Every way into the journal."""


def below_a_file(path: Path) -> Path:
    path.write_text("a letter")
    return path / "omnirt"


def in_proc(path: Path) -> Path:
    return Path("/proc/omnirt")


def foreign(path: Path) -> Path:
    path.mkdir()
    (path / "journal.db").write_bytes(b"this is a letter, no database\n" * 500)
    return path


def truncated(path: Path) -> Path:
    _with_runs(path, 10)
    os.truncate(path / "journal.db", (path / "journal.db").stat().st_size // 2)
    return path


def newer(path: Path) -> Path:
    _with_runs(path, 1)
    connection = sqlite3.connect(path / "journal.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    return path


def _with_runs(path: Path, count: int) -> None:
    with Lab(path) as lab:
        for _ in range(count):
            run(lab.journal, lab.engine.worker)


NO_PROC = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a /proc that nobody can write")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("spoil", "error", "code", "said"),
    [
        (below_a_file, StateDirError, "state_dir_unusable", "OMNIRT_STATE_DIR"),
        pytest.param(in_proc, StateDirError, "state_dir_unusable", "OMNIRT_STATE_DIR", marks=NO_PROC),
        (foreign, JournalCorruptError, "journal_corrupt", "Move it away"),
        (truncated, JournalCorruptError, "journal_corrupt", ".recover"),
        (newer, JournalTooNewError, "journal_too_new", "Upgrade omnirt-lab"),
    ],
)
def test_a_state_that_cannot_be_used_says_what_to_do_stays_as_it_is_and_is_left_by_the_variable(
    monkeypatch: pytest.MonkeyPatch,
    lab: Lab,
    tmp_path: Path,
    spoil: Callable[[Path], Path],
    error: type[LabError],
    code: str,
    said: str,
    call: str,
) -> None:
    state = spoil(tmp_path / "spoilt")
    monkeypatch.setenv("OMNIRT_STATE_DIR", str(state))
    before = _contents(tmp_path / "spoilt")

    for _ in range(2):
        with pytest.raises(error) as caught:
            CALLS[call](lab)
        assert caught.value.code == code
        assert said in caught.value.hint
        assert caught.value.hint in "".join(caught.value.__notes__)

    assert _contents(tmp_path / "spoilt") == before
    monkeypatch.setenv("OMNIRT_STATE_DIR", str(tmp_path / "elsewhere"))
    for usable in (lab, Lab()):
        assert run(usable.journal, usable.engine.worker).state == "succeeded"
        usable.close()


@pytest.mark.parametrize("spoil", [below_a_file, foreign])
def test_the_same_kernel_draws_after_the_variable_points_elsewhere(
    monkeypatch: pytest.MonkeyPatch, lab: Lab, tmp_path: Path, spoil: Callable[[Path], Path]
) -> None:
    monkeypatch.setenv("OMNIRT_STATE_DIR", str(spoil(tmp_path / "spoilt")))
    with pytest.raises(LabError):
        lab.generate(PROMPT, **QUICK)

    monkeypatch.setenv("OMNIRT_STATE_DIR", str(tmp_path / "elsewhere"))
    result = lab.generate(PROMPT, **QUICK)

    assert result.images[0].size == (64, 64)
    assert [row.run_id for row in lab.history()] == [result.report.run_id]


@pytest.mark.parametrize("call", ["generate", "submit"])
def test_a_journal_that_another_process_keeps_locked_is_a_typed_error_and_free_afterwards(
    state_dir: Path, call: str
) -> None:
    with Lab(busy_timeout_s=0.05) as lab:
        kept = run(lab.journal, lab.engine.worker)
        other = sqlite3.connect(state_dir / "journal.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(JournalLockedError) as caught:
            CALLS[call](lab)

        assert "fuser" in caught.value.hint
        assert [row.run_id for row in lab.history()] == [kept.run_id], "reading goes on"
        assert lab.journal.list_jobs(states={"queued", "running"}) == []
        other.execute("ROLLBACK")
        other.close()
        assert lab.generate(PROMPT, **QUICK).report.state == "succeeded"
        assert len(lab.history()) == 2


@pytest.mark.parametrize("call", ["generate", "submit"])
def test_a_lab_that_cannot_enter_a_locked_journal_leaves_nothing_in_it_and_reads_it(state_dir: Path, call: str) -> None:
    _with_runs(state_dir, 1)
    other = sqlite3.connect(state_dir / "journal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with Lab(busy_timeout_s=0.05) as lab:
        with pytest.raises(JournalLockedError):
            CALLS[call](lab)

        assert len(lab.history()) == 1
        assert list((state_dir / "workers").iterdir()) == []
        other.execute("ROLLBACK")
        other.close()
        assert lab.journal.list_jobs(states={"queued", "running"}) == []


def test_the_queues_thread_outlives_a_locked_journal(state_dir: Path) -> None:
    said: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler, log = logging.handlers.QueueHandler(said), logging.getLogger("omnirt_lab.engine.engine")
    log.addHandler(handler)
    with Lab(busy_timeout_s=0.05) as lab:
        lab.submit(PROMPT, steps=1).result(timeout=60)
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "omnirt-engine"]
        other = sqlite3.connect(state_dir / "journal.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        lab.engine._work_arrived.set()
        assert "no job can be taken now" in said.get(timeout=60).getMessage()
        other.execute("ROLLBACK")
        other.close()

        assert lab.submit(PROMPT, steps=1).result(timeout=60).report.state == "succeeded"

        assert thread.is_alive()
    log.removeHandler(handler)


def test_lost_jobs_that_cannot_be_ended_now_do_not_hide_the_history(state_dir: Path) -> None:
    with Lab(busy_timeout_s=0.05) as lab:
        kept = run(lab.journal, lab.engine.worker)
        gone = Lab()
        job = gone.journal.enqueue(wish(), owner=gone.engine.worker)
        gone.close()
        other = sqlite3.connect(state_dir / "journal.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        assert [row.run_id for row in lab.history()] == [kept.run_id]

        other.execute("ROLLBACK")
        other.close()
        assert [(row.run_id, row.state) for row in lab.history(state="lost")] == [(job.run_id, "lost")]


def test_a_journal_that_is_full_is_a_typed_error_and_whatever_it_holds_is_whole(lab: Lab) -> None:
    with lab.journal._database.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 8}")

    with pytest.raises(StateDirError, match="full") as caught:
        _generate_until_it_raises(lab)

    assert "Free some space" in caught.value.hint
    for row in lab.history():
        assert lab.get_report(row.run_id).state == row.state
    with lab.journal._database.reading() as connection:
        connection.execute("PRAGMA max_page_count = 4294967294")
    assert lab.generate(PROMPT, **QUICK).report.state == "succeeded"


def _generate_until_it_raises(lab: Lab) -> None:
    for _ in range(100):
        lab.generate("a red circle " * 500, **QUICK)


def _contents(path: Path) -> dict[str, bytes]:
    """Bytes of the directory's files; beside the journal, an empty lock file is nothing written."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    files = [found for found in path.rglob("*") if found.is_file() and found.name != "open.lock"]
    return {str(found.relative_to(path)): found.read_bytes() for found in files}

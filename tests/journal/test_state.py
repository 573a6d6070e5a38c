from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from omnirt_lab.errors import (
    JournalCorruptError,
    JournalLockedError,
    JournalTooNewError,
    StateDirError,
)
from omnirt_lab.journal import Journal, RunQuery, state_dir
from omnirt_lab.journal.state import usable_directory
from tests.journal.writing import REPOSITORY, begin, denoise, run, wish

NOBODY = 65534


class Mounted(NamedTuple):
    mountpoint: str
    fstype: str


@contextmanager
def no_longer_root() -> Iterator[None]:
    """File modes mean nothing to root."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_the_state_directory_is_the_variables_then_xdgs_then_under_home(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMNIRT_STATE_DIR", "/somewhere/else")
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert state_dir() == Path("/somewhere/else")

    monkeypatch.delenv("OMNIRT_STATE_DIR")
    assert state_dir() == Path("/xdg/omnirt")

    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_dir() == Path.home() / ".local/state/omnirt"


def test_the_journal_is_for_its_owner_only(journal: Journal):
    run(journal, journal.worker())

    modes = {path.name: path.stat().st_mode & 0o777 for path in journal.directory.rglob("*")}
    assert journal.directory.stat().st_mode & 0o777 == 0o700
    assert modes["journal.db"] == modes["journal.db-wal"] == modes["journal.db-shm"] == 0o600
    assert modes["workers"] == 0o700
    assert {mode for name, mode in modes.items() if name.endswith(".lock")} == {0o600}


def test_what_was_written_is_there_when_it_is_opened_again():
    with Journal.open() as journal:
        report = run(journal, journal.worker())
    with Journal.open() as journal:
        assert journal.get_report(report.run_id) == report


def test_a_closed_journal_leaves_no_log_behind(journal: Journal):
    run(journal, journal.worker())

    journal.close()

    assert {path.name for path in journal.directory.iterdir()} <= {"journal.db", "open.lock", "workers", "artifacts"}


def test_threads_that_open_a_fresh_journal_at_once_all_get_it(state_dir: Path):
    opened: list[Journal] = []
    threads = [threading.Thread(target=lambda: opened.append(Journal.open())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for journal in opened:
        journal.enqueue(wish(), is_async=True)
        journal.close()
    assert len(opened) == 6


def test_a_read_only_directory_is_a_typed_error_and_nothing_is_written(state_dir: Path):
    state_dir.mkdir(mode=0o500)
    if os.getuid() == 0:
        os.chown(state_dir, NOBODY, NOBODY)
        for parent in state_dir.parents[:2]:
            parent.chmod(0o755)

    with no_longer_root(), pytest.raises(StateDirError) as error:
        Journal.open(state_dir)

    assert "OMNIRT_STATE_DIR" in error.value.hint
    assert list(state_dir.iterdir()) == []


@pytest.mark.parametrize("path", ["a_file/omnirt", "a_file"])
def test_a_directory_that_cannot_be_made_is_a_typed_error(tmp_path: Path, path: str):
    (tmp_path / "a_file").write_text("not a directory")

    with pytest.raises(StateDirError, match="a_file"):
        Journal.open(tmp_path / path)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path):
    tmp_path.chmod(0o777)
    os.chown(tmp_path, NOBODY, NOBODY)

    with pytest.raises(StateDirError, match="another user"):
        Journal.open(tmp_path)


def test_a_network_file_system_is_refused_where_it_was_chosen(state_dir: Path):
    mounts = [Mounted("/", "ext4"), Mounted(str(state_dir.parent), "nfs4")]

    with pytest.raises(StateDirError, match="network file system \\(nfs4\\)") as error:
        usable_directory(mounts=mounts)

    assert "local disk" in error.value.hint
    assert not state_dir.exists()


def test_a_local_mount_inside_a_network_file_system_is_taken(state_dir: Path):
    mounts = [Mounted("/", "nfs4"), Mounted(str(state_dir.parent), "ext4")]

    assert usable_directory(mounts=mounts) == state_dir


def test_a_home_on_a_network_file_system_is_replaced_by_a_local_directory_that_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("OMNIRT_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    with pytest.warns(UserWarning, match="is kept in") as warned:
        directory = usable_directory(mounts=[Mounted("/", "ext4"), Mounted(str(tmp_path), "nfs")])

    assert not directory.is_relative_to(tmp_path)
    assert str(directory) in str(warned[0].message)
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_no_database_is_a_typed_error_and_stays_as_it_is(state_dir: Path):
    state_dir.mkdir()
    path = state_dir / "journal.db"
    path.write_bytes(b"this is a letter, no database\n" * 500)
    before = path.read_bytes()

    with pytest.raises(JournalCorruptError) as error:
        Journal.open()

    assert str(path) in error.value.hint
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_stays_as_it_is(state_dir: Path):
    state_dir.mkdir()
    path = state_dir / "journal.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE letters (text)")
    connection.commit()
    connection.close()
    before = path.read_bytes()

    with pytest.raises(JournalCorruptError, match="no journal of the lab"):
        Journal.open()

    assert path.read_bytes() == before


@pytest.mark.parametrize("kept_share", [0.3, 0.6, 0.9])
def test_a_truncated_journal_is_a_typed_error(state_dir: Path, kept_share: float):
    with Journal.open() as journal:
        worker = journal.worker()
        for _ in range(20):
            run(journal, worker)
    path = state_dir / "journal.db"
    os.truncate(path, int(path.stat().st_size * kept_share))

    with pytest.raises(JournalCorruptError) as error:
        Journal.open()

    assert ".recover" in error.value.hint


def test_a_journal_of_a_newer_lab_is_refused_and_stays_as_it_is(state_dir: Path):
    with Journal.open() as journal:
        run(journal, journal.worker())
    path = state_dir / "journal.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(JournalTooNewError, match="version 99; this lab reads up to version 2") as error:
        Journal.open()

    assert "Upgrade omnirt-lab" in error.value.hint


def test_a_journal_that_stays_locked_is_a_typed_error_and_usable_afterwards():
    with Journal.open(busy_timeout_s=0.05) as journal:
        other = sqlite3.connect(journal.directory / "journal.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(JournalLockedError) as error:
            journal.enqueue(wish())
        assert journal.list_jobs() == []

        other.execute("ROLLBACK")
        other.close()
        assert "fuser" in error.value.hint
        journal.enqueue(wish())


def test_a_full_disk_is_a_typed_error_nothing_is_half_written_and_a_run_goes_on(journal: Journal):
    worker = journal.worker()
    kept = run(journal, worker)
    with journal._database.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    writer = begin(journal, worker)

    denoise(writer, steps=2)  # a pipeline goes on, whether its events have room or not

    with pytest.raises(StateDirError, match="full") as error:
        fill(journal)
    assert "Free some space" in error.value.hint
    assert journal.get_report(kept.run_id) == kept
    assert all(journal.events(job.job_id)[0].seq == 1 for job in journal.list_jobs())


def fill(journal: Journal) -> None:
    for _ in range(1000):
        journal.enqueue(wish("long " * 1000), is_async=True)


FILL = """
import resource, signal
from omnirt_lab.errors import LabError
from omnirt_lab.journal import Journal
from tests.journal.writing import run
journal = Journal.open()
worker = journal.worker()
run(journal, worker)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    for number in range(1000):
        run(journal, worker)
except LabError as error:
    print(error.code, number)
journal.close()
"""


def test_a_file_that_may_not_grow_ends_in_a_typed_error_and_the_history_is_intact():
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", FILL], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    code, number = process.stdout.split()
    assert code == "state_dir_unusable"
    with Journal.open() as journal:
        journal.reap_lost()
        rows = journal.query_runs(RunQuery(state="succeeded"))
        assert 1 <= len(rows) <= int(number) + 1
        assert all(journal.get_report(row.run_id).state == "succeeded" for row in rows)

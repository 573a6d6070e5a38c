"""Tags, ratings and notes, the trash, and deleting for good: on all runs of a history, or on some that were picked."""

from __future__ import annotations

import inspect

import pytest

from omnirt_lab import History, Lab
from omnirt_lab.errors import InvalidRequestError, RunNotFoundError
from omnirt_lab.records import RunReport, RunRow
from tests.journal.writing import run, wish


def add(lab: Lab, prompt: str = "a red circle", picture: bytes | None = None) -> RunReport:
    artifacts = () if picture is None else (lab.journal.artifacts.put_bytes(picture, "image/png"),)
    return run(lab.journal, lab.engine.worker, wish(prompt), artifacts=artifacts)


def row_of(lab: Lab, report: RunReport) -> RunRow:
    (row,) = lab.history().pick(report.run_id).rows()
    return row


def test_what_is_said_of_a_history_is_said_of_all_its_runs_and_of_no_other(lab: Lab) -> None:
    circles = [add(lab, "a circle"), add(lab, "another circle")]
    square = add(lab, "a square")

    lab.history(prompt="circle").tag("round", "keep").untag("keep").rate(4).note("the red is right")

    said = [line.split()[-2:] for line in repr(lab.history()).splitlines()]
    assert said == [["rating", "tags"], said[1], ["a", "square"], ["★★★★", "round"], ["★★★★", "round"]]
    for report in circles:
        row = row_of(lab, report)
        assert (row.tags, row.rating, row.note) == (("round",), 4, "the red is right")
    assert (row_of(lab, square).tags, row_of(lab, square).rating) == ((), None)


def test_a_rating_and_a_note_can_be_taken_back(lab: Lab) -> None:
    report = add(lab)
    lab.history().rate(5).note("words")

    lab.history().rate(None).note(None)

    assert (row_of(lab, report).rating, row_of(lab, report).note) == (None, None)


def test_runs_are_picked_by_the_beginnings_of_their_ids(lab: Lab) -> None:
    one, two, _ = add(lab), add(lab), add(lab)

    picked = lab.history().pick(one.run_id[:8], two.run_id)

    assert isinstance(picked, History)
    assert [row.run_id for row in picked] == [two.run_id, one.run_id]
    with pytest.raises(RunNotFoundError, match="ffffffff"):
        lab.history().pick(one.run_id, "ffffffff")


def test_a_history_has_the_runs_that_are_rated_so_high_or_higher(lab: Lab) -> None:
    reports = [add(lab) for _ in range(3)]
    for rating, report in zip((2, 4, 5), reports, strict=True):
        lab.history().pick(report.run_id).rate(rating)

    assert [row.rating for row in lab.history(rating=4)] == [5, 4]
    with pytest.raises(InvalidRequestError, match="rating") as caught:
        lab.history(rating=6)
    assert "1 to 5" in caught.value.hint


@pytest.mark.parametrize("tag", ["", "  ", "a, b", "two\nlines", "x" * 101, "\ud800"])
def test_what_is_no_tag_is_refused_and_no_run_is_changed(lab: Lab, tag: str) -> None:
    report = add(lab)

    with pytest.raises(InvalidRequestError, match="is no tag"):
        lab.history().tag("good", tag)

    assert row_of(lab, report).tags == ()


@pytest.mark.parametrize("note", ["x" * 20_001, "\ud800"])
def test_a_note_that_cannot_be_kept_says_why(lab: Lab, note: str) -> None:
    add(lab)

    with pytest.raises(InvalidRequestError, match="the note has"):
        lab.history().note(note)


def test_the_trash_says_what_deleting_frees_and_gives_back_what_was_in_it(lab: Lab) -> None:
    kept = add(lab, picture=b"kept" * 1_000)
    report = add(lab, picture=b"gone" * 1_000)

    trashed = lab.history().pick(report.run_id).trash()

    assert trashed.runs == 1
    assert 4_000 < trashed.freeable_bytes < 100_000, "its picture, report and events"
    assert repr(trashed).startswith("1 run in the trash; deleting for good frees about ")
    assert [row.run_id for row in lab.history()] == [kept.run_id]
    assert [row.run_id for row in lab.history(trashed=True)] == [report.run_id]

    assert lab.history(trashed=True).undelete() == 1
    assert [row.run_id for row in lab.history()] == [report.run_id, kept.run_id]


def test_a_picture_of_two_runs_is_freed_only_with_the_second(lab: Lab) -> None:
    one, two = add(lab, picture=b"both" * 100_000), add(lab, picture=b"both" * 100_000)

    assert lab.history().pick(one.run_id).trash().freeable_bytes < 100_000
    assert lab.history(trashed=True).pick(one.run_id).purge().freed_bytes < 100_000
    assert lab.history().pick(two.run_id).trash().freeable_bytes > 400_000
    assert lab.history(trashed=True).purge().freed_bytes >= 400_000


def test_only_what_is_in_the_trash_can_be_deleted_for_good(lab: Lab) -> None:
    reports = [add(lab), add(lab)]
    lab.history().pick(reports[0].run_id).trash()

    with pytest.raises(InvalidRequestError, match="1 run of these are not in the trash") as caught:
        lab.history().purge()
    assert "trash()" in caught.value.hint
    purged = lab.history(trashed=True).purge()

    assert purged.runs == 1
    assert repr(purged).startswith("1 run deleted for good; ")
    assert [row.run_id for row in lab.history()] == [reports[1].run_id]
    assert len(lab.history(trashed=True)) == 0


def test_a_history_that_was_trashed_is_undeleted_or_purged_by_the_same_name(lab: Lab) -> None:
    add(lab)
    history = lab.history()

    history.trash()
    assert (len(history), history.undelete(), len(history)) == (0, 1, 1)
    history.trash()
    assert (history.purge().runs, len(lab.history(trashed=True))) == (1, 0)


def test_every_public_method_of_a_history_has_help(lab: Lab) -> None:
    names = [name for name in dir(lab.history()) if not name.startswith("_") and name != "query"]

    assert {"tag", "untag", "rate", "note", "trash", "undelete", "purge", "pick", "columns"} <= set(names)
    assert [name for name in names if not inspect.getdoc(getattr(History, name))] == []

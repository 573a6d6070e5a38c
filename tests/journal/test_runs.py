from __future__ import annotations

import pytest

from omnirt_lab.errors import InvalidRequestError, JournalCorruptError, RunNotFoundError
from omnirt_lab.journal import Journal, RunQuery, Worker
from omnirt_lab.records import ErrorInfo, JobFailedData, JobFinishedData
from tests.journal.writing import begin, denoise, run, wish


def ids(journal: Journal, **query: object) -> list[str]:
    return [row.run_id for row in journal.query_runs(RunQuery(**query))]


def test_the_history_is_newest_first_and_in_pages(journal: Journal, worker: Worker):
    reports = [run(journal, worker) for _ in range(5)]

    newest_first = [report.run_id for report in reversed(reports)]
    assert ids(journal) == newest_first
    assert ids(journal, limit=2) == newest_first[:2]
    assert ids(journal, limit=2, offset=2) == newest_first[2:4]


def test_runs_are_found_by_model_task_state_and_time(journal: Journal, worker: Worker):
    first = run(journal, worker, wish(model="one"))
    second = run(journal, worker, wish(model="two", task="image2image"))
    writer = begin(journal, worker, wish(model="two"))
    failed = writer.finish(JobFailedData(error=ErrorInfo(type="RuntimeError", message="no")))

    assert ids(journal, model="two") == [failed.run_id, second.run_id]
    assert ids(journal, task="image2image") == [second.run_id]
    assert ids(journal, state="failed", model="two") == [failed.run_id]
    assert set(ids(journal, since_ms=first.enqueued_at_ms)) == {first.run_id, second.run_id, failed.run_id}
    assert ids(journal, since_ms=failed.enqueued_at_ms + 1) == []
    assert journal.query_runs(RunQuery(state="failed"))[0].error_type == "RuntimeError"


@pytest.mark.parametrize(
    ("part", "finds"),
    [("RED", 1), ("straße", 1), ("STRASSE", 1), ("100%", 1), ("%", 1), ("_", 0), ("' OR 1=1 --", 0), ("", 2)],
)
def test_a_part_of_the_prompt_is_text_in_any_case_and_never_sql(
    journal: Journal, worker: Worker, part: str, finds: int
):
    run(journal, worker, wish("a red Straße"))
    run(journal, worker, wish("100% blue"))

    assert len(ids(journal, prompt=part)) == finds


def test_a_row_says_what_was_asked_and_measured(journal: Journal, worker: Worker):
    picture = journal.artifacts.put_bytes(b"png", "image/png", width_px=64, height_px=32, seed=7)
    report = run(journal, worker, artifacts=(picture,))

    (row,) = journal.query_runs(RunQuery())

    assert (row.seed, row.steps, row.width_px, row.height_px) == (7, 3, 64, 32)
    assert (row.memory_kind, row.peak_bytes) == ("rss", 600_000_000)
    assert row.artifact_sha256 == picture.sha256
    assert row.timings == report.timings
    assert row.duration_ms == report.duration_ms


def test_six_characters_name_a_run(journal: Journal, worker: Worker):
    report = run(journal, worker)

    assert journal.get_report(report.run_id[:6]) == report


@pytest.mark.parametrize("run_id", ["ffffffffffffffff", "abc", "", "%%%%%%", "../../etc/passwd"])
def test_an_unknown_run_is_an_error_that_says_where_to_look(journal: Journal, run_id: str):
    with pytest.raises(RunNotFoundError) as error:
        journal.get_report(run_id)

    assert "history" in error.value.hint


def test_an_ambiguous_beginning_names_the_runs_that_it_could_be(journal: Journal, worker: Worker):
    reports = [run(journal, worker) for _ in range(2)]
    with journal._database.writing() as connection:
        for number, report in enumerate(reports):
            connection.execute("UPDATE runs SET run_id = ? WHERE run_id = ?", (f"abcdef{number}", report.run_id))

    with pytest.raises(RunNotFoundError, match="abcdef0, abcdef1"):
        journal.get_report("abcdef")


def test_a_report_that_somebody_has_changed_is_a_typed_error(journal: Journal, worker: Worker):
    report = run(journal, worker)
    with journal._database.writing() as connection:
        connection.execute("UPDATE runs SET report = '{}'")

    with pytest.raises(JournalCorruptError, match=report.run_id):
        journal.get_report(report.run_id)


def test_tags_rating_and_note_are_kept_and_found(journal: Journal, worker: Worker):
    report, other = run(journal, worker), run(journal, worker)

    journal.tag(report.run_id, "keep", "for the paper", "keep")
    journal.untag(report.run_id, "for the paper")
    journal.tag(report.run_id[:8], "'quoted\"")
    journal.rate(report.run_id, 4)
    journal.note(report.run_id, "the red is right")

    (row,) = journal.query_runs(RunQuery(tag="keep"))
    assert (row.run_id, row.tags, row.rating, row.note) == (
        report.run_id,
        ("keep", "'quoted\""),
        4,
        "the red is right",
    )
    assert ids(journal, tag="for the paper") == []
    assert other.run_id not in ids(journal, tag="'quoted\"")


@pytest.mark.parametrize("rating", [0, 6, -1])
def test_a_rating_is_1_to_5(journal: Journal, worker: Worker, rating: int):
    report = run(journal, worker)

    with pytest.raises(InvalidRequestError, match="must be 1 to 5"):
        journal.rate(report.run_id, rating)


def test_a_trashed_run_is_out_of_the_history_until_it_is_undeleted(journal: Journal, worker: Worker):
    report = run(journal, worker)

    journal.trash(report.run_id)
    assert ids(journal) == []
    assert ids(journal, trash="with") == [report.run_id]
    assert journal.get_report(report.run_id) == report

    journal.undelete(report.run_id)
    assert ids(journal) == [report.run_id]


def test_a_purge_deletes_the_trash_for_good_and_keeps_files_that_others_need(journal: Journal, worker: Worker):
    own = journal.artifacts.put_bytes(b"own" * 1000, "image/png")
    shared = journal.artifacts.put_bytes(b"shared" * 1000, "image/png")
    kept = run(journal, worker, artifacts=(shared,))
    gone = run(journal, worker, wish("a secret prompt"), artifacts=(own, shared))
    job_id = journal.query_runs(RunQuery(limit=1))[0].job_id
    journal.trash(gone.run_id)

    purged = journal.purge()

    assert purged.runs == 1
    assert purged.freed_bytes >= own.size_bytes
    assert ids(journal, trash="with") == [kept.run_id]
    assert job_id not in {job.job_id for job in journal.list_jobs()}
    assert not list(journal.artifacts._directory.glob(f"*/{own.sha256}"))
    assert journal.artifacts.read(shared.sha256) == b"shared" * 1000
    journal.close()
    assert b"a secret prompt" not in (journal.directory / "journal.db").read_bytes()


def test_a_picture_that_another_run_began_with_outlives_the_run_that_made_it(journal: Journal, worker: Worker):
    picture = journal.artifacts.put_bytes(b"picture", "image/png")
    made = run(journal, worker, artifacts=(picture,))
    request = wish(task="image2image")
    run(journal, worker, type(request)(task="image2image", inputs=type(request.inputs)(image=picture.sha256)))

    journal.purge([made.run_id])

    assert journal.artifacts.read(picture.sha256) == b"picture"


def test_a_purge_of_an_unknown_run_deletes_none(journal: Journal, worker: Worker):
    report = run(journal, worker)

    with pytest.raises(RunNotFoundError):
        journal.purge([report.run_id, "ffffff"])

    assert ids(journal) == [report.run_id]


def test_a_purge_makes_the_file_smaller(journal: Journal, worker: Worker):
    reports = [run(journal, worker) for _ in range(50)]
    journal.checkpoint()
    before_bytes = (journal.directory / "journal.db").stat().st_size

    purged = journal.purge([report.run_id for report in reports[:40]])

    after_bytes = (journal.directory / "journal.db").stat().st_size
    assert before_bytes - after_bytes == purged.freed_bytes > before_bytes / 3
    with journal._database.reading() as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_a_frame_has_typed_columns_with_their_units(journal: Journal, worker: Worker):
    report = run(journal, worker)
    queued = journal.enqueue(wish())
    journal.request_cancel(queued.job_id)

    frame = journal.runs_frame(RunQuery())

    assert list(frame["run_id"]) == [queued.run_id, report.run_id]
    assert str(frame["enqueued_at"].dtype) == "datetime64[ms, UTC]"
    assert frame["enqueued_at"][1].timestamp() * 1000 == report.enqueued_at_ms
    assert (str(frame["seed"].dtype), frame["seed"][1]) == ("Int64", 7)
    assert (str(frame["peak_bytes"].dtype), frame["peak_bytes"].isna().tolist()) == ("Int64", [True, False])
    assert frame["denoise_ms"].isna().tolist() == [True, False]
    assert frame["denoise_ms"][1] == report.timings["denoise_ms"]
    assert frame["duration_ms"][1] == report.duration_ms
    assert frame["prompt"].tolist() == ["a red circle"] * 2


def test_a_seed_of_63_bits_is_exact_in_the_frame(journal: Journal, worker: Worker):
    request = wish()
    run(journal, worker, type(request)(config=type(request.config)(seed=2**63 - 1)))

    assert journal.runs_frame(RunQuery())["seed"][0] == 2**63 - 1


def test_a_frame_of_no_runs_has_the_same_columns_and_types(journal: Journal, worker: Worker):
    empty = journal.runs_frame(RunQuery())
    writer = begin(journal, worker)
    denoise(writer)
    writer.finish(JobFinishedData())

    full = journal.runs_frame(RunQuery())

    assert len(empty) == 0
    assert full.dtypes[empty.columns].equals(empty.dtypes)
    assert set(full.columns) - set(empty.columns) == {"queue_ms", "denoise_ms"}

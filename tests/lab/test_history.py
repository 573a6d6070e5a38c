"""`history`: finding runs again, as rows, as a table of text and as a DataFrame."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from omnirt_lab import Lab
from omnirt_lab.errors import InvalidRequestError, RunNotFoundError
from omnirt_lab.records import ErrorInfo, JobFailedData, RunReport
from tests.journal.writing import begin, denoise, run, wish

HOSTILE = "a\nred\r\ncircle\u2028\x1b[31m\t\u202e</td>\x00 and a 🎨 " + "x" * 500


def add(lab: Lab, prompt: str = "a red circle", **fields: Any) -> RunReport:
    return run(lab.journal, lab.engine.worker, wish(prompt, **fields))


def add_failed(lab: Lab) -> RunReport:
    writer = begin(lab.journal, lab.engine.worker)
    return writer.finish(JobFailedData(error=ErrorInfo(type="RuntimeError", message="no")))


def ids(lab: Lab, **filters: Any) -> list[str]:
    return [row.run_id for row in lab.history(**filters)]


def test_the_history_is_newest_first_and_as_long_as_was_asked_for(lab: Lab) -> None:
    runs = [add(lab).run_id for _ in range(4)]

    assert ids(lab) == runs[::-1]
    assert ids(lab, limit=2) == [runs[3], runs[2]]
    assert ids(lab, limit=0) == []
    assert len(lab.history(limit=3)) == 3


def test_the_history_of_nothing_is_empty_in_every_form(lab: Lab) -> None:
    history = lab.history()

    assert (len(history), list(history), len(history.to_pandas())) == (0, [], 0)
    assert "prompt" in history.to_pandas().columns
    assert "prompt" in repr(history)


def test_a_history_is_read_anew_each_time_it_is_asked(lab: Lab) -> None:
    history = lab.history(model="tiny-shapes")
    first = add(lab)
    assert [row.run_id for row in history] == [first.run_id]

    second = add(lab)

    assert [row.run_id for row in history] == [second.run_id, first.run_id]


def test_runs_are_found_by_model_task_state_and_tag(lab: Lab) -> None:
    one = add(lab, model="one")
    two = add(lab, model="two", task="image2image")
    failed = add_failed(lab)
    lab.journal.tag(two.run_id, "good")

    assert ids(lab, model="one") == [one.run_id]
    assert ids(lab, task="image2image") == [two.run_id]
    assert ids(lab, state="failed") == [failed.run_id]
    assert ids(lab, tag="good") == [two.run_id]
    assert ids(lab, model="two", state="failed") == []
    assert ids(lab, model="TWO") == [], "a model's name is taken exactly"


@pytest.mark.parametrize(
    ("part", "finds"),
    [
        ("red", {0, 3}),
        ("RED", {0, 3}),
        ("%", {1}),
        ("100%", {1}),
        ("_", {2}),
        ("a_b", {2}),
        ("a%b", set()),
        ('"quoted"', {2}),
        ("it's", {3}),
        ("' OR 1=1 --", set()),
        ("\\", {3}),
        ("ÉTOILE", {1}),
        ("🎨", {0}),
        ("", {0, 1, 2, 3}),
    ],
)
def test_a_part_of_the_prompt_is_taken_as_text_whatever_its_signs(lab: Lab, part: str, finds: set[int]) -> None:
    prompts = ["a red circle 🎨", "100% étoile", 'a_b is "quoted"', "it's red\\blue"]
    runs = [add(lab, prompt).run_id for prompt in prompts]

    assert set(ids(lab, prompt=part)) == {runs[index] for index in finds}


@pytest.mark.parametrize("since", ["60s", "1.5m", " 2h ", "7d", "2w", "1970-01-02", "1970-01-02T03:04:05+02:00"])
def test_an_age_or_a_date_that_lies_before_a_run_finds_it(lab: Lab, since: str) -> None:
    found = add(lab)

    assert ids(lab, since=since) == [found.run_id]


def test_a_moment_after_a_run_does_not_find_it(lab: Lab) -> None:
    add(lab)
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    assert ids(lab, since=tomorrow) == []
    assert ids(lab, since=tomorrow.isoformat()) == []
    assert ids(lab, since=tomorrow.replace(tzinfo=None)) == []


def test_an_age_of_more_than_all_time_finds_everything(lab: Lab) -> None:
    found = add(lab)

    assert ids(lab, since=f"{'9' * 400}w") == [found.run_id]
    assert ids(lab, since=date(1970, 1, 2)) == [found.run_id]


@pytest.mark.parametrize("since", ["", "yesterday", "7", "7y", "-3d", "1e3d", "2026-13-01", 7, datetime.min])
def test_a_since_that_is_no_age_and_no_date_says_what_is(lab: Lab, since: Any) -> None:
    with pytest.raises(InvalidRequestError, match="neither an age nor a date") as caught:
        lab.history(since=since)

    assert "'7d'" in caught.value.hint


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"state": "done"}, "succeeded"),
        ({"task": "text2img"}, "text2image"),
        ({"limit": -1}, "0 or more"),
        ({"limit": "ten"}, "0 or more"),
        ({"model": 3}, "text"),
        ({"prompt": b"red"}, "text"),
    ],
)
def test_a_filter_that_no_run_can_pass_says_which_can(lab: Lab, filters: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(filters))) as caught:
        lab.history(**filters)

    assert said in caught.value.hint


def test_a_filter_that_does_not_exist_names_those_that_do(lab: Lab) -> None:
    with pytest.raises(InvalidRequestError, match="no filter 'prompts'") as caught:
        lab.history(prompts="red")  # type: ignore[call-arg]  # on purpose

    assert "prompt" in caught.value.hint


def test_a_frame_has_one_typed_row_a_run_in_the_units_that_its_columns_name(lab: Lab) -> None:
    report = add(lab)
    failed = add_failed(lab)

    frame = lab.history().to_pandas().set_index("run_id")

    assert list(frame.index) == [failed.run_id, report.run_id]
    assert {"state", "task", "model", "prompt", "execution_mode", "error_type"} <= set(frame.columns)
    assert {str(frame[name].dtype) for name in ("state", "task", "model", "prompt", "cache_hits")} == {"string"}
    assert {str(frame[name].dtype) for name in ("seed", "steps", "width_px", "peak_bytes", "num_images")} == {"Int64"}
    assert {str(frame[name].dtype) for name in ("duration_ms", "queue_wait_ms", "denoise_ms")} == {"float64"}
    assert str(frame["enqueued_at"].dtype) == "datetime64[ms, UTC]"
    row = frame.loc[report.run_id]
    assert row.enqueued_at == pd.Timestamp(report.enqueued_at_ms, unit="ms", tz="UTC")
    assert abs(row.enqueued_at.timestamp() - time.time()) < 3_600
    assert (row.duration_ms, row.denoise_ms) == (report.duration_ms, report.timings["denoise_ms"])
    assert row.peak_bytes == max(report.memory.peak_bytes.values()) == 600_000_000
    assert (row.steps, row.seed) == (3, 7)
    assert pd.isna(frame.loc[failed.run_id].denoise_ms), "what was not measured is missing, not zero"
    assert pd.isna(frame.loc[failed.run_id].peak_bytes)
    assert frame.loc[failed.run_id].error_type == "RuntimeError"


def test_a_frame_has_the_runs_that_the_filters_leave(lab: Lab) -> None:
    add(lab, model="one")
    two = add(lab, model="two")

    assert list(lab.history(model="two").to_pandas().run_id) == [two.run_id]


def test_six_characters_of_a_run_id_are_enough(lab: Lab) -> None:
    report = add(lab, HOSTILE)

    found = lab.get_report(report.run_id[:6])

    assert found.run_id == report.run_id
    assert found.request.inputs.prompt == HOSTILE


@pytest.mark.parametrize("run_id", ["", "abc", "ffffffffffffffff", "%%%%%%", "../../x", "ABCDEF123"])
def test_a_run_id_that_there_is_not_says_where_to_look(lab: Lab, run_id: str) -> None:
    add(lab)

    with pytest.raises(RunNotFoundError) as caught:
        lab.get_report(run_id)

    assert "history" in caught.value.hint


def test_a_run_in_the_trash_is_out_of_sight_until_it_is_taken_out_again(lab: Lab) -> None:
    kept, trashed = add(lab), add(lab)

    lab.journal.trash(trashed.run_id)
    assert ids(lab) == [kept.run_id]
    assert list(lab.history().to_pandas().run_id) == [kept.run_id]
    assert lab.get_report(trashed.run_id).run_id == trashed.run_id, "by its id it is still found"

    lab.journal.undelete(trashed.run_id)
    assert ids(lab) == [trashed.run_id, kept.run_id]


def test_a_purge_takes_what_is_in_the_trash_for_good_with_its_pictures(lab: Lab, state_dir: Path) -> None:
    picture = lab.journal.artifacts.put_bytes(b"a picture", "image/png")
    shared = lab.journal.artifacts.put_bytes(b"a picture of two runs", "image/png")
    kept = run(lab.journal, lab.engine.worker, artifacts=(shared,))
    trashed = run(lab.journal, lab.engine.worker, wish("SECRET"), artifacts=(picture, shared))
    lab.journal.trash(trashed.run_id)

    purged = lab.journal.purge()

    assert purged.runs == 1
    assert purged.freed_bytes >= len(b"a picture")
    assert ids(lab) == [kept.run_id]
    with pytest.raises(RunNotFoundError):
        lab.get_report(trashed.run_id)
    assert [path.name for path in (state_dir / "artifacts").rglob("*") if path.is_file()] == [shared.sha256]
    assert b"SECRET" not in b"".join(path.read_bytes() for path in state_dir.glob("journal.db*"))


def test_the_table_has_one_line_a_run_whatever_the_prompt_and_the_model_are(lab: Lab) -> None:
    add(lab)
    plain_lines = len(repr(lab.history()).splitlines())
    add(lab, HOSTILE, model=HOSTILE[:100])

    table = repr(lab.history())

    lines = table.splitlines()
    assert len(lines) == plain_lines + 1
    assert all(len(line) < 200 for line in lines)
    assert all(char.isprintable() for line in lines for char in line)
    assert "a\\nred" in table


def test_a_run_that_is_not_over_is_no_history_yet_but_has_a_report(lab: Lab) -> None:
    writer = begin(lab.journal, lab.engine.worker)
    denoise(writer, steps=2)

    assert ids(lab) == []
    assert lab.get_report(writer.job.run_id).state == "running"

"""Rows come out aligned."""

from __future__ import annotations

from msgspec.structs import replace

from omnirt_lab.journal.runs import row_of
from omnirt_lab.views.tables import columns_of, history_html, history_text, table_text
from tests import sample_events
from tests.sample_events import report_of


def test_columns_are_aligned_and_numbers_to_the_right():
    text = table_text(["run", "total"], [["a", "1.24 s"], ["longer", "57.3 ms"]], right=[1])

    assert text.splitlines() == [
        "run       total",
        "──────  ───────",
        "a        1.24 s",
        "longer  57.3 ms",
    ]


def test_a_cell_cannot_break_its_line_or_colour_the_terminal():
    text = table_text(["prompt"], [["one\ntwo \x1b[31m"]])

    assert len(text.splitlines()) == 3
    assert "\x1b" not in text


def test_wide_characters_take_two_columns():
    assert columns_of("漢字🎨e\u0301") == 7
    lines = table_text(["prompt", "n"], [["漢字", "1"], ["abcd", "2"]]).splitlines()
    assert [columns_of(line) for line in lines] == [9, 9, 9, 9]


def test_a_table_without_rows_has_its_header():
    assert table_text(["run", "model"], []).splitlines()[0] == "run  model"


def test_the_history_shows_a_run_in_a_line():
    row = row_of(report_of(sample_events.cached()), "job-1")
    header, _, line = history_text([row]).splitlines()

    assert header.split() == ["run", "when", "state", "model", "steps", "total", "peak", "saved", "prompt"]
    assert line.startswith("run-1")
    for shown in ("succeeded", "tiny-shapes", "1.08 s", "561 MiB", "179 ms", "a red circle on a blue background"):
        assert shown in line


def test_a_run_that_never_began_and_a_prompt_of_many_lines_stay_in_their_line():
    row = row_of(report_of(sample_events.normal()[:1]), "job-1")
    text = history_text([replace(row, prompt="one\ntwo " * 50)])

    assert len(text.splitlines()) == 3
    assert "—" in text


def test_the_html_of_the_history_shows_a_prompt_as_text():
    row = row_of(report_of(sample_events.normal()), "job-1")

    html = history_html([replace(row, prompt="<img src=x onerror=alert(1)>")])

    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert html.count("<tr>") == 2

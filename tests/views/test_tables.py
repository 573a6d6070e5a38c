"""Rows come out aligned."""

from __future__ import annotations

from omnirt_lab.views.tables import columns_of, table_text


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

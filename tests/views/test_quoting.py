"""Other people's text is shown and never acted on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirt_lab.views.quoting import markup, shortened, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\ntwo", r"one\ntwo"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud800", r"\ud800"),
        ("a \\(vocaloid\\) 🎨 漢字 é", "a \\(vocaloid\\) 🎨 漢字 é"),
    ],
)
def test_what_has_no_glyph_is_written_as_its_escape(text: str, shown: str):
    assert visible(text) == shown


def test_a_long_text_says_how_much_is_missing():
    assert visible("x" * 1_500, limit=100) == "x" * 100 + "… (+1,400 characters)"


def test_markup_and_tex_are_text_to_plotly():
    assert markup("<b>$x$</b> & <script>") == "&lt;b&gt;&#36;x&#36;&lt;/b&gt; &amp; &lt;script&gt;"


def test_a_name_is_cut_in_its_middle():
    assert shortened("/models/a-long-folder/checkpoint-123", 21) == "/models/a-…kpoint-123"


@given(st.text())
def test_shown_text_is_printable_and_encodes(text: str):
    assert visible(text).isprintable()
    visible(text).encode("utf-8")


@given(st.text(), st.integers(3, 40))
def test_a_shortened_name_fits(name: str, width: int):
    assert len(shortened(name, width)) <= width

"""Text that somebody else wrote, made safe to show: a terminal, a picture or a browser must not act on it."""

from __future__ import annotations

import html


def visible(text: str, *, limit: int | None = None) -> str:
    r"""The text with everything that has no glyph written as its escape.

    Line breaks, ANSI escapes, bidirectional overrides and lone surrogates come out as `\n`, `\x1b`, `\u202e`, `\ud800`;
    letters of all scripts and emoji stay. A text of more than `limit` characters is cut and says how much is missing.
    """
    hidden = 0
    if limit is not None and len(text) > limit:
        text, hidden = text[:limit], len(text) - limit
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return f"{shown}… (+{hidden:,} characters)" if hidden else shown


def markup(text: str) -> str:
    """The text for plotly, which takes a part of HTML as markup and what stands between dollar signs as TeX."""
    return html.escape(visible(text)).replace("$", "&#36;")


def shortened(name: str, width: int) -> str:
    """A name of at most `width` characters, cut in its middle: its beginning and its end tell names apart."""
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"

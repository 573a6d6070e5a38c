"""A report as one HTML file that stands alone: pictures inside, no script, nothing from the network."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

import msgspec

from omnirt_lab.folds import diagnosis, timeline
from omnirt_lab.records import RunReport
from omnirt_lab.views import facts
from omnirt_lab.views.diagnosis import findings_text
from omnirt_lab.views.quoting import visible
from omnirt_lab.views.svg import waterfall_svg
from omnirt_lab.views.text import PROMPT_LIMIT

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2430; --muted: #596273; --card: #fcfcfb; --rule: #d3d7de; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --muted: #a3adbd; --card: #16191f; --rule: #343b47; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--card); margin: 0 auto;
  max-width: 60rem; padding: 1.5rem; }
h1 { font-size: 1.25rem; margin: 0; }
h2 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
.muted { color: var(--muted); }
.prompt { font-size: 1.1rem; margin: .5rem 0; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: .5rem 2.5rem; margin: 1rem 0; padding: 0; }
.figures div { display: flex; flex-direction: column-reverse; }
.figures dd { font-size: 1.35rem; margin: 0; font-variant-numeric: tabular-nums; }
.figures dt { color: var(--muted); }
.pictures { display: flex; flex-wrap: wrap; gap: .75rem; }
.pictures img, .pictures video { min-width: 12rem; max-width: 100%; image-rendering: auto; border-radius: 6px; }
svg { width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .muted { fill: var(--muted); }
svg .rule { stroke: var(--rule); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--rule); vertical-align: top;
  overflow-wrap: anywhere; }
th { color: var(--muted); font-weight: normal; width: 16rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px; }
"""


def report_html(report: RunReport, pictures: Sequence[bytes] = (), media: Sequence[tuple[str, bytes]] = ()) -> str:
    """The whole page. Whatever a person or a model wrote in it is escaped.

    Parameters
    ----------
    pictures
        PNG files that show what the run made, in order.
    media
        Media type and file of what is to be played: `video/mp4`, `audio/wav`.
    """
    title = escape(f"{facts.model(report)} · {report.task} · {facts.outcome(report)}")
    made = timeline.of_report(report)
    body = [
        f"<header><h1>{title}</h1>",
        f'<p class="prompt">{_text(report.request.inputs.prompt)}</p>',
        f'<p class="muted">{escape(" · ".join(facts.settings(report)))}</p></header>',
        _key_figures(report),
        _pictures(report, pictures),
        _players(media),
        _section("Where the time and memory went", waterfall_svg(made) if made.lanes else ""),
        _section("Facts", _table(_facts(report))),
        _section("Reading it", f"<pre>{escape(findings_text(diagnosis.diagnose(report)))}</pre>"),
        _section("Call", _table(_arguments(report))),
        _details("The report as JSON", msgspec.json.format(msgspec.json.encode(report), indent=2).decode()),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>{''.join(body)}</body></html>\n"
    )


def _key_figures(report: RunReport) -> str:
    pairs = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in facts.key_figures(report)
    )
    return f'<dl class="figures">{pairs}</dl>'


def _pictures(report: RunReport, pictures: Sequence[bytes]) -> str:
    if not pictures:
        return ""
    what = _text(report.request.inputs.prompt)
    images = "".join(
        f'<img alt="{what}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">' for picture in pictures
    )
    return f'<div class="pictures">{images}</div>'


def _players(media: Sequence[tuple[str, bytes]]) -> str:
    players = "".join(
        f'<{kind} controls src="data:{escape(media_type)};base64,{base64.b64encode(content).decode()}"></{kind}>'
        for media_type, content in media
        if (kind := media_type.partition("/")[0]) in ("video", "audio")
    )
    return f'<div class="pictures">{players}</div>' if players else ""


def _facts(report: RunReport) -> Iterator[tuple[str, str]]:
    labelled: list[tuple[str, Iterable[str | None]]] = [
        ("error", [facts.error_line(report)]),
        ("warning", facts.warning_lines(report)),
        ("steps", [facts.step_times(report)]),
        ("memory", facts.memory_lines(report)),
        ("caches", facts.cache_lines(report)),
        ("devices", facts.placement_lines(report)),
        ("measuring", [facts.measurement_line(report)]),
        ("run", [report.run_id]),
        ("trace", [report.trace_id]),
    ]
    for label, lines in labelled:
        yield from ((label, line) for line in lines if line is not None)


def _arguments(report: RunReport) -> Iterator[tuple[str, str]]:
    """What the pipeline was called with; arguments that it left at None are left out."""
    yield from ((name, str(value)) for name, value in report.config_resolved.items() if value is not None)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _details(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary><pre>{escape(content)}</pre></details>"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>" if cells else ""


def _text(text: str) -> str:
    return escape(visible(text, limit=PROMPT_LIMIT * 10))

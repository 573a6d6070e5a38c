"""The report as a page that stands alone."""

from __future__ import annotations

from html.parser import HTMLParser

import msgspec
import pytest
from msgspec.structs import replace

from omnirt_lab.records import RunReport
from omnirt_lab.views import numbers
from omnirt_lab.views.html import report_html
from tests import sample_events
from tests.sample_events import picture, report_of

every_run = pytest.mark.parametrize("run", sample_events.ALL.values(), ids=sample_events.ALL.keys())

EVIL = '<img src=x onerror="alert(1)"></title></script><b>&amp;'


class Page(HTMLParser):
    """Tags with their attributes, and the text, as a browser takes them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@every_run
def test_every_kind_of_run_becomes_a_page_that_asks_for_nothing_and_runs_nothing(run):
    page = Page(report_html(report_of(run()), [picture()]))

    assert page.named("script") == page.named("link") == page.named("iframe") == []
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.named("img"))
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_a_bar_stands_for_every_stage_and_step_with_its_time():
    report = report_of(sample_events.normal())

    page = Page(report_html(report))

    assert len(page.named("rect")) == len([s for s in report.stages if s.name != "queue"]) + len(report.steps)
    for name in ("text_encoder", "denoise", "vae_decode"):
        assert f"{name}: {numbers.duration(report.timings[f'{name}_ms'])}" in page.text


def test_what_somebody_wrote_is_text():
    report = report_of(sample_events.normal())
    inputs = replace(report.request.inputs, prompt=EVIL, negative_prompt=EVIL)
    evil = replace(report, model=EVIL, request=replace(report.request, inputs=inputs), config_resolved={EVIL: EVIL})

    page = Page(report_html(evil, [picture()]))

    assert EVIL in page.text
    assert [image["alt"] for image in page.named("img")] == [EVIL]
    assert page.named("b") == []


def test_the_whole_report_can_be_read_back_from_the_page():
    report = report_of(sample_events.cached())

    text = Page(report_html(report)).text
    stored = text[text.index("The report as JSON") + len("The report as JSON") :]

    assert msgspec.json.decode(stored, type=RunReport) == report

"""Widgets that a cell and the front end change at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import msgspec
import pytest

from omnirt_lab import RunReport
from omnirt_lab.views.explorer import brushed
from omnirt_lab.widgets.explorer import ReportExplorer
from tests import sample_events
from tests.sample_events import report_of

ROUNDS, CHANGES = 200, 4


@pytest.fixture
def _quick_switches() -> Iterator[None]:
    """Have threads interrupt each other wherever they can."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


def sent(explorer: ReportExplorer, selection: object) -> None:
    """What a front end's message does."""
    message = {"content": {"data": {"method": "update", "state": {"selection": selection}, "buffer_paths": []}}}
    explorer._handle_msg({**message, "buffers": []})


@pytest.mark.usefixtures("_quick_switches")
def test_figures_are_those_of_the_selection_whoever_selects_at_once():
    report = report_of(sample_events.normal())
    explorer = RunReport.of(report).explore()
    for _ in range(ROUNDS):
        messages = threading.Thread(
            target=lambda: [sent(explorer, {"start_ms": 100 + number, "end_ms": 300}) for number in range(CHANGES)]
        )
        messages.start()
        for number in range(CHANGES):
            explorer.select(start_ms=200 + number, end_ms=400)
        messages.join()

        selection = explorer.selection
        assert selection.start_ms is not None
        assert selection.end_ms is not None
        figures = brushed(report, selection.start_ms, selection.end_ms)
        assert explorer._brushed == msgspec.to_builtins(figures)

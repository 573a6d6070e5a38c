"""What the explorers of comparisons and sweeps send and take, on their kernel side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from traitlets import TraitError

from omnirt_lab import Lab, Sweep
from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.lab.plan import plan_of
from tests.journal.writing import run
from tests.widgets.written import OPTIONS, WICKED, pictured, swept


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as opened:
        yield opened


def found(lab: Lab) -> Sweep:
    """The sweep `brushed` of the history; nothing runs."""
    return Sweep(lambda: lab.engine, plan_of(WICKED, OPTIONS), "brushed").resume(progress=False)


def test_a_selection_is_what_all_brushes_leave_with_failed_runs_in_their_place(lab: Lab):
    swept(lab.journal, WICKED, OPTIONS, "brushed")
    explorer = found(lab).explore()

    assert len(explorer.selection) == 6
    explorer.brushes = [{"axis": 0, "low": 0.4, "high": 1}, {"axis": 1, "low": 0.5, "high": 1}]
    assert list(explorer.selection.index) == [3, 5]
    assert list(explorer.selection.state) == ["succeeded", "failed"]
    denoise = [axis["label"] for axis in explorer.page["axes"]].index("denoise")
    explorer.brushes = [{"axis": denoise, "low": 0, "high": 1}]
    assert 5 not in explorer.selection.index


@pytest.mark.parametrize(
    "brushes",
    [
        [{"axis": 9, "low": 0, "high": 1}],
        [{"axis": -1, "low": 0, "high": 1}],
        [{"axis": 0, "low": 1, "high": 0}],
        [{"axis": 0, "low": "all", "high": 1}],
        ["steps"],
    ],
)
def test_what_is_no_brush_is_refused_and_the_selection_stays(lab: Lab, brushes: list[object]):
    swept(lab.journal, WICKED, OPTIONS, "brushed")
    explorer = found(lab).explore()
    explorer.brushes = [{"axis": 0, "low": 0.9, "high": 1}]

    with pytest.raises(TraitError, match=r"no brushes|5 axes"):
        explorer.brushes = brushes

    assert len(explorer.selection) == 2


def test_a_figure_has_a_line_for_each_run_that_succeeded_and_needs_two(lab: Lab):
    swept(lab.journal, WICKED, OPTIONS, "brushed")
    figure = found(lab).figure()

    assert len(figure.data[0].line.color) == 5
    with pytest.raises(InvalidRequestError, match="0 of 2 cells succeeded"):
        Sweep(lambda: lab.engine, plan_of("a circle", {"steps": [1, 2]}), "nothing").figure()


def test_the_browser_gets_a_picture_that_there_is(lab: Lab):
    with lab.journal.worker() as worker:
        first, other = (
            run(lab.journal, worker, artifacts=tuple(pictured(lab.journal, colour) for colour in colours))
            for colours in (("red", "blue"), ("red",))
        )
    explorer = lab.compare(first, other).explore()

    assert [picture["label"] for picture in explorer.pictures] == ["", "no difference"]
    explorer.index = 9
    assert explorer.index == 1
    assert [picture["content"] is None for picture in explorer.pictures] == [False, True]
    assert explorer.pictures[1]["label"] == "nothing to compare"

"""What the blocks of a modular run took, in every view of its report."""

from __future__ import annotations

import io

from PIL import Image

from omnirt_lab.records import BlockTiming, JobFinishedData, RunReport
from omnirt_lab.views import palette
from omnirt_lab.views.explorer import explorer_page
from omnirt_lab.views.plotly import figure_dict
from omnirt_lab.views.png import report_png
from omnirt_lab.views.text import report_text
from tests.sample_events import MS, Tape, report_of

NAMES = ("text_encoder", "denoise.set_timesteps", "denoise.prepare_latents", "denoise.denoise", "decode")
TOOK_MS = (20, 1, 2, 70, 7)


def by_blocks(*, with_blocks: bool = True) -> RunReport:
    """A run of a tenth of a second whose blocks follow each other."""
    tape = Tape().enqueue().start().stage("load", 5.0).stage("denoise", 100.0, gap_ms=0.0)
    at_ns, blocks = tape.t_ns - 100 * MS, []
    for name, took_ms in zip(NAMES, TOOK_MS, strict=True):
        end_ns = at_ns + took_ms * MS
        blocks.append(BlockTiming(name=name, class_name="SomeStep", start_t_ns=at_ns, end_t_ns=end_ns))
        at_ns = end_ns
    return report_of(tape.add(JobFinishedData(blocks=tuple(blocks) if with_blocks else ())).events)


def test_the_text_names_the_longest_blocks_first():
    text = " ".join(report_text(by_blocks()).split())

    assert (
        "blocks 5 in 100 ms: denoise.denoise 70.0 ms (70 %), text_encoder 20.0 ms (20 %), decode 7.00 ms (7.0 %), "
        "2 others 3.00 ms"
    ) in text
    assert "blocks" not in report_text(by_blocks(with_blocks=False))


def test_the_figure_has_a_lane_of_blocks_under_the_stages_on_their_axis():
    figure = figure_dict(by_blocks())

    (bars,) = [trace for trace in figure["data"] if trace["name"] == "blocks"]
    assert figure["layout"]["yaxis"]["categoryarray"] == ["load", "denoise", "blocks"]
    assert bars["x"] == list(TOOK_MS)
    assert bars["base"][0] == figure["data"][1]["base"][0], "the first begins with the call"
    assert bars["hovertext"][3] == "<b>denoise.denoise</b>: 70.0 ms (70 %) of all blocks<br>SomeStep"
    assert "blocks" not in figure_dict(by_blocks(with_blocks=False))["layout"]["yaxis"]["categoryarray"]


def test_the_picture_has_a_lane_and_a_line_for_them():
    with_them, without = (
        Image.open(io.BytesIO(report_png(by_blocks(with_blocks=each), [], scale=1))) for each in (True, False)
    )

    assert with_them.height > without.height
    assert palette.BLOCK in _colours(with_them) - _colours(without)


def test_the_explorer_has_a_table_of_them_whose_rows_lie_on_its_axis():
    stages, _, blocks = explorer_page(by_blocks()).tabs["waterfall"]

    assert [row[0] for row in blocks.rows] == list(NAMES)
    assert [row[2] for row in blocks.rows] == ["20.0 ms", "1.00 ms", "2.00 ms", "70.0 ms", "7.00 ms"]
    (denoise,) = [span for span, row in zip(stages.spans_ms, stages.rows, strict=True) if row[0] == "denoise"]
    assert (blocks.spans_ms[0][0], blocks.spans_ms[-1][1]) == denoise
    assert len(explorer_page(by_blocks(with_blocks=False)).tabs["waterfall"]) == 2


def _colours(image: Image.Image) -> set[str]:
    counted = image.convert("RGBA").getcolors(maxcolors=2**24) or []
    return {"#{:02x}{:02x}{:02x}".format(*colour[:3]) for _, colour in counted if isinstance(colour, tuple)}

"""The card: a picture of a report that Pillow alone draws."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from omnirt_lab.folds import report as report_fold
from omnirt_lab.records import RunReport
from omnirt_lab.views import palette, waterfall
from omnirt_lab.views.canvas import clip, text_width, wrap
from omnirt_lab.views.png import WIDTH, report_png
from tests import sample_events
from tests.sample_events import Tape, picture, report_of

every_run = pytest.mark.parametrize("run", sample_events.ALL.values(), ids=sample_events.ALL.keys())


def card(report: RunReport, pictures: tuple[bytes, ...] = (), *, scale: int = 2) -> Image.Image:
    return Image.open(io.BytesIO(report_png(report, pictures, scale=scale))).convert("RGBA")


def rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def near(one: tuple[int, ...], colour: str) -> bool:
    """Alike but for the 256 colours that the card is stored in."""
    return max(abs(a - b) for a, b in zip(one[:3], rgb(colour), strict=True)) <= 12


@every_run
def test_every_run_has_a_card_of_its_own(run):
    report = report_of(run())
    image = card(report, (picture(),) if report.artifacts else ())

    assert image.width == 2 * WIDTH
    assert image.height > 300


def test_cards_of_different_runs_differ():
    cards = {report_png(report_of(run()), ()) for run in sample_events.ALL.values()}

    assert len(cards) == len(sample_events.ALL)


def test_a_job_in_the_queue_and_one_that_just_began_have_a_card():
    events = sample_events.normal()

    for count in (1, 2, 5):
        assert card(report_fold.fold(events[:count])).width == 2 * WIDTH


def test_the_card_is_opaque_light_and_round_with_transparent_corners():
    image = card(report_of(sample_events.normal()))

    assert image.getpixel((0, 0))[3] == 0
    assert image.getpixel((image.width // 2, 20))[3] == 255
    assert near(image.getpixel((image.width // 2, 20)), palette.CARD)


def test_a_small_picture_is_enlarged_pixel_by_pixel():
    image = card(report_of(sample_events.normal()), (picture(colour="#c23b3b"),))
    colours = {image.getpixel((x, 240)) for x in range(60, 420)}

    assert any(near(colour, "#c23b3b") for colour in colours)
    assert len(colours) == 2, "no colours in between: the edge is not smoothed"


def test_a_large_picture_keeps_its_colours():
    noise = Image.effect_noise((700, 500), 80).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    stored = Image.open(io.BytesIO(report_png(report_of(sample_events.normal()), (buffer.getvalue(),))))

    assert stored.mode == "RGBA"


def test_more_pictures_than_fit_make_no_larger_card():
    report = report_of(sample_events.normal())

    assert card(report, (picture(),) * 30).size == card(report, (picture(),)).size


def test_the_scale_is_the_only_difference_between_sharp_and_plain():
    report = report_of(sample_events.normal())
    plain, sharp = card(report, scale=1), card(report, scale=2)

    assert sharp.size == (2 * plain.width, 2 * plain.height)


@pytest.mark.parametrize(
    "prompt",
    [
        "emoji 🎨🔥 and 漢字 and кот and é",
        "one\ntwo \x1b[31mred \u202e<script>",
        "x" * 5_000,
        "\ud800 \x00",
        "a  b   c",
    ],
)
def test_no_prompt_breaks_the_card(prompt: str):
    assert card(report_of(Tape().enqueue(prompt).start().events)).height < 1_000


def test_a_long_run_of_steps_is_drawn_as_one_bar():
    assert card(report_of(sample_events.long_run(1_000))).height == card(report_of(sample_events.normal())).height


def test_lines_fit_and_lose_no_word():
    text = "a red circle on a blue background with a very long description"
    lines = wrap(text, 16, 150, max_lines=9)

    assert " ".join(lines) == text
    assert max(text_width(line, 16) for line in lines) <= 150


def test_what_does_not_fit_ends_with_an_ellipsis():
    lines = wrap("word " * 100, 16, 150, max_lines=2)

    assert len(lines) == 2
    assert lines[-1].endswith("…")
    assert text_width(clip("x" * 100, 12, 80), 12) <= 80


@pytest.mark.parametrize("total_ms", [0.001, 0.4, 3, 12, 99, 100, 351, 999, 1_000, 1_260, 59_000, 7_200_000])
def test_the_axis_has_a_few_round_marks(total_ms: float):
    marks = list(waterfall.ticks(round(total_ms * 1_000_000)))

    assert 3 <= len(marks) <= 9
    assert marks[0] == (0, "0")
    assert marks[-1][0] <= total_ms * 1_000_000 * 1.001

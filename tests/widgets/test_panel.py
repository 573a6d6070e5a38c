"""The control panel: its form over a real model's options, and its runs on a real engine."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

import omnirt_lab
from omnirt_lab import Lab
from omnirt_lab.errors import UnknownModelError
from omnirt_lab.widgets.panel import Panel

WICKED = "<img src=x onerror=window.hacked=1> $a$ circle"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as opened:
        yield opened


@pytest.fixture
def panel(lab: Lab) -> Iterator[Panel]:
    made = lab.panel()
    yield made
    made.close()


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def write(panel: Panel, **words: str) -> None:
    form = panel._form
    for word, text in words.items():
        field = {"prompt": form.prompt, "negative_prompt": form.negative, **form.numbers}[word]
        field.value = text


def test_the_form_has_the_models_own_options_and_defaults(panel: Panel):
    form = panel._form

    assert form.model.value == "tiny-shapes"
    assert form.task.options == ("text2image", "image2image", "inpaint")
    assert form.numbers["steps"].placeholder == "50"
    assert form.numbers["width"].placeholder == "64"
    assert ("DDIMScheduler (the model's own)", "") in form.scheduler.options
    assert ("euler", "euler") in form.scheduler.options
    form.task.value = "image2image"
    assert form.numbers["width"].layout.display == "none"


def test_a_run_ends_with_its_picture_and_its_settings_can_be_loaded_again(lab: Lab, panel: Panel):
    write(panel, prompt=WICKED, steps="2", guidance_scale="3.5")
    panel._form.scheduler.value = "euler"
    panel._buttons["run"].click()
    until(lambda: panel.reports)

    report = panel.reports[0]
    card = panel._cards[0]
    assert (report.state, report.request.config.steps, report.request.config.scheduler) == ("succeeded", 2, "euler")
    assert len(panel._pictures.children) == 1
    assert "<img" not in card._words.value
    assert panel._problem.value == ""
    write(panel, prompt="another", steps="", seed="", guidance_scale="")
    panel._form.scheduler.value = ""
    card._load.click()

    form = panel._form
    assert (form.prompt.value, form.scheduler.value) == (WICKED, "euler")
    written = {word: field.value for word, field in form.numbers.items() if field.value}
    drawn = str(report.artifacts[0].seed)
    assert written == {"seed": drawn, "steps": "2", "guidance_scale": "3.5", "num_images": "1"}


def test_a_run_starts_from_an_uploaded_picture_and_remembers_it(panel: Panel):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "crimson").save(buffer, "PNG")
    form = panel._form
    form.task.value = "image2image"
    write(panel, prompt="a red circle", steps="2")
    start = form.pictures["image"]
    file = {"name": "<b>.png", "type": "image/png", "size": buffer.tell(), "content": memoryview(buffer.getvalue())}
    start._upload.value = ({**file, "last_modified": datetime.now(UTC)},)
    panel._buttons["run"].click()
    until(lambda: panel.reports)
    stored = panel.reports[0].request.inputs.image
    assert panel.reports[0].state == "succeeded"
    assert "&lt;b&gt;.png" in start._held.value

    start.show(None)
    panel._cards[0]._load.click()

    assert start.value == stored is not None


def test_a_panel_begins_with_the_wanted_model_and_there_is_none_for_one_that_does_not_exist(lab: Lab):
    with pytest.raises(UnknownModelError, match="no-such-model"):
        lab.panel("no-such-model")
    folder = str(Path(omnirt_lab.__file__).parent / "tiny_shapes" / "weights")

    panel = lab.panel(folder)

    assert panel._form.model.value == folder
    assert panel._form.model.options == (folder, "tiny-shapes")
    panel.close()


@pytest.mark.parametrize(
    ("word", "text", "said"),
    [
        ("width", "63", "<b>width is 63; it must be a multiple of 8"),
        ("steps", "many", "steps is &#x27;many&#x27;, which is no whole number"),
        ("seed", "1<b>", "seed is &#x27;1&lt;b&gt;&#x27;, which is no whole number"),
        ("prompt", " ", "the prompt is empty"),
    ],
)
def test_what_is_wrong_is_said_with_a_hint_and_nothing_is_lost(panel: Panel, word: str, text: str, said: str):
    write(panel, **{"prompt": "a circle", "height": "64", word: text})

    panel._buttons["run"].click()

    assert said in panel._problem.value
    assert panel._problem.value.count("<div") == 2
    assert panel._form.numbers["height"].value == "64"
    assert panel._cards == []
    assert panel._history.children == ()


def test_stop_cancels_the_run_and_the_queue_goes_on(panel: Panel):
    write(panel, prompt="a long run", steps="1000")
    panel._buttons["run"].click()
    write(panel, prompt="a short run", steps="1")
    panel._buttons["queue"].click()
    long, short = panel._cards[1], panel._cards[0]
    until(lambda: "of 1,000" in long._words.value)
    assert "queued behind 1 run" in short._words.value

    panel._buttons["stop"].click()
    until(lambda: len(panel.reports) == 2)

    assert long.report is not None
    assert long.report.state == "cancelled"
    assert short.report is not None
    assert short.report.state == "succeeded"
    until(lambda: panel._buttons["stop"].disabled)


def test_run_goes_before_what_is_queued_and_a_queued_one_can_be_taken_back(panel: Panel):
    write(panel, prompt="a long run", steps="1000")
    panel._buttons["run"].click()
    for number in ("1", "2"):
        write(panel, prompt="waits", steps=number)
        panel._buttons["queue"].click()
    write(panel, prompt="goes before", steps="1")
    panel._buttons["run"].click()
    first, second, taken_back, long = panel._cards
    until(lambda: long.has_started)
    taken_back._cancel.click()
    panel._buttons["stop"].click()
    until(lambda: len(panel.reports) == 4)

    assert taken_back.report is not None
    assert taken_back.report.state == "cancelled"
    assert first.report is not None
    assert second.report is not None
    assert first.report.finished_at_ms <= second.report.finished_at_ms  # type: ignore[operator]

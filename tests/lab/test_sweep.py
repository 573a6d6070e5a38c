from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from omnirt_lab import Lab, Sweep
from omnirt_lab.errors import InvalidRequestError, UnknownModelError, UnknownOptionError
from omnirt_lab.views.bundle import PLOTLY_MIME

PROMPT = "a red circle on a blue background"


def swept(lab: Lab, prompt: str | list[str] = PROMPT, **options: object) -> Sweep:
    return lab.sweep(prompt, progress=False, **{"steps": 2, **options})


def test_every_combination_runs_once_in_the_order_of_the_grid(lab: Lab):
    sweep = swept(lab, steps=[1, 2], guidance_scale=(1, 5), seed=range(2))

    assert [axis.name for axis in sweep.axes] == ["steps", "guidance_scale", "seed"]
    assert [cell.values for cell in sweep.cells] == list(product([1, 2], [1, 5], [0, 1]))
    asked = [result.report.request.config for result in sweep.results if result]
    assert [(c.steps, c.guidance_scale, c.seed) for c in asked] == list(product([1, 2], [1, 5], [0, 1]))
    assert [row.run_id for row in lab.history().rows()[::-1]] == [cell.run_id for cell in sweep.cells]
    assert {row.tags for row in lab.history()} == {(f"sweep:{sweep.name}",)}
    assert sweep.is_complete


def test_prompts_vary_slowest_so_that_their_embedding_is_made_once(lab: Lab):
    lab.cache.clear()
    sweep = swept(lab, ["a red circle", "a green star"], seed=[1, 2, 3])

    assert [cell.values[0] for cell in sweep.cells] == ["a red circle"] * 3 + ["a green star"] * 3
    hits = [use.hits for result in sweep.results if result for use in result.report.cache_details
            if use.cache_type == "text_embedding"]  # fmt: skip
    assert hits == [0, 2, 2, 1, 2, 2]
    assert sweep.saved_ms == pytest.approx(sum(cell.saved_ms or 0 for cell in sweep.cells))


def test_all_cells_have_one_seed_unless_it_is_swept(lab: Lab):
    sweep = swept(lab, steps=[1, 2])

    assert [result.report.request.config.seed for result in sweep.results if result] == [0, 0]


def test_other_names_and_lists_that_are_values_are_understood(lab: Lab):
    sweep = swept(lab, seeds=[1], guidance=[2.0], timesteps=[[999, 500]], steps=None)

    assert [axis.name for axis in sweep.axes] == ["seed", "guidance_scale", "timesteps"]
    assert sweep.results[0] is not None
    assert sweep.results[0].report.request.config.options == {"timesteps": [999, 500]}


def test_a_run_that_fails_stays_in_its_place_and_the_others_go_on(lab: Lab):
    sweep = swept(lab, guidance_rescale=[0.0, "none", 0.5])

    assert [cell.state for cell in sweep.cells] == ["succeeded", "failed", "succeeded"]
    assert sweep.cells[1].error is not None
    assert sweep.results[1] is not None
    assert sweep.results[1].report.error is not None
    assert sweep.cells[1].error.startswith(sweep.results[1].report.error.type)
    assert "1 failed" in str(sweep)
    assert Image.open(io.BytesIO(sweep.grid)).width == 2 * 760


def test_a_failed_cell_is_run_again_only_when_asked_to(lab: Lab):
    sweep = swept(lab, guidance_rescale=[0.0, "none"])
    failed = sweep.cells[1].run_id

    assert sweep.resume(progress=False).cells[1].run_id == failed
    assert sweep.resume(progress=False, retry_failed=True).cells[1].run_id != failed
    assert len(lab.history()) == 3


def test_a_sweep_of_the_same_name_runs_only_what_is_missing(lab: Lab):
    first = swept(lab, seed=[1, 2], name="mine")
    wider = swept(lab, seed=[1, 2, 3], name="mine")
    again = swept(lab, seed=[1, 2, 3], name="mine")

    assert [cell.run_id for cell in wider.cells[:2]] == [cell.run_id for cell in first.cells]
    assert again.cells == wider.cells
    assert len(lab.history()) == 3


@contextmanager
def ctrl_c_once_runs_are_kept(lab: Lab, count: int) -> Iterator[None]:
    """Press Ctrl-C in the block when so many runs are in the history, and again if it has been lost.

    Python drops an interrupt that comes while a finalizer runs; a person presses the keys once more.
    """
    has_ended = threading.Event()

    def watch() -> None:
        wanted = count
        while not has_ended.wait(0.005):
            if len(lab.history()) >= wanted:
                os.kill(os.getpid(), signal.SIGINT)
                wanted += 2

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_leaves_what_was_done_and_resume_goes_on_without_running_twice(lab: Lab):
    with ctrl_c_once_runs_are_kept(lab, 2):
        sweep = swept(lab, seed=range(12), steps=5)

    done = [cell for cell in sweep.cells if cell.run_id is not None]
    assert sweep.was_interrupted
    assert 2 <= len(done) < 12
    assert list(sweep.cells[: len(done)]) == done
    assert f"{12 - len(done)} not run" in str(sweep)

    sweep.resume(progress=False)

    assert sweep.is_complete
    assert not sweep.was_interrupted
    assert list(sweep.cells[: len(done)]) == done
    assert [row.state for row in lab.history()].count("succeeded") == 12


def test_a_killed_process_is_gone_on_with_by_another(lab: Lab):
    code = (
        "import sys, omnirt_lab as lab\n"
        f"lab.sweep({PROMPT!r}, steps=2, seed=range(40), name='killed')\n"
    )  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ, stderr=subprocess.DEVNULL)
    arrived = threading.Event()
    while not arrived.wait(0.02):
        if len(lab.history(tag="sweep:killed")) >= 2:
            process.kill()
            arrived.set()
    process.wait()
    before = {row.run_id for row in lab.history(tag="sweep:killed")}

    sweep = swept(lab, seed=range(len(before) + 2), name="killed")

    assert sweep.is_complete
    assert {cell.run_id for cell in sweep.cells[: len(before)]} == before
    assert len(lab.history(tag="sweep:killed")) == len(before) + 2


def test_a_frame_has_one_row_a_cell_with_what_was_swept_and_measured(lab: Lab):
    frame = swept(lab, guidance_rescale=[0.0, "none"], seed=[1, 2]).to_pandas()

    assert list(frame.columns[:2]) == ["guidance_rescale", "seed"]
    assert frame["state"].to_list() == ["succeeded", "succeeded", "failed", "failed"]
    assert frame["seed"].to_list() == [1, 2, 1, 2]
    assert frame["denoise_ms"].notna().to_list()[:2] == [True, True]
    assert frame["peak_bytes"].dtype == pd.Int64Dtype()
    assert frame["error"].isna().to_list() == [True, True, False, False]
    report = lab.get_report(frame["run_id"].iloc[0])
    assert frame["duration_ms"].iloc[0] == report.duration_ms


def test_a_cell_shows_parallel_coordinates_the_grid_and_a_table(lab: Lab):
    bundle = swept(lab, scheduler=["ddim", "euler"], seed=[1, 2])._repr_mimebundle_()

    assert set(bundle) == {PLOTLY_MIME, "image/png", "text/plain"}
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).width == 760
    (trace,) = bundle[PLOTLY_MIME]["data"]
    assert trace["type"] == "parcoords"
    labels = [dimension["label"] for dimension in trace["dimensions"]]
    assert labels[:4] == ["scheduler", "seed", "total ms", "denoise ms"]
    assert trace["dimensions"][0]["ticktext"] == ["ddim", "euler"]
    assert [len(dimension["values"]) for dimension in trace["dimensions"]] == [4] * len(labels)
    go.Figure({key: bundle[PLOTLY_MIME][key] for key in ("data", "layout")})


def test_prompts_of_markup_are_text_in_every_view(lab: Lab):
    evil = "<img src=x onerror=alert(1)> $x$\x1b[31m"
    bundle = swept(lab, evil, seed=[1, 2])._repr_mimebundle_()

    assert "<img" not in json.dumps(bundle[PLOTLY_MIME]["layout"])
    assert "\x1b" not in bundle["text/plain"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing varies"),
        ({"seed": []}, "seed has no values"),
        ({"seed": [1, 2], "steps": []}, "steps has no values"),
        ({"seed": range(10**12)}, "1,000,000,000,000 cells"),
        ({"seed": range(101), "steps": range(1, 101)}, "10,100 cells"),
        ({"seed": [1, 1]}, "this cell twice: seed='1'"),
        ({"seed": [1], "seeds": [2]}, "given twice"),
        ({"steps": [2, 0]}, "steps is 0"),
        ({"steps": [2, "many"]}, "steps"),
        ({"scheduler": ["ddim", "eulr"]}, "eulr"),
        ({"seed": [1], "name": ""}, "cannot name a sweep"),
        ({"seed": [1], "name": "a\nb"}, "cannot name a sweep"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_refused_before_anything_runs(lab: Lab, options: dict[str, object], words: str):
    with pytest.raises(InvalidRequestError, match=words):
        swept(lab, **options)
    assert len(lab.history()) == 0


def test_an_unknown_option_or_model_is_refused_before_anything_runs(lab: Lab):
    with pytest.raises(UnknownOptionError):
        swept(lab, seed=[1, 2], sped=[1])
    with pytest.raises(UnknownModelError):
        swept(lab, model=["tiny-shapes", "no-such-model"])
    assert len(lab.history()) == 0


def test_progress_counts_the_runs_on_stderr(lab: Lab, capsys: pytest.CaptureFixture[str]):
    lab.sweep(PROMPT, steps=2, seed=[1, 2])

    assert re.search(r"sweep: .*/2 ", capsys.readouterr().err)

"""The mime bundle that a cell shows and a notebook keeps."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys

import nbformat
import plotly.graph_objects as go
from PIL import Image

from omnirt_lab.views.bundle import PLOTLY_MIME, mimebundle
from tests import sample_events
from tests.sample_events import picture, report_of


def test_a_bundle_is_plotly_png_and_text_and_no_html():
    bundle = mimebundle(report_of(sample_events.normal()), [picture()])

    assert set(bundle) == {PLOTLY_MIME, "image/png", "text/plain"}
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).format == "PNG"
    assert bundle["text/plain"].startswith("tiny-shapes")
    go.Figure({key: bundle[PLOTLY_MIME][key] for key in ("data", "layout")})


def test_a_notebook_can_keep_it():
    bundle = mimebundle(report_of(sample_events.normal()), [picture()])
    output = nbformat.v4.new_output("display_data", data=bundle)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])

    nbformat.validate(nbformat.reads(nbformat.writes(notebook), as_version=4))


def test_the_png_fits_a_notebook_in_its_own_size():
    bundle = mimebundle(report_of(sample_events.normal()))

    assert 600 < Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).width <= 800


def test_a_report_takes_less_than_50_kb_of_a_notebook():
    for run in sample_events.ALL.values():
        assert len(json.dumps(mimebundle(report_of(run())))) < 50_000


def test_pictures_stand_in_the_figure_too():
    large = io.BytesIO()
    Image.effect_noise((800, 600), 50).save(large, "PNG")
    bundle = mimebundle(report_of(sample_events.normal()), [picture(), large.getvalue()])
    sources = [image["source"] for image in bundle[PLOTLY_MIME]["layout"]["images"]]

    assert sources[0].startswith("data:image/png;base64,")
    assert sources[1].startswith("data:image/jpeg;base64,")


def test_importing_the_views_loads_neither_pillow_nor_plotly_nor_torch():
    code = (
        "import sys, omnirt_lab.views.bundle, omnirt_lab.views.diagnosis, omnirt_lab.views.tables; "
        "print(*sys.modules.keys() & {'PIL', 'plotly', 'torch', 'pandas', 'numpy', 'IPython'})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.split() == []

"""The history as CSV, as Parquet, and what its columns mean."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from omnirt_lab import History, Lab
from tests.journal.writing import REPOSITORY, run, wish

WICKED = '=cmd|"/c calc"!A1, "quoted"\nand <b>é🎨</b>'


@pytest.fixture
def history(lab: Lab) -> History:
    """Two runs, one with tags, a rating and a note."""
    run(lab.journal, lab.engine.worker, wish("plain"))
    run(lab.journal, lab.engine.worker, wish(WICKED))
    return lab.history(prompt="quoted").tag("a", "b").rate(3).note("n") and lab.history()


def test_every_column_of_the_frame_is_in_the_table_of_columns_and_in_the_help(history: History) -> None:
    frame, columns = history.to_pandas(), history.columns()
    help_text = History.to_pandas.__doc__ or ""

    stages = set(frame.columns) - set(columns.index)
    assert stages == {"queue_ms", "denoise_ms"}
    for name in set(frame.columns) - stages:
        assert columns.dtype[name] == str(frame[name].dtype)
        assert f"{name} : {columns.dtype[name]}" in help_text
    assert columns.unit["<stage>_ms"] == "ms"
    assert columns.meaning.notna().all()


def test_the_frame_carries_the_units_of_its_columns(history: History) -> None:
    frame = history.to_pandas()
    units = frame.attrs["units"]

    assert units["peak_bytes"] == "bytes"
    assert {name for name in frame.columns if name.endswith("_ms")} <= {name for name in units if units[name] == "ms"}
    assert set(history.columns().unit.dropna().to_dict().items()) - {("<stage>_ms", "ms")} <= set(units.items())


def test_a_csv_comes_back_as_it_was_written_whatever_the_prompt(history: History, tmp_path: Path) -> None:
    path = history.to_csv(tmp_path / "runs.csv")

    back = pd.read_csv(path, parse_dates=["enqueued_at"])

    frame = history.to_pandas()
    assert back.prompt.tolist() == [WICKED, "plain"]
    assert back.enqueued_at.tolist() == frame.enqueued_at.tolist()
    assert back.denoise_ms.tolist() == frame.denoise_ms.tolist()
    assert (back.tags[0], back.rating[0], back.note[0]) == ("a, b", 3, "n")


def test_parquet_keeps_types_and_units(history: History, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")

    back = pd.read_parquet(history.to_parquet(tmp_path / "runs.parquet"))

    pd.testing.assert_frame_equal(back, history.to_pandas())
    assert back.attrs["units"]["duration_ms"] == "ms"


@pytest.mark.parametrize(
    ("library", "call", "extra"), [("pyarrow", "to_parquet", "parquet"), ("mlflow", "to_mlflow", "mlflow")]
)
def test_without_an_extra_its_export_says_what_to_install(library: str, call: str, extra: str) -> None:
    code = (
        "import sys; from importlib.machinery import PathFinder; find = PathFinder.find_spec\n"
        "class Without:\n"
        f"    find_spec = staticmethod(lambda name, *rest: None if name == {library!r} else find(name, *rest))\n"
        "sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]\n"
        f"import omnirt_lab; omnirt_lab.history().{call}('x')"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert "NotAvailableError" in done.stderr
    assert f"Hint: pip install 'omnirt-lab[{extra}]'" in done.stderr

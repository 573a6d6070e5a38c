"""What the history explorer's kernel side takes and refuses, and the pure parts of its script."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from omnirt_lab import Lab
from omnirt_lab.journal import RunQuery
from omnirt_lab.widgets.history_explorer import SENT, Asked, Rate, columns_json
from tests.journal.writing import run, wish
from tests.widgets.written import WICKED

MODULE = Path(__file__).parents[2] / "omnirt_lab/widgets/history_explorer.js"


def test_the_selection_is_a_frame_of_the_runs_with_these_ids(state_dir: Path) -> None:
    with Lab() as lab:
        reports = [run(lab.journal, lab.engine.worker) for _ in range(3)]
        explorer = lab.history().explore()

        explorer.selected_ids = [reports[0].run_id, reports[2].run_id]

        assert explorer.selection.run_id.tolist() == [reports[2].run_id, reports[0].run_id]
        assert explorer.selection.dtypes.equals(lab.history().to_pandas().dtypes)
        explorer.close()


def test_a_message_is_one_of_those_that_there_are_or_refused() -> None:
    assert msgspec.convert({"kind": "rate", "run_ids": ["a"], "rating": 4}, Asked) == Rate(run_ids=("a",), rating=4)
    for wrong in (
        {"kind": "drop"},
        {"kind": "rate", "run_ids": [], "rating": 4},
        {"kind": "rate", "run_ids": ["a"], "rating": "4"},
        {"kind": "thumbnails", "run_ids": ["a"], "side_px": 100_000},
        {"kind": "load", "more": 1},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Asked)


def test_the_columns_are_a_list_each_with_figures_to_sort_by_and_texts_to_show(state_dir: Path) -> None:
    with Lab() as lab:
        report = run(lab.journal, lab.engine.worker, wish(WICKED))
        lab.history().tag("a", '"quoted"')
        rows_stored = lab.journal.query_columns(RunQuery(), SENT)

        columns = msgspec.json.decode(columns_json(rows_stored))

        assert {len(values) for values in columns.values()} == {1}
        assert columns["prompt"] == [WICKED]
        assert columns["tags"] == [["a", '"quoted"']]
        assert columns["duration_ms"] == [report.duration_ms]
        assert columns["duration"][0].endswith("ms")
        assert (columns["peak_bytes"], columns["peak"]) == ([600_000_000], ["572 MiB"])
        assert (columns["trashed"], columns["has_picture"]) == ([False], [False])


def test_the_modules_pure_parts_hold_and_it_is_small(tmp_path: Path) -> None:
    assert MODULE.stat().st_size < 20_000
    assert "innerHTML" not in MODULE.read_text(encoding="utf-8")
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    for source in (MODULE, Path(__file__).with_name("history_explorer.test.js")):
        shutil.copy(source, tmp_path / source.name)
    (tmp_path / "package.json").write_text('{"type": "module"}')

    done = subprocess.run(
        [node, "--test", "history_explorer.test.js"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout

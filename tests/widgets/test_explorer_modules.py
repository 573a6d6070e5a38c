"""The explorers' halves in the browser, as modules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

WIDGETS = Path(__file__).parents[2] / "omnirt_lab/widgets"

each_explorer = pytest.mark.parametrize("name", ["compare_explorer", "sweep_explorer"])


@each_explorer
def test_its_pure_functions_do_what_they_say(name: str, tmp_path: Path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    shutil.copy(WIDGETS / f"{name}.js", tmp_path)
    shutil.copy(Path(__file__).with_name(f"{name}.test.js"), tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')

    done = subprocess.run(
        [node, "--test", f"{name}.test.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout


@each_explorer
def test_it_is_small_and_takes_nothing_from_elsewhere(name: str):
    source = (WIDGETS / f"{name}.js").read_text(encoding="utf-8")

    assert len(source.encode()) < 20_000
    assert "import" not in source
    assert "innerHTML" not in source
    assert "http" not in source.replace("http://www.w3.org/2000/svg", "")

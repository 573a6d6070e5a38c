"""`%%omnirt profile` in a real IPython shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from omnirt_lab import GenerateResult, Profile

CELL = """
import omnirt_lab as lab
steps = 2
result = lab.generate("a red circle", steps=steps, progress=False)
%omnirt a blue circle --steps 1
"a last value"
"""


def test_a_cells_code_is_profiled_where_the_user_is(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    trace = tmp_path / "trace.json"

    profile = shell.run_cell_magic("omnirt", f"profile --sort count --top 3 --trace {trace}", CELL)

    assert isinstance(profile, Profile)
    assert isinstance(shell.user_ns["result"], GenerateResult)
    assert [report.request.config.steps for report in profile.reports] == [2, 1]
    assert "a last value" in capsys.readouterr().out
    tables = profile.to_text()
    assert "denoise: " in tables
    assert "operators more" in tables
    categories = {event.get("cat") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"stage", "operator"} <= categories


def test_a_line_profiles_one_prompt(shell: InteractiveShell) -> None:
    profile = shell.run_line_magic("omnirt", "profile a red circle, not a ring --steps 2 --top 1 --seed 3")

    (report,) = profile.reports
    assert (report.request.inputs.prompt, report.request.config.seed) == ("a red circle, not a ring", 3)


def test_an_error_in_the_cell_is_its_own_and_the_profiler_ends(shell: InteractiveShell) -> None:
    with pytest.raises(ZeroDivisionError):
        shell.run_cell_magic("omnirt", "profile", "1 / 0")
    with pytest.raises(SyntaxError):
        shell.run_cell_magic("omnirt", "profile", "for")

    assert shell.run_cell_magic("omnirt", "profile", "x = 1").reports == ()
    assert shell.user_ns["x"] == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("profile --sort self_cpu", "self_cpu_time_total"),
        ("profile --top none", "none"),
        ("profile --tpo 3", "--top"),
        ("profile a prompt", "takes no prompt"),
        ("profile --trace 'open", "quote"),
    ],
)
def test_what_is_wrong_is_said_before_the_cell_runs(shell: InteractiveShell, line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        shell.run_cell_magic("omnirt", line, "ran = True")

    assert "ran" not in shell.user_ns


def test_help_names_the_orders(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell_magic("omnirt", "profile --help", "raise AssertionError")
    shell.run_line_magic("omnirt", "profile --help")
    shell.run_line_magic("omnirt", "--help")

    cell, line, commands = capsys.readouterr().out.split("usage: ")[1:]
    assert "%%omnirt profile [options]" in cell
    assert "self_device_time_total" in cell
    assert "--steps" in line
    assert "%omnirt profile" in commands


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%omnirt prof", "profile"),
        ("%%omnirt profile --so", "--sort"),
        ("%omnirt profile a circle --st", "--steps"),
        ("%%omnirt profile --sort ", "cpu_time_total"),
    ],
)
def test_completion_offers_what_may_stand_there(shell: InteractiveShell, line: str, offered: str) -> None:
    with provisionalcompleter():
        found = [completion.text for completion in shell.Completer.completions(line, len(line))]

    assert offered in found

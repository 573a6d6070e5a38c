"""`%omnirt` in a real IPython shell."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

import omnirt_lab
from omnirt_lab import GenerateResult, History, RunReport


def test_a_line_becomes_a_picture_with_its_report(shell: InteractiveShell) -> None:
    result = shell.run_line_magic("omnirt", "a red circle on a blue background --steps 2 --seed 7 --size 64x32")

    assert isinstance(result, GenerateResult)
    assert result.images[0].size == (64, 32)
    request = result.report.request
    assert request.inputs.prompt == "a red circle on a blue background"
    assert (request.config.steps, request.config.seed) == (2, 7)


def test_all_options_reach_the_request(shell: InteractiveShell) -> None:
    result = shell.run_line_magic(
        "omnirt",
        "a moon --steps 2 --guidance 2.5 --negative 'a star, a ring' --num-images 2 --scheduler euler --seed 3",
    )

    request = result.report.request
    assert request.inputs.negative_prompt == "a star, a ring"
    assert (request.config.guidance_scale, request.config.num_images, request.config.scheduler) == (2.5, 2, "euler")
    assert len(result.images) == 2


@pytest.mark.parametrize(
    ("line", "prompt"),
    [
        ("a sign that says \"hi\" and 'ho' --steps 1", "a sign that says \"hi\" and 'ho'"),
        ('"history of a circle" --steps 1', "history of a circle"),
        ("{x} $HOME %time !ls <b>🎨</b> it's --steps 1", "{x} $HOME %time !ls <b>🎨</b> it's"),
        ("a well-known circle - red --steps 1", "a well-known circle - red"),
    ],
)
def test_the_prompt_is_taken_exactly(shell: InteractiveShell, line: str, prompt: str) -> None:
    shell.user_ns["x"] = "expanded"

    result = shell.run_line_magic("omnirt", line)

    assert result.report.request.inputs.prompt == prompt


def test_a_cell_is_the_prompt_with_its_newlines(shell: InteractiveShell) -> None:
    result = shell.run_cell_magic("omnirt", "--steps 1", "a red circle\n  on --blue 'paper'\n")

    assert result.report.request.inputs.prompt == "a red circle\n  on --blue 'paper'"


def test_history_report_and_models_come_as_objects(shell: InteractiveShell) -> None:
    result = shell.run_line_magic("omnirt", "a red circle --steps 1")

    history = shell.run_line_magic("omnirt", "history --since 1h --prompt CIRCLE")
    report = shell.run_line_magic("omnirt", f"report {result.report.run_id[:8]}")

    assert isinstance(history, History)
    assert [row.run_id for row in history] == [result.report.run_id]
    history.tag("good one")
    assert len(shell.run_line_magic("omnirt", "history --tag 'good one'")) == 1
    shell.run_line_magic("omnirt", "history --help")
    assert len(shell.run_line_magic("omnirt", "history --tag bad")) == 0
    assert isinstance(report, RunReport)
    assert report == result.report
    assert shell.run_line_magic("omnirt", "report") == report
    assert "tiny-shapes" in repr(shell.run_line_magic("omnirt", "models"))


def test_replay_runs_the_latest_run_again(shell: InteractiveShell) -> None:
    shell.run_line_magic("omnirt", "a red circle --steps 2")

    replay = shell.run_line_magic("omnirt", "replay")

    assert replay.verdict == "bit_exact"
    assert len(omnirt_lab.history().rows()) == 2


def test_compare_puts_two_runs_side_by_side(shell: InteractiveShell) -> None:
    first = shell.run_line_magic("omnirt", "a red circle --steps 1 --seed 1").report.run_id
    other = shell.run_line_magic("omnirt", "a red circle --steps 2 --seed 1").report.run_id

    comparison = shell.run_line_magic("omnirt", f"compare {first} {other[:12]}")

    assert comparison.differences["request.config.steps"] == (1, 2)


def test_sweep_reads_lists_and_ranges_as_axes(shell: InteractiveShell) -> None:
    sweep = shell.run_line_magic(
        "omnirt", "sweep a red, round circle --steps 1,2 --seed 1..2,9 --guidance 2.5 --scheduler ddim --name mine"
    )

    assert [(axis.name, axis.values) for axis in sweep.axes] == [("steps", (1, 2)), ("seed", (1, 2, 9))]
    assert sweep.name == "mine"
    assert sweep.results[0].report.request.inputs.prompt == "a red, round circle"
    assert sweep.is_complete


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sweep a red circle --steps 2", "nothing varies"),
        ("sweep a red circle --steps 1,two", "'two' is no number"),
        ("sweep a red circle --seed 4..1", "no range"),
        ("sweep a red circle --seed 1..99999999999", "no range"),
        ("sweep a red circle --sede 1,2", "no option --sede"),
        ("compare 123456", "2 to 8 runs"),
    ],
)
def test_a_bad_sweep_or_comparison_says_why_and_runs_nothing(shell: InteractiveShell, line: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        shell.magics_manager.registry["OmnirtMagics"].omnirt(line)
    assert len(omnirt_lab.history()) == 0


def test_debug_reads_the_latest_report(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_line_magic("omnirt", "a red circle --steps 2")

    shell.run_line_magic("omnirt", "debug")

    said = capsys.readouterr().out
    assert "no error: succeeded" in said
    assert said.lower().index("timing") < said.lower().index("memory") < said.lower().index("cache")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a circle --stesp 3", "--steps"),
        ("a circle --steps", "--steps"),
        ("a circle --steps many", "many"),
        ("a circle --size big", "big"),
        ("a circle --negative 'open", "quot"),
        ("a circle --steps 3 and more", "prompt first"),
        ("--steps 3", "prompt"),
        ("a circle --steps 0", "1 to 10,000"),
        ("a circle --model nowhere", "nowhere"),
        ("report nosuchrun", "nosuchrun"),
        ("history --since yesterdayish", "yesterdayish"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_way_out(shell: InteractiveShell, line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        shell.run_line_magic("omnirt", line)


def test_help_lists_options_and_commands(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_line_magic("omnirt", "--help")

    said = capsys.readouterr().out
    assert all(word in said for word in ("--steps", "--negative", "%omnirt history", "%omnirt debug"))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%omnirt ", "history"),
        ("%omnirt a circle --st", "--steps"),
        ("%omnirt history --tr", "--trashed"),
        ("%omnirt a circle --model ", "tiny-shapes"),
        ("%omnirt a circle --task ", "image2image"),
        ("%omnirt a circle --preset ", "low-vram"),
        ("%omnirt a circle --execution-mode ", "modular"),
        (f"%omnirt a circle --image {Path(__file__).parent}/te", f"{Path(__file__).parent}/{Path(__file__).name}"),
    ],
)
def test_completion_offers_what_may_stand_there(shell: InteractiveShell, line: str, offered: str) -> None:
    with provisionalcompleter():
        found = [completion.text for completion in shell.Completer.completions(line, len(line))]

    assert offered in found


def test_a_picture_and_its_mask_are_options_of_a_line(shell: InteractiveShell, tmp_path: Path) -> None:
    picture, mask = tmp_path / "picture.png", tmp_path / "mask.png"
    Image.new("RGB", (32, 32), "green").save(picture)
    Image.new("RGB", (32, 32), "white").save(mask)

    options = f"--task inpaint --image {picture} --mask {mask} --strength 0.6 --steps 5"
    result = shell.run_line_magic("omnirt", f"a red circle {options}")

    assert result.images[0].size == (32, 32)
    assert len(result.report.steps) == 3, "strength is the share of the steps that are made"


def test_dry_run_and_settings_are_options_of_a_line(shell: InteractiveShell) -> None:
    validation = shell.run_line_magic("omnirt", "a red circle --preset low-vram --dry-run --compile eager")

    assert validation.config_resolved["vae_tiling"] is True
    assert validation.config_resolved["compile"] == "eager"
    assert len(omnirt_lab.history()) == 0


def test_keyword_completion_and_help_name_every_option() -> None:
    names = inspect.signature(omnirt_lab.generate).parameters

    assert {"prompt", "steps", "seed", "guidance_scale", "negative_prompt", "width"} <= set(names)
    assert "2^63" in (omnirt_lab.generate.__doc__ or "")
    assert "generate" in dir(omnirt_lab)

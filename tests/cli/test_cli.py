"""The `omnirt` command, as a person or a program calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from omnirt_lab.cli.main import main
from omnirt_lab.lab.api import LAB

PROMPT = "a red circle on a blue background"


@pytest.fixture(autouse=True)
def _fresh_lab() -> object:
    yield
    LAB.close()


def test_run_prints_the_report_and_saves_pictures_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["run", PROMPT, "--steps", "2", "--seed", "7", "--out", str(tmp_path / "out")])

    said = capsys.readouterr().out
    assert status == 0
    assert PROMPT in said
    assert "denoise" in said
    with Image.open(tmp_path / "out" / "picture-0.png") as picture, Image.open(tmp_path / "out" / "report.png") as card:
        assert picture.size == (64, 64)
        assert card.width > 600
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["schema_version"] == "1.0.0"
    assert report["request"]["config"]["seed"] == 7


def test_run_as_json_is_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", PROMPT, "--steps", "2", "--json"]) == 0

    result = json.loads(capsys.readouterr().out)
    assert result["outputs"] == result["metadata"]["artifacts"]


def test_dry_run_says_what_a_run_would_be_in_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", PROMPT, "--dry-run", "--preset", "quality"]

    assert main(words) == 0
    assert "StableDiffusionPipeline" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config_resolved"]["num_inference_steps"] == 75
    assert len(LAB.history()) == 0


def test_replay_says_its_verdict_in_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", PROMPT, "--steps", "2", "--json"])
    run_id = json.loads(capsys.readouterr().out)["metadata"]["run_id"]

    assert main(["replay", run_id]) == 0
    assert "bit-exact" in capsys.readouterr().out
    assert main(["replay", run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "bit_exact"


def test_sweep_and_compare_have_text_json_and_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["sweep", PROMPT, "--steps", "1,2", "--seed", "1..2", "--name", "mine", "--json"]
    assert main([*words, "--png", str(tmp_path / "grid.png")]) == 0
    sweep = json.loads(capsys.readouterr().out)
    assert [cell["values"] for cell in sweep["cells"]] == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == sweep, "the second time, nothing was left to run"

    runs = [cell["run_id"] for cell in sweep["cells"][::2]]
    assert main(["compare", *runs, "--json", "--png", str(tmp_path / "compared.png")]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["differences"]["request.config.steps"] == [1, 2]
    assert (tmp_path / "compared.png").read_bytes().startswith(b"\x89PNG")
    assert main(["compare", *runs]) == 0
    assert "request.config.steps" in capsys.readouterr().out


def test_a_sweep_in_which_nothing_varies_is_a_bad_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", PROMPT, "--steps", "2"]) == 2
    assert "nothing varies" in capsys.readouterr().err


def test_history_models_and_debug_have_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", PROMPT, "--steps", "2"])
    capsys.readouterr()

    assert main(["history"]) == 0
    assert PROMPT[:10] in capsys.readouterr().out
    assert main(["history", "--json", "--since", "1h"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["prompt"] == PROMPT
    assert main(["models"]) == 0
    assert "tiny-shapes" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "tiny-shapes"
    assert main(["debug"]) == 0
    assert "no error: succeeded" in capsys.readouterr().out
    assert main(["debug", row["run_id"][:8], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"]


def test_history_finds_tags_and_ratings_and_writes_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["run", PROMPT, "--steps", "2"])
    LAB.history().tag("good").rate(4)
    capsys.readouterr()

    assert main(["history", "--tag", "good", "--rating", "4", "--csv", str(tmp_path / "runs.csv")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "runs.csv")]
    assert PROMPT in (tmp_path / "runs.csv").read_text()
    assert main(["history", "--tag", "bad", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    LAB.history().trash()
    assert main(["history", "--trashed", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["run", PROMPT, "--steps", "0"], 2, "1 to 10,000"),
        (["run", PROMPT, "--stesp", "2"], 2, "--steps"),
        (["run"], 2, "prompt"),
        (["dance"], 2, "dance"),
        (["run", PROMPT, "--model", "nowhere"], 1, "nowhere"),
        (["debug", "nosuchrun"], 1, "nosuchrun"),
        (["debug"], 1, "history is empty"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(
    words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == status

    error = capsys.readouterr().err
    assert said in error
    assert "hint:" in error


def test_an_error_as_json_has_a_stable_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", PROMPT, "--steps", "0", "--json"]) == 2

    assert json.loads(capsys.readouterr().out)["error"]["code"] == "invalid_request"

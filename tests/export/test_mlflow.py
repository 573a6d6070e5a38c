"""Export to a real MLflow, in a database of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from omnirt_lab import Lab
from omnirt_lab.errors import NotAvailableError
from omnirt_lab.export.mlflow import MlflowError
from omnirt_lab.records import ErrorInfo, JobFailedData
from tests.journal.writing import begin, run, wish

pytestmark = [
    pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed"),
    pytest.mark.filterwarnings("ignore"),  # MLflow's own, of the libraries beneath it
]

PNG = b"\x89PNG a picture"


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab with a failed run, and one with a picture and a long prompt that has all that a user can say of it."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with Lab() as lab:
        writer = begin(lab.journal, lab.engine.worker)
        writer.finish(JobFailedData(error=ErrorInfo(type="RuntimeError", message="no")))
        picture = lab.journal.artifacts.put_bytes(PNG, "image/png", width_px=64, height_px=64, seed=7)
        run(lab.journal, lab.engine.worker, wish("a circle " * 1_000), artifacts=(picture,))
        lab.history(state="succeeded").tag("keep", "best").rate(5).note("the one for the paper")
        yield lab


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's own client of the database that the test exports into."""
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_experiment("omnirt", artifact_location=str(tmp_path / "mlartifacts"))
    return client


def test_runs_arrive_with_their_figures_pictures_and_words_and_are_never_doubled(
    lab: Lab, store: Any, tmp_path: Path
) -> None:
    uri = store.tracking_uri
    succeeded, failed = lab.history().rows()

    first = lab.history().to_mlflow(uri, progress=False)
    again = lab.history().to_mlflow(uri, progress=False)
    lab.history(state="failed").tag("look")
    third = lab.history().to_mlflow(uri, progress=False)

    assert (first.exported, again.unchanged, third.updated, third.unchanged) == (2, 2, 1, 1)
    found = {run.info.run_name: run for run in store.search_runs([first.experiment_id])}
    assert set(found) == {succeeded.run_id, failed.run_id}
    assert found[failed.run_id].data.tags["omnirt.tags"] == "look"
    assert found[failed.run_id].info.status == "FAILED"
    good = found[succeeded.run_id]
    assert (good.info.status, good.info.start_time) == ("FINISHED", succeeded.enqueued_at_ms)
    assert good.data.metrics["denoise_ms"] == succeeded.timings["denoise_ms"]
    assert good.data.metrics["peak_bytes/cpu"] == 600_000_000
    assert (good.data.params["seed"], good.data.params["memory_kind"]) == ("7", "rss")
    assert good.data.params["prompt"] == ("a circle " * 1_000)[:6_000]
    words = ("omnirt.tags", "omnirt.rating", "mlflow.note.content")
    assert tuple(good.data.tags[name] for name in words) == ("keep, best", "5", "the one for the paper")
    files = Path(store.download_artifacts(good.info.run_id, "", str(tmp_path)))
    assert (files / "outputs/0.png").read_bytes() == PNG
    assert json.loads((files / "report.json").read_text())["request"]["inputs"]["prompt"] == "a circle " * 1_000

    store.set_terminated(good.info.run_id, "RUNNING")
    assert lab.history().to_mlflow(uri, progress=False).exported == 1, "a run that was cut short is written to its end"
    assert len(store.search_runs([first.experiment_id])) == 2
    assert len(store.get_metric_history(good.info.run_id, "denoise_ms")) == 1


def test_a_store_that_cannot_be_used_is_an_error_with_the_next_step(lab: Lab) -> None:
    with pytest.raises((MlflowError, NotAvailableError)) as caught:
        lab.history().to_mlflow("nonsense://nowhere", progress=False)

    assert caught.value.hint

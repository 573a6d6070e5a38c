"""Runs of the history in a user's MLflow: timings and memory as metrics, what was asked for as parameters.

MLflow is an optional extra and loaded when a target is made. Sources: the keys, lengths and reserved tags that MLflow
allows are those of https://mlflow.org/docs/latest/ml/tracking/tracking-api.
"""

from __future__ import annotations

import mimetypes
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from omnirt_lab.errors import LabError, NotAvailableError
from omnirt_lab.records import JobState, RunReport, RunRow

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from omnirt_lab.journal import ArtifactStore

Outcome = Literal["exported", "updated", "unchanged"]

RUN_ID_TAG: Final = "omnirt.run_id"
"""By this tag a run that was exported before is found again."""

MAX_PARAM_CHARS: Final = 6_000
_MAX_PARAMS: Final = 100
_PAGE: Final = 1_000
_NO_KEY_CHAR: Final = re.compile(r"[^\w\-. /]")
_STATUS_OF: Final[Mapping[JobState, str]] = {
    "succeeded": "FINISHED",
    "failed": "FAILED",
    "cancelled": "KILLED",
    "lost": "KILLED",
}


class MlflowError(LabError):
    """MLflow did not take what it was given."""

    code = "mlflow_failed"


class MlflowTarget:
    """One experiment of a tracking store, and which runs of the lab it has.

    Parameters
    ----------
    tracking_uri
        As MLflow takes it; None for the one that MLflow is set to.
    experiment
        Its name; made where there is none.

    Raises
    ------
    NotAvailableError
        If MLflow, or what this kind of store needs of it, is not installed.
    MlflowError
        If the store cannot be reached.
    """

    def __init__(self, tracking_uri: str | None, experiment: str) -> None:
        self._client = _client(tracking_uri)
        with _explained():
            found = self._client.get_experiment_by_name(experiment)
            self.experiment_id = str(
                self._client.create_experiment(experiment) if found is None else found.experiment_id
            )
            self._known = {run.data.tags[RUN_ID_TAG]: run for run in self._exported()}

    def put(self, report: RunReport, row: RunRow, artifacts: ArtifactStore) -> Outcome:
        """Export a run; of one that is there already, only the user's tags, rating and note are brought up to date.

        A run is written in four calls, the status last: one that was interrupted is written to its end.

        Raises
        ------
        MlflowError
            If MLflow refuses it; what was exported before stays.
        """
        known = self._known.get(report.run_id)
        with _explained():
            if known is None:
                self._write(self._create(report, row), report, row, artifacts)
                return "exported"
            if known.info.status == "RUNNING":
                self._write(known.info.run_id, report, row, artifacts)
                return "exported"
            return self._update(known, row)

    def _exported(self) -> Iterator[Run]:
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], filter_string=f"tags.`{RUN_ID_TAG}` LIKE '%'", max_results=_PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _create(self, report: RunReport, row: RunRow) -> str:
        run = self._client.create_run(
            self.experiment_id,
            start_time=report.enqueued_at_ms,
            run_name=report.run_id,
            tags={RUN_ID_TAG: report.run_id, "mlflow.source.name": "omnirt-lab", **user_tags(row)},
        )
        return str(run.info.run_id)

    def _write(self, run_id: str, report: RunReport, row: RunRow, artifacts: ArtifactStore) -> None:
        from mlflow.entities import Metric, Param

        ended_ms = report.finished_at_ms or report.enqueued_at_ms
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, ended_ms, 0) for name, value in metrics(report).items()],
            params=[Param(name, value) for name, value in parameters(report, row).items()],
        )
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), report, artifacts)
            self._client.log_artifacts(run_id, folder)
        self._client.set_terminated(run_id, _STATUS_OF[row.state], end_time=ended_ms)

    def _update(self, known: Run, row: RunRow) -> Outcome:
        from mlflow.entities import RunTag

        changed = {name: text for name, text in user_tags(row).items() if known.data.tags.get(name, "") != text}
        if not changed:
            return "unchanged"
        self._client.log_batch(known.info.run_id, tags=[RunTag(name, text) for name, text in changed.items()])
        return "updated"


def metrics(report: RunReport) -> dict[str, float]:
    """`<stage>_ms` and the run's other times, `peak_bytes/<device>`; what was not measured is left out."""
    savings_ms = [use.saved_ms for use in report.cache_details if use.saved_ms is not None]
    figures: dict[str, float | None] = {
        **report.timings,
        "duration_ms": report.duration_ms,
        "queue_wait_ms": report.queue_wait_ms,
        "saved_ms": sum(savings_ms) if savings_ms else None,
        **{f"peak_bytes/{device}": peak for device, peak in report.memory.peak_bytes.items()},
    }
    return {_key(name): float(value) for name, value in figures.items() if value is not None}


def parameters(report: RunReport, row: RunRow) -> dict[str, str]:
    """What was asked for, and what the pipeline made of it; a long text is cut, `report.json` has all of it."""
    asked = {
        name: getattr(row, name)
        for name in (
            *("model", "task", "backend", "execution_mode", "prompt", "negative_prompt", "seed", "steps"),
            *("guidance_scale", "width_px", "height_px", "num_images", "scheduler", "batch_size", "memory_kind"),
        )
    }
    plain = {
        f"config/{name}": value
        for name, value in report.config_resolved.items()
        if isinstance(value, bool | int | float | str)
    }
    given = {
        _key(name): str(value)[:MAX_PARAM_CHARS] for name, value in {**asked, **plain}.items() if value is not None
    }
    return dict(list(given.items())[:_MAX_PARAMS])


def user_tags(row: RunRow) -> dict[str, str]:
    """What the user has said of the run; an empty text where nothing is said."""
    return {
        "omnirt.tags": ", ".join(row.tags),
        "omnirt.rating": "" if row.rating is None else str(row.rating),
        "mlflow.note.content": (row.note or "")[:MAX_PARAM_CHARS],
    }


def write_files(folder: Path, report: RunReport, artifacts: ArtifactStore) -> None:
    """`report.json`, and the outputs that are still stored as `outputs/0.png` and so on."""
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    (folder / "outputs").mkdir()
    for index, artifact in enumerate(report.artifacts):
        if artifacts.size_bytes([artifact.sha256]):
            suffix = mimetypes.guess_extension(artifact.media_type) or ""
            (folder / "outputs" / f"{index}{suffix}").write_bytes(artifacts.read(artifact.sha256))


def _key(name: str) -> str:
    """A name of the characters that every MLflow store takes: `cuda:0` becomes `cuda_0`."""
    return _NO_KEY_CHAR.sub("_", name)


def _client(tracking_uri: str | None) -> MlflowClient:
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise NotAvailableError(
            "MLflow is not installed", hint="pip install 'omnirt-lab[mlflow]', and restart the kernel."
        ) from error
    try:
        with _explained():
            return MlflowClient(tracking_uri)
    except ImportError as error:
        raise NotAvailableError(
            f"this kind of tracking store needs {error.name}, which is not installed",
            hint="pip install mlflow: mlflow-skinny alone reaches tracking servers, and no database of its own.",
        ) from error


@contextmanager
def _explained() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise MlflowError(
            f"MLflow says: {str(error)[:500]}",
            hint="Look at the tracking URI; then export again: runs that are there already are not doubled.",
        ) from error

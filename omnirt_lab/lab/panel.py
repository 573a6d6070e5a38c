"""What a control panel asks of the lab: the models at hand, what each takes, and runs that it queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from omnirt_lab import records
from omnirt_lab.lab.results import RunReport
from omnirt_lab.records import GenerateRequest, Task

if TYPE_CHECKING:
    from omnirt_lab.journal import JobRecord, Journal
    from omnirt_lab.lab.jobs import Job
    from omnirt_lab.pipelines.call_options import CallOptions
    from omnirt_lab.widgets.panel import Panel

Submit = Callable[..., "Job"]


class LabBench:
    """The lab as a panel sees it.

    Parameters
    ----------
    submit
        The lab's own.
    model
        Offered first, whether or not the catalog lists it.
    """

    def __init__(self, submit: Submit, journal: Journal, model: str) -> None:
        self._submit = submit
        self._model = model
        self.journal = journal

    def model_names(self) -> tuple[str, ...]:
        """The chosen model, then the others at hand."""
        from omnirt_lab.pipelines.catalog import list_models  # reaches diffusers

        return tuple(dict.fromkeys((self._model, *(source.name for source in list_models()))))

    def tasks_of(self, model: str) -> tuple[Task, ...]:
        """What the model can do."""
        from omnirt_lab.pipelines.catalog import get_model  # reaches diffusers

        return get_model(model).tasks

    def options_of(self, model: str, task: Task) -> CallOptions:
        """What the model's pipeline takes for this task."""
        from omnirt_lab.pipelines.call_options import call_options  # loads diffusers
        from omnirt_lab.pipelines.catalog import get_model

        return call_options(get_model(model), task)

    def submit(self, prompt: str, options: Mapping[str, Any], *, priority: int) -> JobRecord:
        """Queue a run for this process's worker thread."""
        return self.journal.get_job(self._submit(prompt, priority=priority, **options).id)

    def get_report(self, run_id: str) -> RunReport:
        """The report of a run, with its views."""
        return RunReport.of(self.journal.get_report(run_id))

    def pictures_of(self, report: records.RunReport) -> list[bytes]:
        """What the run made, to look at."""
        return RunReport.of(report).pictures()


def panel_of(submit: Submit, journal: Journal, model: str | None) -> Panel:
    """Make a panel over this lab.

    Raises
    ------
    UnknownModelError
        If there is no such model.
    """
    from omnirt_lab.widgets.panel import Panel  # loads IPython

    bench = LabBench(submit, journal, model or GenerateRequest().model)
    bench.tasks_of(bench.model_names()[0])
    return Panel(bench)

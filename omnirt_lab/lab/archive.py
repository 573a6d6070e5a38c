"""What a lab can look up: its history, reports, jobs and models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Unpack

from omnirt_lab.engine import InputFiles, build_request
from omnirt_lab.errors import RunNotFoundError
from omnirt_lab.executors import get_executor
from omnirt_lab.journal import Journal, RunQuery
from omnirt_lab.lab.filters import HistoryFilters, query_of, with_filters
from omnirt_lab.lab.history import History
from omnirt_lab.lab.jobs import Job
from omnirt_lab.lab.liveness import with_lost_ended
from omnirt_lab.lab.models import Models
from omnirt_lab.lab.options import RequestOptions, with_request_options
from omnirt_lab.lab.results import RunReport
from omnirt_lab.lab.validation import Validation


class Archive(ABC):
    """The part of a lab that runs nothing."""

    @property
    @abstractmethod
    def journal(self) -> Journal:
        """The durable store of events, jobs and runs."""

    @abstractmethod
    def _last_run_id(self) -> str | None:
        """The newest run that this process has made."""

    def _input_files(self) -> InputFiles:
        return InputFiles(lambda: self.journal.artifacts)

    @with_request_options
    def validate(self, prompt: str, **options: Unpack[RequestOptions]) -> Validation:
        """Say what a run of this would be, without loading or writing anything.

        Parameters
        ----------
        prompt
            What to draw, 1 to 20,000 characters.
        **options

        Returns
        -------
        Validation
            The request with its preset merged, the pipeline's class, every argument of its call, dtype and device.

        Raises
        ------
        InvalidRequestError, UnknownModelError, ModelLoadError
            If it cannot be run as it stands.
        """
        request = build_request(prompt, self._input_files().named(options))
        get_executor(request.config.execution_mode)
        return Validation.of(request)

    @with_filters
    def history(self, **filters: Unpack[HistoryFilters]) -> History:
        """The runs that match, newest first, from every process that shares this state directory.

        Parameters
        ----------
        **filters

        Raises
        ------
        InvalidRequestError
            For a filter that has no meaning.
        """
        return History(self.journal, query_of(filters))

    def get_report(self, run_id: str) -> RunReport:
        """The report of a run, by its id or an unambiguous beginning of at least six characters.

        Raises
        ------
        RunNotFoundError
            If there is none, or several.
        """
        return RunReport.of(with_lost_ended(self.journal).get_report(run_id))

    def last_report(self) -> RunReport:
        """The report of the newest run: of this process if it made one, else of the history.

        Raises
        ------
        RunNotFoundError
            If the history is empty.
        """
        run_id = self._last_run_id()
        if run_id is None:
            newest = with_lost_ended(self.journal).query_runs(RunQuery(limit=1))
            if not newest:
                raise RunNotFoundError("the history is empty", hint="Make a run: omnirt_lab.generate('a red circle').")
            run_id = newest[0].run_id
        return self.get_report(run_id)

    def get_job(self, job_id: str) -> Job:
        """A handle on a job that any process has submitted.

        Raises
        ------
        JobNotFoundError
            If there is none.
        """
        job = self.journal.get_job(job_id)
        return Job(self.journal, job.job_id, job.run_id)

    def models(self) -> Models:
        """The models at hand without a network: built-in ones, and those in the hub's local cache."""
        return Models.at_hand()

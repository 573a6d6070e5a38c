"""The lab of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from omnirt_lab.engine import Engine, build_request, unattended
from omnirt_lab.engine.observation import observe, unobserve
from omnirt_lab.engine.publication import Publications
from omnirt_lab.journal import BUSY_TIMEOUT_S, Journal
from omnirt_lab.lab.archive import Archive
from omnirt_lab.lab.attendance import attend_call, attend_run
from omnirt_lab.lab.caches import Caches
from omnirt_lab.lab.compare import Compared, Comparison, compare_runs
from omnirt_lab.lab.configuration import Configured
from omnirt_lab.lab.jobs import Job
from omnirt_lab.lab.liveness import with_lost_ended
from omnirt_lab.lab.options import RequestOptions, with_request_options
from omnirt_lab.lab.panel import panel_of
from omnirt_lab.lab.plan import plan_of
from omnirt_lab.lab.replay import Replay, Source, compared, recorded
from omnirt_lab.lab.results import GenerateResult, result_of
from omnirt_lab.lab.stores import STORES
from omnirt_lab.lab.sweep import Sweep
from omnirt_lab.lab.validation import Validation
from omnirt_lab.records import AnyEvent

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from omnirt_lab.widgets.panel import Panel

PipelineT = TypeVar("PipelineT", bound="DiffusionPipeline")


class Lab(Configured, Archive):
    """Runs pipelines, watches yours, and keeps the history. A process has one; its methods are the package's API.

    Nothing is opened or loaded before it is needed.

    Parameters
    ----------
    state_dir
        Where the history is kept; by default where the environment says (`$OMNIRT_STATE_DIR`).
    busy_timeout_s
        How long to wait for another process that holds the journal's lock.
    """

    def __init__(self, state_dir: Path | None = None, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self.cache = Caches()
        self._state_dir = state_dir
        self._busy_timeout_s = busy_timeout_s
        self._engine: Engine | None = None
        self._publications = Publications()
        self._lock = threading.Lock()

    @overload
    def generate(
        self,
        prompt: str,
        *,
        progress: bool = ...,
        on_event: Callable[[AnyEvent], None] | None = ...,
        dry_run: Literal[False] = ...,
        **options: Unpack[RequestOptions],
    ) -> GenerateResult: ...
    @overload
    def generate(self, prompt: str, *, dry_run: Literal[True], **options: Unpack[RequestOptions]) -> Validation: ...

    @with_request_options
    def generate(
        self,
        prompt: str,
        *,
        progress: bool = True,
        on_event: Callable[[AnyEvent], None] | None = None,
        dry_run: bool = False,
        **options: Unpack[RequestOptions],
    ) -> GenerateResult | Validation:
        """Run a pipeline here and now, and return its pictures with their report.

        Parameters
        ----------
        prompt
            What to draw, 1 to 20,000 characters.
        progress
            Show how far it is: live in a notebook, with the picture as it is predicted and a button that stops the run;
            as a line of text elsewhere.
        on_event
            Called with each event in the thread that emits it; must be quick.
        dry_run
            Check everything and load nothing: what `validate` does and returns.
        **options

        Raises
        ------
        InvalidRequestError, UnknownModelError
            Before anything is loaded or written.
        ModelLoadError, PipelineError, JobCancelledError
            After the run began; its partial report is in the history, and `last_report()` has it.
        KeyboardInterrupt
            On Ctrl-C; the run ends as cancelled, and the next one is not affected.
        """
        if dry_run:
            return self.validate(prompt, **options)
        files = self._input_files()
        request = build_request(prompt, files.named(options))
        listeners = () if on_event is None else (on_event,)
        attend = attend_run if progress else unattended
        return result_of(self.engine.run(request, files=files, listeners=listeners, attend=attend))

    @with_request_options
    def submit(
        self,
        prompt: str,
        *,
        priority: int = 0,
        idempotency_key: str | None = None,
        **options: Unpack[RequestOptions],
    ) -> Job:
        """Queue a run for this process's worker thread, and return its handle at once.

        Parameters
        ----------
        prompt
            What to draw, 1 to 20,000 characters.
        priority
            Higher runs first; equal ones in the order of arrival.
        idempotency_key
            A second `submit` with the same key returns the first one's job.
        **options

        Raises
        ------
        InvalidRequestError, UnknownModelError
            Before anything is queued.
        """
        files = self._input_files()
        request = build_request(prompt, files.named(options))
        job = self.engine.submit(request, files=files, priority=priority, idempotency_key=idempotency_key)
        return Job(self.engine.journal, job.job_id, job.run_id)

    def replay(self, source: Source, *, progress: bool = True) -> Replay:
        """Run a recorded request again, and compare what comes out with what came then.

        What decides the bits is restored: seed, steps, guidance, size, scheduler, dtype, adapters, number of pictures,
        and how many requests shared the call, by copies of this one.
        What belongs to this process, such as threads and versions, stays as it is; the answer names what differs.

        Parameters
        ----------
        source
            A run's id or report, or a picture that the lab has stored: its path, its bytes, or a PIL image.

        Returns
        -------
        Replay
            `verdict`, `max_abs_diff`, `differing_fields`, and the new run's `result`.

        Raises
        ------
        InvalidRequestError
            If the run cannot be repeated; the message says why. Nothing was loaded.
        RunNotFoundError, UnknownModelError
            If there is no such run, or its model is not here.
        """
        then = recorded(self.journal, source)
        attend = attend_run if progress else unattended
        report = self.engine.run(then.request, attend=attend, batch_size=then.batch_size)
        return compared(then, result_of(report))

    def compare(self, *runs: Compared) -> Comparison:
        """Put runs side by side: what differs in how they were made, in time, in memory and in the pictures.

        Parameters
        ----------
        *runs
            Two to eight; each a run's id, its report or its result, or a list of these for repeats of one run, which
            give mean and spread, with the run that loaded the model set apart. The first is what the others are held
            against.

        Raises
        ------
        InvalidRequestError
            For too few or too many runs, or something that is none.
        RunNotFoundError
            If there is no such run.
        """
        return compare_runs(with_lost_ended(self.journal), runs)

    @with_request_options
    def sweep(
        self,
        prompt: str | Sequence[str],
        *,
        name: str | None = None,
        progress: bool = True,
        retry_failed: bool = False,
        batch_size: int = 1,
        **options: Any,
    ) -> Sweep:
        """Run every combination of the options that are given as lists, here and now, one after the other.

        With `execution_mode="ray"` they run side by side, as many as the cluster has room for.

        A run that fails stays in its place with its error, and the others go on. Ctrl-C ends the sweep and returns
        what was done; `resume()`, or a sweep of the same name, goes on with what is missing. Nothing runs twice.

        Parameters
        ----------
        prompt
            What to draw; a list of prompts is an axis, too.
        name
            What the sweep is found again by, in the tag `sweep:<name>` of its runs; drawn if left out.
        progress
            Show a line that counts the runs, with the time that is left.
        retry_failed
            Run cells of this name that have failed once more.
        batch_size
            Up to how many neighbouring cells that differ only in seeds counting up share one call of the pipeline. It
            is faster, and a picture may differ from a single run's in its last bits; its report has the `batch_size`.
        **options

            Each may be a list, a tuple or a range: an axis of the grid. One whose own value is a list, such as
            `adapters`, becomes an axis by a list of lists. Without `seed` every cell has seed 0.

        Raises
        ------
        InvalidRequestError, UnknownModelError
            Before anything runs: for no axis, an empty one, a cell that stands twice, more than 10,000 cells, or
            anything that `generate` would refuse in any of them.
        """
        files = self._input_files()
        plan = plan_of(prompt, files.named(options))
        sweep = Sweep(lambda: self.engine, plan, name, batch_size=batch_size)
        for shape in plan.shapes:
            self.engine.check(shape)
        files.store()
        return sweep.resume(progress=progress, retry_failed=retry_failed)

    def observe(
        self,
        pipeline: PipelineT,
        *,
        name: str | None = None,
        keep_pictures: bool = True,
        cache_text_embeddings: bool = False,
    ) -> PipelineT:
        """Watch every later call of a pipeline that you already have; its outputs stay bit-identical.

        Returns the same object. Each call becomes a run of the history, under `name` or the pipeline's class name;
        `last_report()` has the latest. `unobserve` ends it.

        Parameters
        ----------
        keep_pictures
            Store the pictures that a call returns, so that reports show them.
        cache_text_embeddings
            Answer repeated text-encoder calls from the cache.

        Raises
        ------
        InvalidRequestError
            If it is no diffusers pipeline.
        StateDirError, JournalError
            If the history cannot be kept.
        """
        return observe(
            lambda: self.engine,
            pipeline,
            name=name,
            keep_pictures=keep_pictures,
            cache_text_embeddings=cache_text_embeddings,
            attend=attend_call,
        )

    def unobserve(self, pipeline: PipelineT) -> PipelineT:
        """Stop watching; the pipeline is as it was before `observe`. Without effect on one that is not observed."""
        return unobserve(pipeline)

    def publish(self, pipeline: PipelineT, *, name: str) -> PipelineT:
        """Let the hosted API run jobs on your pipeline, as the model `name`, while this process lives.

        The Jupyter server that follows the same state directory takes the requests; a thread of this process runs
        them, one after the other, and never during your own call of the pipeline. Returns the same object.

        Parameters
        ----------
        name
            1 to 64 letters, digits, dots, dashes and underscores; a name that you have published already gets this
            pipeline instead.

        Raises
        ------
        InvalidRequestError
            If it is no diffusers pipeline, or the name is a built-in model's or no name.
        StateDirError, JournalError
            If the journal cannot be used.
        """
        self._publications.publish(self.engine, pipeline, name)
        return pipeline

    def unpublish(self, name: str) -> None:
        """Serve `name` no longer, once the job that runs has ended; jobs that wait for it are lost.

        Raises
        ------
        InvalidRequestError
            If this process has published nothing under this name.
        """
        self._publications.unpublish(name)

    def panel(self, model: str | None = None) -> Panel:
        """A form over a model's real options, with what it makes beneath it: for those who don't write code.

        Its runs are queued for this process's worker thread, so that cells go on working; the history has them.

        Parameters
        ----------
        model
            The one to begin with, as `generate` takes it.

        Raises
        ------
        UnknownModelError
            If there is no such model.
        """
        return panel_of(self.submit, self.journal, model)

    @property
    def journal(self) -> Journal:
        """The durable store of events, jobs and runs."""
        return self.engine.journal

    def _last_run_id(self) -> str | None:
        return None if self._engine is None else self._engine.last_run_id

    @property
    def engine(self) -> Engine:
        """The engine of this process, made at first use."""
        with self._lock:
            if self._engine is None:
                journal = Journal.open(self._state_dir, busy_timeout_s=self._busy_timeout_s)
                STORES.add(journal.artifacts)
                self._engine = Engine(journal)
            return self._engine

    def close(self) -> None:
        """Finish the jobs that run, unpublish, and close the journal; the next use opens it again."""
        self._publications.close()
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
            engine.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

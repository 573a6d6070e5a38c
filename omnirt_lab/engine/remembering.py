"""Runs that are answered from the history, because the same run was made before: opt-in, and with a seed alone.

What is kept is the history itself. A run that has made its result while this was on has a key in its report, and is
found by it; when it is deleted, or a file of it is missing, there is nothing to be found.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from omnirt_lab.errors import ArtifactNotFoundError, LabError, RunNotFoundError
from omnirt_lab.executors import WITH_RESULT_CACHE, Execution, get_executor
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal import RunQuery
from omnirt_lab.records import (
    CacheHitData,
    CacheMissData,
    JobFinishedData,
    JobStartedData,
    ProbeCost,
    Record,
    Resolved,
    WarningData,
)
from omnirt_lab.units import NS_PER_MS

if TYPE_CHECKING:
    from omnirt_lab.journal import JobWriter, Journal
    from omnirt_lab.records import GenerateRequest, RunReport

CACHE_TYPE: Final = "result"


class ResultCacheStats(Record, frozen=True, kw_only=True):
    """What this process has asked of the history."""

    is_enabled: bool
    """What counts for a run that does not say it itself."""

    calls: int

    hits: int

    saved_ns: int
    """What the runs that made the results had taken, without loading their models, less what the hits cost."""


class ResultFigures:
    """Counts of one process; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = self._hits = self._saved_ns = 0

    def count(self, *, saved_ns: int | None = None, is_hit: bool) -> None:
        """Count one question."""
        with self._lock:
            self._calls += 1
            self._hits += is_hit
            self._saved_ns += saved_ns or 0

    def stats(self) -> ResultCacheStats:
        """The counts so far."""
        with self._lock:
            return ResultCacheStats(
                is_enabled=SETTINGS.current.result_cache, calls=self._calls, hits=self._hits, saved_ns=self._saved_ns
            )

    def clear(self) -> None:
        """Start the figures anew; the history stays."""
        with self._lock:
            self._calls = self._hits = self._saved_ns = 0


RESULTS: Final = ResultFigures()


class RememberedExecution:
    """One checked job: answered from the history where that is wanted and can be, else executed by its mode."""

    def __init__(self, journal: Journal, request: GenerateRequest, writer: JobWriter) -> None:
        self._journal = journal
        self._request = request
        self._writer = writer
        self._execution: Execution | None = None

    @property
    def cost(self) -> ProbeCost:
        """What measuring cost; its defaults while nothing is executed."""
        return ProbeCost() if self._execution is None else self._execution.cost

    def run(self) -> JobFinishedData:
        """Answer, or do the work."""
        if not _is_wanted(self._request):
            return self._execute()
        begun_ns = self._writer.now_ns()
        key = self._find_key()
        return self._execute_unknown() if key is None else self._find_or_execute(key, begun_ns)

    def _find_or_execute(self, key: str, begun_ns: int) -> JobFinishedData:
        found = self._find(key)
        if found is not None:
            return self._answer(found, begun_ns)
        RESULTS.count(is_hit=False)
        try:
            finished = self._execute()
        finally:
            self._writer.emit(CacheMissData(cache_type=CACHE_TYPE))  # once the run has begun, which clears its figures
        return replace(finished, result_key=key) if self._is_still(key) else finished

    def _execute_unknown(self) -> JobFinishedData:
        finished = self._execute()
        if self._request.config.result_cache:
            self._writer.emit(_NO_KEY)
        return finished

    def _execute(self) -> JobFinishedData:
        self._execution = get_executor(self._request.config.execution_mode).begin(self._request, self._writer)
        return self._execution.run()

    def _is_still(self, key: str) -> bool:
        """Whether neither files nor settings have changed while the run was made."""
        try:
            return self._find_key() == key
        except LabError:  # the model's folder is gone, and the result is there all the same
            return False

    def _find_key(self) -> str | None:
        from omnirt_lab.pipelines.result_key import find_result_key  # loads torch

        return find_result_key(self._request, embed_metadata=SETTINGS.current.embed_metadata)

    def _find(self, key: str) -> RunReport | None:
        """The newest run that can stand in for this one, with all its files."""
        query = RunQuery(state="succeeded", seed=self._request.config.seed, result_key=key)
        for (run_id,) in self._journal.query_columns(query, ("run_id",)):
            try:
                report = self._journal.get_report(run_id)
                for artifact in report.artifacts:
                    self._journal.artifacts.path(artifact.sha256)
                    if artifact.preview_sha256 is not None:
                        self._journal.artifacts.path(artifact.preview_sha256)
            except (RunNotFoundError, ArtifactNotFoundError):  # it is being purged, or somebody has removed a file
                continue
            if report.artifacts:
                return report
        return None

    def _answer(self, found: RunReport, begun_ns: int) -> JobFinishedData:
        from omnirt_lab.pipelines.environment import environment  # loads torch

        self._writer.emit(
            JobStartedData(
                worker_id=self._writer.worker_id,
                execution_mode=self._request.config.execution_mode,
                environment=environment(),
                resolved=_resolved(found),
            ),
            t_ns=begun_ns,
        )
        saved_ns = None
        if found.duration_ms is not None:
            made_ms = found.duration_ms - found.timings.get("load_ms", 0.0)
            saved_ns = round(made_ms * NS_PER_MS) - (self._writer.now_ns() - begun_ns)
        RESULTS.count(saved_ns=saved_ns, is_hit=True)
        self._writer.emit(
            CacheHitData(
                cache_type=CACHE_TYPE,
                saved_ns=saved_ns,
                size_bytes=sum(artifact.size_bytes for artifact in found.artifacts),
                source_run_id=found.run_id,
            )
        )
        return JobFinishedData(artifacts=found.artifacts)


_NO_KEY: Final = WarningData(
    code="result_cache_unused",
    message="result_cache was asked for, and what decides this result is not known before it is made",
    hint="Download the adapter, and give its folder.",
)


def _is_wanted(request: GenerateRequest) -> bool:
    config = request.config
    wanted = SETTINGS.current.result_cache if config.result_cache is None else config.result_cache
    return wanted and config.seed is not None and config.execution_mode in WITH_RESULT_CACHE


def _resolved(found: RunReport) -> Resolved | None:
    """What the result was made with; on no device now, because nothing is loaded."""
    if found.pipeline_class is None:
        return None
    return Resolved(
        pipeline_class=found.pipeline_class,
        components={name: replace(facts, device=None) for name, facts in found.components.items()},
        scheduler_config=found.scheduler_config,
        config=found.config_resolved,
        generators=found.generators,
    )

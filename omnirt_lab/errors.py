"""The lab's errors: a fact with numbers, and a hint that says what to do next."""

from __future__ import annotations

from typing import ClassVar


class LabError(Exception):
    """Base of the lab's errors; `hint` is the next step, shown under the traceback."""

    code: ClassVar[str] = "lab_error"
    """A stable name for programs: what `--json` prints and the API answers."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
        self.add_note(f"Hint: {hint}")


class InvalidRequestError(LabError, ValueError):
    """The request cannot be run as it stands; nothing was loaded or written."""

    code = "invalid_request"


class UnknownOptionError(InvalidRequestError):
    """An option that neither the lab nor the pipeline knows."""

    code = "unknown_option"


class UnsupportedTaskError(InvalidRequestError):
    """The model's pipeline cannot do this task."""

    code = "unsupported_task"


class NotAvailableError(InvalidRequestError):
    """Asked for something that this machine or installation does not have."""

    code = "not_available"


class NotEnoughMemoryError(NotAvailableError):
    """The run certainly needs more memory than there is, by an estimate made before a weight was read."""

    code = "not_enough_memory"


class TooLargeError(InvalidRequestError):
    """The request's body is larger than the server takes."""

    code = "too_large"


class UnknownModelError(LabError, LookupError):
    """No built-in model, local folder or cached hub model has this name."""

    code = "unknown_model"


class ModelNotAllowedError(UnknownModelError):
    """The model is neither allowed by the server's operator nor published by a notebook."""

    code = "model_not_allowed"


class ModelLoadError(LabError):
    """The model exists, but its files could not be made into a pipeline."""

    code = "model_load_failed"


class PipelineError(LabError):
    """The pipeline raised while it ran; the original exception is the cause."""

    code = "pipeline_failed"


class OutOfMemoryError(PipelineError):
    """A child process had not enough memory for the run; it is gone, and its memory free."""

    code = "out_of_memory"


class ChildDiedError(PipelineError):
    """The child process that ran the job ended before it had a result, by a signal or by its own exit."""

    code = "child_died"


class ActorDiedError(PipelineError):
    """The Ray actor that ran the job died, with its process or its node, as often as it was tried."""

    code = "actor_died"


class ClusterUnreachableError(LabError):
    """The Ray cluster that was configured does not answer."""

    code = "cluster_unreachable"


class PipelineBusyError(LabError):
    """Another call of the pipeline, or of one that shares a component with it, is running."""

    code = "pipeline_busy"


class JobCancelledError(LabError):
    """The job was cancelled before it had a result."""

    code = "job_cancelled"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the place of a stack: who has pressed Stop looks for no fault in the code."""
        return [f"{type(self).__name__}: {self}", *self.__notes__]


class JobTimeoutError(JobCancelledError):
    """The job took longer than its `timeout_s`, and was ended."""

    code = "job_timeout"


class JobLostError(LabError):
    """The worker that ran the job ended without finishing it."""

    code = "job_lost"


class RunnerUnavailableError(LabError):
    """The server's runner does not start, so nobody can run the job."""

    code = "runner_unavailable"


class JobNotFoundError(LabError, LookupError):
    """The journal has no job with this id."""

    code = "job_not_found"


class RunNotFoundError(LabError, LookupError):
    """The journal has no run with this id."""

    code = "run_not_found"


class ArtifactNotFoundError(LabError, LookupError):
    """The artifact store has no file with this sha256."""

    code = "artifact_not_found"


class PreviewNotFoundError(LabError, LookupError):
    """The job has no preview now: it does not run, or is too short to make one cheap."""

    code = "preview_not_found"


class QueueFullError(LabError):
    """As many jobs are waiting as the queue may hold."""

    code = "queue_full"


class StateDirError(LabError, OSError):
    """The state directory cannot be used: read-only, full, or on a network file system."""

    code = "state_dir_unusable"


class JournalError(LabError):
    """The journal cannot be read or written."""

    code = "journal_error"


class JournalLockedError(JournalError):
    """Another process held the journal's write lock for too long."""

    code = "journal_locked"


class JournalCorruptError(JournalError):
    """The journal's file is damaged or is no journal."""

    code = "journal_corrupt"


class JournalTooNewError(JournalError):
    """A newer version of the lab has written this journal."""

    code = "journal_too_new"


def errors_by_name() -> dict[str, type[LabError]]:
    """Every error class of the lab that is loaded, by the name that an `ErrorInfo` has."""
    found: dict[str, type[LabError]] = {}
    waiting: list[type[LabError]] = [LabError]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found

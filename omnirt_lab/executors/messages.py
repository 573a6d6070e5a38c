"""What one who has runs done elsewhere, and the one that does them, say to each other.

To the worker: `Run`, and while it runs `Cancel` and `ShowPreviews`; `Check` and `AskCaches` at any time. From the
worker: `Hello` at once, `Ready` when it has loaded its libraries, `Checked`, `Caches`; and for a `Run` any number of
`Events` and `Preview`, and in the end either `Finished` or `Raised`. Where the two share no disk, files travel with a
`Run`, and back as `File`. How messages travel is the carrier's matter: a child process has pipes (`frames`), an actor
of a cluster its own stream.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Final, TypeAlias

import msgspec

from omnirt_lab.executors.settings import Settings
from omnirt_lab.journal import JobRecord
from omnirt_lab.journal.events import to_json
from omnirt_lab.records import AnyEvent, ErrorInfo, GenerateRequest, JobFinishedData, Json, ProbeCost, Record

PROTOCOL: Final = 1
"""Raised when a message changes its meaning; `Hello` keeps its shape for ever."""

VERSION: Final = version("omnirt-lab")


CacheFigures: TypeAlias = dict[str, dict[str, Json]]
"""Cache type → its figures, by name."""


class Message(Record, frozen=True, kw_only=True, tag_field="message"):
    """One thing said."""


class Run(Message, frozen=True, kw_only=True, tag="run"):
    """Run this job."""

    job: JobRecord

    worker_id: str
    """Of the one who sends it."""

    settings: Settings

    sent_t_ns: int
    """When it was sent, on the job's clock: another machine's clock goes on from there."""

    attempt: int = 1

    state_dir: str | None
    """Where files are kept; None where the worker does not reach that, and files travel."""

    files: dict[str, bytes] = msgspec.field(default_factory=dict)
    """Those that the request names, by sha256, where files travel."""

    directory: str
    """What relative paths of models and adapters start from."""

    shows_previews: bool


class Cancel(Message, frozen=True, kw_only=True, tag="cancel"):
    """Stop this run at its next boundary."""

    run_id: str


class ShowPreviews(Message, frozen=True, kw_only=True, tag="show_previews"):
    """Somebody looks at the picture while it is made, or does so no longer."""

    wanted: bool


class Check(Message, frozen=True, kw_only=True, tag="check"):
    """Say what is wrong with this request, as far as that can be known without weights."""

    number: int
    """Comes back with the answer."""

    request: GenerateRequest

    directory: str


class AskCaches(Message, frozen=True, kw_only=True, tag="ask_caches"):
    """Say what the caches have done and hold."""

    number: int
    """Comes back with the answer."""


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """The worker's process is there."""

    protocol: int

    version: str
    """Of omnirt-lab."""

    python: str

    pid: int | None = None

    node: str | None = None
    """The machine, of a cluster."""


class Ready(Message, frozen=True, kw_only=True, tag="ready"):
    """It can run jobs."""


class Checked(Message, frozen=True, kw_only=True, tag="checked"):
    """The answer to a `Check`."""

    number: int

    error: ErrorInfo | None = None


class Caches(Message, frozen=True, kw_only=True, tag="caches"):
    """The answer to an `AskCaches`."""

    number: int

    worker_id: str
    """As its runs name it; before the first one the process's own name."""

    figures: CacheFigures


class Events(Message, frozen=True, kw_only=True, tag="events"):
    """Facts about the run, known at one moment; their `seq` is the reader's to give."""

    events: tuple[AnyEvent, ...]


class File(Message, frozen=True, kw_only=True, tag="file"):
    """A file that the run has made, sent before whatever names it."""

    content: bytes

    media_type: str


class Preview(Message, frozen=True, kw_only=True, tag="preview"):
    """The picture as it will be, as far as can be told after `step` steps."""

    content: bytes

    media_type: str

    step: int


class Finished(Message, frozen=True, kw_only=True, tag="finished"):
    """The run has succeeded."""

    data: JobFinishedData


class Raised(Message, frozen=True, kw_only=True, tag="raised"):
    """The run has ended by an exception, a cancel included."""

    error: ErrorInfo

    cost: ProbeCost

    is_spent: bool = False
    """The worker had no memory left: nothing more should be asked of it."""


ToWorker: TypeAlias = Run | Cancel | ShowPreviews | Check | AskCaches

FromWorker: TypeAlias = Hello | Ready | Checked | Caches | Events | File | Preview | Finished | Raised

_to_worker: Final[msgspec.json.Decoder[ToWorker]] = msgspec.json.Decoder(ToWorker)
_from_worker: Final[msgspec.json.Decoder[FromWorker]] = msgspec.json.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """The message as JSON."""
    return to_json(message).encode()


def decode_to_worker(content: bytes) -> ToWorker:
    """What the worker is told.

    Raises
    ------
    msgspec.DecodeError
        If it is no such message.
    """
    return _to_worker.decode(content)


def decode_from_worker(content: bytes) -> FromWorker:
    """What the worker says.

    Raises
    ------
    msgspec.DecodeError
        If it is no such message.
    """
    return _from_worker.decode(content)

"""The durable journal: one SQLite file, where every process appends what it does and reads what others did."""

from omnirt_lab.journal.artifacts import ArtifactStore
from omnirt_lab.journal.cursor import Cursor
from omnirt_lab.journal.database import BUSY_TIMEOUT_S
from omnirt_lab.journal.events import JournalEntry
from omnirt_lab.journal.jobs import JobRecord
from omnirt_lab.journal.journal import Journal
from omnirt_lab.journal.png import METADATA_KEY, png_with_metadata, read_png_metadata
from omnirt_lab.journal.previews import Preview
from omnirt_lab.journal.purge import Purged
from omnirt_lab.journal.runs import RunQuery
from omnirt_lab.journal.snapshots import SERIES, Snapshot
from omnirt_lab.journal.state import state_dir
from omnirt_lab.journal.workers import Worker, WorkerRecord, published_queue
from omnirt_lab.journal.writer import JobWriter

__all__ = [
    "ArtifactStore",
    "BUSY_TIMEOUT_S",
    "Cursor",
    "JobRecord",
    "JobWriter",
    "Journal",
    "JournalEntry",
    "METADATA_KEY",
    "Preview",
    "Purged",
    "RunQuery",
    "SERIES",
    "Snapshot",
    "Worker",
    "WorkerRecord",
    "png_with_metadata",
    "published_queue",
    "read_png_metadata",
    "state_dir",
]

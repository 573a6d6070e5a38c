"""The history as a widget: its kernel side answers what the table asks, and keeps what is said there of the runs.

1. The table asks for all runs and gets their columns as JSON in one buffer; it filters and sorts by itself.
2. It asks for thumbnails of the rows in view, and gets one buffer each.
3. It asks for a change; the answer has those runs as they are then, or the error. Nothing is changed on a guess.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import traitlets

from omnirt_lab.errors import ArtifactNotFoundError, LabError
from omnirt_lab.journal import RunQuery
from omnirt_lab.records import Record
from omnirt_lab.views import history as view
from omnirt_lab.views import numbers, tables
from omnirt_lab.views.canvas import fit_png
from omnirt_lab.widgets.hearing import HeardWidget

if TYPE_CHECKING:
    import pandas

    from omnirt_lab.journal import Journal

MAX_TEXT_ROWS: Final = 20
MAX_THUMBNAILS: Final = 64

SENT: Final = (
    *("run_id", "prompt", "model", "task", "state", "enqueued_at_ms", "duration_ms", "peak_bytes", "steps"),
    *("tags", "rating", "note", "deleted_at_ms", "artifact_sha256"),
)

_log = logging.getLogger(__name__)

RunIds = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Message(Record, frozen=True, kw_only=True, tag_field="kind", tag=str.lower, forbid_unknown_fields=True):
    """What the table may ask."""


class Load(Message, frozen=True, kw_only=True):
    """All runs anew."""


class Select(Message, frozen=True, kw_only=True):
    """These runs are selected now."""

    run_ids: tuple[str, ...]


class Thumbnails(Message, frozen=True, kw_only=True):
    """The first picture of each of these runs, its longer side `side_px` long."""

    run_ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MAX_THUMBNAILS)]
    side_px: Annotated[int, msgspec.Meta(ge=16, le=512)]


class Tag(Message, frozen=True, kw_only=True):
    """Add and remove tags."""

    run_ids: RunIds
    add: tuple[str, ...]
    remove: tuple[str, ...]


class Rate(Message, frozen=True, kw_only=True):
    """Rate, or take the rating back."""

    run_ids: RunIds
    rating: int | None


class Note(Message, frozen=True, kw_only=True):
    """Write a note, or take it away."""

    run_ids: RunIds
    note: str | None


class Trash(Message, frozen=True, kw_only=True):
    """Put into the trash."""

    run_ids: RunIds


class Undelete(Message, frozen=True, kw_only=True):
    """Take out of the trash."""

    run_ids: RunIds


class Purge(Message, frozen=True, kw_only=True):
    """Delete for good what is in the trash."""

    run_ids: RunIds


Asked = Load | Select | Thumbnails | Tag | Rate | Note | Trash | Undelete | Purge


class HistoryExplorer(HeardWidget):
    """A table of runs to search, sort, sort out and select from; `selection` has what is selected.

    Parameters
    ----------
    query
        Which runs; those in the trash have a view of their own.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")

    selected_ids = traitlets.List(traitlets.Unicode())
    """Ids of the selected runs; set it to select from Python, `observe` it to hear of each change."""

    def __init__(self, journal: Journal, query: RunQuery) -> None:
        super().__init__()
        self._journal = journal
        self._selected_there: tuple[str, ...] = ()
        self._is_trash = query.trash == "only"
        self._query = query if self._is_trash else msgspec.structs.replace(query, trash="with")
        self.on_msg(self._on_message)

    @property
    def selection(self) -> pandas.DataFrame:
        """The selected runs, newest first; the columns are those of `lab.history().to_pandas()`."""
        return self._journal.runs_frame(RunQuery(run_ids=tuple(self.selected_ids), trash="with"))

    @traitlets.observe("selected_ids")
    def _show_selected(self, _change: object) -> None:
        if tuple(self.selected_ids) != self._selected_there:
            self._selected_there = tuple(self.selected_ids)
            self.send({"kind": "select", "run_ids": self.selected_ids})

    def _on_message(self, _widget: object, content: object, _buffers: object) -> None:
        try:
            self._answer(msgspec.convert(content, Asked))
        except LabError as error:
            self.send({"kind": "error", "message": str(error), "hint": error.hint})
        except msgspec.ValidationError as error:
            self.send({"kind": "error", "message": f"The table asked for what there is not: {error}", "hint": ""})
        except Exception as error:  # noqa: BLE001  # a message must be answered, or the table waits for ever
            _log.exception("the history explorer cannot answer")
            hint = "The kernel's log has the traceback."
            self.send({"kind": "error", "message": f"{type(error).__name__}: {error}", "hint": hint})

    def _answer(self, asked: Asked) -> None:
        if isinstance(asked, Load):
            rows = self._journal.query_columns(self._query, SENT)
            message = {"kind": "runs", "is_trash": self._is_trash, "selected_ids": self.selected_ids}
            self.send(message, buffers=[columns_json(rows)])
        elif isinstance(asked, Select):
            with self.turn:
                self._selected_there = asked.run_ids
                self.selected_ids = list(asked.run_ids)
        elif isinstance(asked, Thumbnails):
            buffers = self._thumbnails(asked.run_ids, asked.side_px)
            self.send({"kind": "thumbnails", "run_ids": list(buffers)}, buffers=list(buffers.values()))
        elif isinstance(asked, Purge):
            self._purge(asked.run_ids)
        else:
            said, undo = self._change(asked)
            rows = self._journal.query_columns(RunQuery(run_ids=asked.run_ids, trash="with"), SENT)
            self.send({"kind": "changed", "gone": [], "said": said, "undo": undo}, buffers=[columns_json(rows)])

    def _change(self, asked: Tag | Rate | Note | Trash | Undelete) -> tuple[str, dict[str, Any] | None]:
        """Do it; what to say, and what would undo it."""
        runs = len(asked.run_ids)
        match asked:
            case Tag():
                self._journal.tag(asked.run_ids, *asked.add)
                self._journal.untag(asked.run_ids, *asked.remove)
            case Rate():
                self._journal.rate(asked.run_ids, asked.rating)
            case Note():
                self._journal.note(asked.run_ids, asked.note)
            case Trash():
                self._journal.trash(asked.run_ids)
                said = view.trashed_text(runs, self._journal.freeable_bytes(asked.run_ids))
                return said, {"kind": "undelete", "run_ids": asked.run_ids}
            case Undelete():
                self._journal.undelete(asked.run_ids)
                return view.undeleted_text(runs), None
        return f"{numbers.count(runs, 'run')} changed", None

    def _purge(self, run_ids: tuple[str, ...]) -> None:
        in_trash = self._journal.query_columns(RunQuery(run_ids=run_ids, trash="only"), ("run_id",))
        gone = [run_id for (run_id,) in in_trash]
        purged = self._journal.purge(gone)
        said = view.purged_text(purged.runs, purged.freed_bytes)
        self.send({"kind": "changed", "gone": gone, "said": said, "undo": None}, buffers=[columns_json([])])

    def _thumbnails(self, run_ids: tuple[str, ...], side_px: int) -> dict[str, bytes]:
        """One picture each, empty where it was purged or is none."""
        query = RunQuery(run_ids=run_ids, trash="with")
        hashes = dict(self._journal.query_columns(query, ("run_id", "artifact_sha256")))
        return {run_id: self._thumbnail(hashes.get(run_id), side_px) for run_id in run_ids}

    def _thumbnail(self, sha256: str | None, side_px: int) -> bytes:
        try:
            return fit_png(self._journal.artifacts.read(sha256 or ""), side_px)
        except (ArtifactNotFoundError, OSError):  # Pillow's own for what is no picture, or half of one
            return b""

    def __repr__(self) -> str:
        """What a saved notebook shows where no kernel runs: the newest runs as a table of text."""
        query = self._query if self._is_trash else msgspec.structs.replace(self._query, trash="without")
        newest = msgspec.structs.replace(query, limit=min(MAX_TEXT_ROWS, query.limit or MAX_TEXT_ROWS))
        return tables.history_text(self._journal.query_runs(newest))


def columns_json(rows: list[tuple[Any, ...]]) -> bytes:
    """Rows of `SENT` as JSON, a list for each column; figures stand as numbers to sort by and as texts to show."""
    values = zip(*rows, strict=True) if rows else ((),) * len(SENT)
    columns: dict[str, list[Any]] = dict(zip(SENT, map(list, values), strict=True))
    columns["tags"] = [msgspec.Raw(text.encode()) for text in columns["tags"]]
    columns["trashed"] = [at_ms is not None for at_ms in columns.pop("deleted_at_ms")]
    columns["has_picture"] = [sha256 is not None for sha256 in columns.pop("artifact_sha256")]
    columns["duration"] = [numbers.duration(duration_ms) for duration_ms in columns["duration_ms"]]
    columns["peak"] = [numbers.size(peak_bytes) for peak_bytes in columns["peak_bytes"]]
    return msgspec.json.encode(columns)

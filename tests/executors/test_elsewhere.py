"""A run in another process than its journal's, without the process: whatever carries the messages will do."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from omnirt_lab.errors import ArtifactNotFoundError, JobCancelledError, OutOfMemoryError
from omnirt_lab.executors.elsewhere import Relay, RemoteWriter, execute
from omnirt_lab.executors.failures import ElsewhereError, error_info, error_of
from omnirt_lab.executors.frames import FrameBuffer, FrameWriter
from omnirt_lab.executors.messages import (
    Events,
    Finished,
    FromWorker,
    Preview,
    Raised,
    Run,
    decode_from_worker,
    decode_to_worker,
    encode,
)
from omnirt_lab.executors.settings import Settings
from omnirt_lab.journal import JobWriter, Journal
from omnirt_lab.records import (
    Config,
    GenerateRequest,
    Inputs,
    JobFinishedData,
    ProbeCost,
    Step,
    StepData,
    WarningData,
)

REQUEST = GenerateRequest(
    inputs=Inputs(prompt="a red circle"), config=Config(steps=3, seed=7, execution_mode="subprocess")
)


@pytest.fixture
def journal() -> Iterator[Journal]:
    with Journal.open() as opened:
        yield opened


@pytest.fixture
def writer(journal: Journal) -> Iterator[JobWriter]:
    with journal.worker() as worker:
        claimed = journal.claim(journal.enqueue(REQUEST, owner=worker).job_id, worker)
        assert claimed is not None
        yield claimed


class Line:
    """Carries messages as a wire does, into a list.

    Parameters
    ----------
    is_far
        To another machine, which has another clock and does not reach this one's disk.
    """

    def __init__(self, writer: JobWriter, *, is_far: bool = False, files: dict[str, bytes] | None = None) -> None:
        self.said: list[FromWorker] = []
        self.is_cut = False
        run = Run(
            job=replace(writer.job, boot_id="another") if is_far else writer.job,
            worker_id=writer.worker_id,
            settings=Settings(),
            sent_t_ns=writer.now_ns(),
            state_dir=None if is_far else str(writer.artifacts.state_directory),
            files=files or {},
            directory=str(Path.cwd()),
            shows_previews=False,
        )
        received = decode_to_worker(encode(run))
        assert isinstance(received, Run)
        self.remote = RemoteWriter(
            received, self.carry, worker_id="elsewhere", is_cancelled=lambda: self.is_cut, wants_preview=lambda: False
        )

    def carry(self, message: FromWorker) -> None:
        self.said.append(decode_from_worker(encode(message)))


def test_a_run_elsewhere_leaves_the_report_of_a_run_here(writer: JobWriter) -> None:
    line = Line(writer)
    line.carry(execute(line.remote))

    relay = Relay(writer)
    *rest, last = [relay.take(message) for message in line.said]

    assert rest == [None] * len(rest)
    assert last is not None
    report = writer.finish(last)
    assert (report.state, report.worker_id, report.execution_mode) == ("succeeded", "elsewhere", "subprocess")
    assert [step.index for step in report.steps] == [0, 1, 2]
    assert writer.artifacts.read(report.artifacts[0].sha256).startswith(b"\x89PNG")
    sent = [event for message in line.said if isinstance(message, Events) for event in message.events]
    written = writer.events[1:]
    assert [(event.t_ns, event.data) for event in written] == [(event.t_ns, event.data) for event in sent]


def test_files_travel_to_another_machine_and_back(writer: JobWriter) -> None:
    line = Line(writer, is_far=True, files={"a" * 64: b"given"})

    assert line.remote.artifacts.read("a" * 64) == b"given"
    with pytest.raises(ArtifactNotFoundError):
        line.remote.artifacts.read("b" * 64)
    made = line.remote.artifacts.put_bytes(b"\x89PNG made", "image/png", index=2, seed=7)
    relay = Relay(writer)
    for message in line.said:
        relay.take(message)

    assert writer.artifacts.read(made.sha256) == b"\x89PNG made"
    assert made == writer.artifacts.put_bytes(b"\x89PNG made", "image/png", index=2, seed=7)


def test_another_machine_s_clock_goes_on_from_when_the_run_was_sent(writer: JobWriter) -> None:
    before_ns = writer.now_ns()
    line = Line(writer, is_far=True)

    far_ns = line.remote.now_ns()

    assert before_ns <= far_ns <= writer.now_ns()


def test_a_cancel_comes_back_as_one(writer: JobWriter) -> None:
    line = Line(writer)
    line.is_cut = True

    line.carry(execute(line.remote))

    relay = Relay(writer)
    *begun, ended = line.said
    for message in begun:
        relay.take(message)
    with pytest.raises(JobCancelledError):
        relay.take(ended)
    assert relay.cost.overhead_ns is not None


def test_events_of_one_block_travel_together_and_those_of_other_threads_do_not_wait(writer: JobWriter) -> None:
    line = Line(writer)

    with line.remote.together():
        line.remote.emit(StepData(index=0, start_t_ns=1), stage="denoise", t_ns=5)
        other = threading.Thread(target=lambda: line.remote.emit(WarningData(code="other", message="")))
        other.start()
        other.join()
        with line.remote.together():
            line.remote.emit(StepData(index=1, start_t_ns=5), stage="denoise", t_ns=9)
        assert len(line.said) == 1

    assert [len(message.events) for message in line.said if isinstance(message, Events)] == [1, 2]
    relay = Relay(writer)
    for message in line.said:
        relay.take(message)
    assert [(event.t_ns, event.data.index) for event in writer.events if isinstance(event, Step)] == [(5, 0), (9, 1)]


def test_a_preview_is_shown_where_the_journal_is(writer: JobWriter, journal: Journal) -> None:
    line = Line(writer)
    line.remote.show_preview(b"\x89PNG", media_type="image/png", step=4)

    Relay(writer).take(line.said[0])

    preview = journal.find_preview(writer.job.job_id)
    assert preview is not None
    assert (preview.step, preview.content) == (4, b"\x89PNG")


@pytest.mark.parametrize(
    ("error", "is_spent", "kind"),
    [
        (ArtifactNotFoundError("no such file", hint="look"), False, ArtifactNotFoundError),
        (KeyError("steps"), False, ElsewhereError),
        (MemoryError(), True, OutOfMemoryError),
        (RuntimeError("a name \udce9 that is no text"), False, ElsewhereError),
    ],
)
def test_an_exception_crosses_as_what_it_was(
    writer: JobWriter, error: Exception, is_spent: bool, kind: type[Exception]
) -> None:
    raised = Raised(error=error_info(error, stage=None), cost=ProbeCost(overhead_ns=3), is_spent=is_spent)
    relay = Relay(writer)

    with pytest.raises(kind) as caught:
        relay.take(decode_from_worker(encode(raised)))

    assert type(caught.value) is kind
    assert relay.is_spent is is_spent
    assert relay.cost.overhead_ns == 3
    assert type(error).__name__ in str(caught.value.__cause__)


def test_an_error_from_elsewhere_is_described_as_it_was_there() -> None:
    info = error_info(ZeroDivisionError("by nothing"), stage=None)

    assert error_info(error_of(info), stage="denoise") == type(info)(
        type=info.type, message=info.message, hint=info.hint, stage="denoise", traceback=info.traceback
    )


@pytest.mark.parametrize(
    "message",
    [Preview(content=b"\x00\xff\x89PNG", media_type="image/png", step=3), Finished(data=JobFinishedData())],
)
def test_a_message_is_the_same_after_its_journey(message: FromWorker) -> None:
    assert decode_from_worker(encode(message)) == message


@given(messages=st.lists(st.binary(max_size=40)), cuts=st.lists(st.integers(min_value=1, max_value=7)))
def test_messages_are_whole_however_the_stream_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(message).to_bytes(4, "big") + message for message in messages)
    buffer, found, at = FrameBuffer(), [], 0
    for size in [*cuts, len(stream) + 1]:
        found += list(buffer.add(stream[at : at + size]))
        at += size

    assert found == messages


def test_a_stream_that_nobody_reads_is_given_up() -> None:
    read_end, write_end = os.pipe()
    writer = FrameWriter(write_end, patience_s=0.05)

    with pytest.raises(TimeoutError, match="does not read"):
        writer.write(b"x" * 1_000_000)

    os.close(read_end)
    with pytest.raises(BrokenPipeError):
        writer.write(b"x")
    writer.close()
    writer.close()
    with pytest.raises(BrokenPipeError):
        writer.write(b"x")

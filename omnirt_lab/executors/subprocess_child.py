"""The parent's side of a child process: started, greeted, spoken to, and ended with all that it has started."""

from __future__ import annotations

import itertools
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from omnirt_lab.errors import ChildDiedError, LabError, NotAvailableError
from omnirt_lab.executors.child_death import death_of
from omnirt_lab.executors.failures import error_of
from omnirt_lab.executors.following import TICK_S
from omnirt_lab.executors.frames import CHUNK_BYTES, FrameBuffer, FrameWriter
from omnirt_lab.executors.messages import (
    PROTOCOL,
    VERSION,
    AskCaches,
    Caches,
    Check,
    Checked,
    Finished,
    FromWorker,
    Hello,
    Raised,
    Ready,
    Run,
    ToWorker,
    decode_from_worker,
    encode,
)
from omnirt_lab.records import GenerateRequest

START_S: Final = 120.0
"""How long it may take to load torch; a cold disk takes a minute."""

ANSWER_S: Final = 30.0
"""How long it may take to check a request; some milliseconds are usual."""

_FIGURES_S: Final = 1.0
_SEND_S: Final = 5.0
_STOP_S: Final = 1.0
_TERM_S: Final = 0.5
_REAP_S: Final = 10.0
_SAID_BYTES: Final = 64_000
"""How much of what it printed is kept, for the error that its end may be."""

_MODULE: Final = "omnirt_lab.executors.child"
_FLAGS: Final = ("-P", "-u", "-X", "faulthandler")
"""Import nothing from the current directory, print at once, and say where a native library crashed."""

_OTHERS_VARIABLES: Final = ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__")
"""What would lead another environment's python to the packages of this one."""


class ChildProcess:
    """One process, and the thread of this one that has started it and reads what it says until its end.

    1. The thread starts the process, since Linux kills a process with the thread that started it, not with its parent.
    2. It takes `Hello` and refuses another version; at `Ready` whoever waits in `wait_until_ready` goes on.
    3. `turn` is held for a run. `send` speaks to the child, `receive` gives what it says of the run, in order.
    4. When the process has ended the thread kills what is left of its group, reads what was still under way, and then
       has `receive` raise `death()`.
    """

    def __init__(self, python: str) -> None:
        self.python = python
        self.turn = threading.Lock()
        self.users = 0
        """Who run something on it, check something, or wait for it; counted by whoever lends it."""
        self.is_busy = False
        """It has a run that it has not ended."""
        self.pid: int | None = None
        self._inbox: queue.SimpleQueue[FromWorker | None] = queue.SimpleQueue()
        self._answers: dict[int, queue.SimpleQueue[Checked | Caches]] = {}
        self._numbers = itertools.count(1)
        self._greeted = False
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._life = threading.Lock()
        self.is_unwanted = False
        """It is to end, or has been told to: nothing more is to be asked of it."""
        self._is_reaped = False
        self._status: int | None = None
        self._refusal: tuple[str, str] | None = None
        self._said = bytearray()
        self._started_s = time.monotonic()
        to_child, self._write_end = os.pipe()
        self._read_end, from_child = os.pipe()
        self._frames = FrameWriter(self._write_end, patience_s=_SEND_S)
        self._theirs = (to_child, from_child)
        self._thread = threading.Thread(target=self._attend, name="omnirt-child", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """The process is gone, and with it all its memory."""
        return self._ended.is_set()

    @property
    def was_ready(self) -> bool:
        """It has been able to run jobs."""
        return self._ready.is_set()

    @property
    def has_news(self) -> bool:
        """`receive` would not wait."""
        return not self._inbox.empty()

    def wait_until_ready(self, patience: Callable[[], None]) -> None:
        """Return when it can run jobs; `patience` is called again and again until then, and may raise.

        Raises
        ------
        NotAvailableError
            If this python is none, or has no omnirt-lab, or another version.
        ChildDiedError
            If it ends instead, or needs too long.
        """
        while not self._ready.wait(TICK_S):
            if self.has_ended:
                raise self.death()
            if time.monotonic() - self._started_s > START_S:
                self.kill()
                raise ChildDiedError(
                    f"the child process was not ready after {START_S:.0f} s, and was ended", hint="Try again."
                )
            patience()

    def check(self, request: GenerateRequest, *, directory: str) -> None:
        """Have the child say what is wrong with a request, also while it runs another one.

        Raises
        ------
        LabError
            What is wrong.
        ChildDiedError
            If it ends before it answers.
        """
        with self._numbered() as (number, answers):
            self.send(Check(number=number, request=request, directory=directory))
            answer = self._await(answers)
        if isinstance(answer, Checked) and answer.error is not None:
            raise error_of(answer.error)

    def find_caches(self) -> Caches | None:
        """What the child's caches have done and hold; None where it has ended, or does not say it within a second."""
        with self._numbered() as (number, answers):
            self.send(AskCaches(number=number))
            with suppress(queue.Empty):
                answer = answers.get(timeout=_FIGURES_S)
                return answer if isinstance(answer, Caches) else None
        return None

    def send(self, message: ToWorker) -> None:
        """Say something; a child that is gone, or takes nothing, is for `receive` to tell."""
        try:
            if isinstance(message, Run):
                self.is_busy = True
            self._frames.write(encode(message))
        except TimeoutError:
            self.kill()
        except OSError:
            pass
        except BaseException:  # an interrupt may have torn the message
            self.kill()
            raise

    def receive(self, timeout_s: float) -> FromWorker | None:
        """The next that the child says of its run; None if it says nothing for so long.

        Raises
        ------
        ChildDiedError, NotAvailableError
            When it has ended, and all that it had said was received.
        """
        try:
            message = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if message is None:
            self._inbox.put(None)
            raise self.death()
        return message

    def stop(self) -> None:
        """End an idle child."""
        self.is_unwanted = True
        self._frames.close()
        if not self._ended.wait(_STOP_S):
            self.kill()

    def kill(self) -> None:
        """End the process and all of its group: asked to by SIGTERM, and half a second later not asked any more."""
        self.is_unwanted = True
        self._signal(signal.SIGTERM)
        if not self._ended.wait(_TERM_S):
            self._signal(signal.SIGKILL)
            self._ended.wait(_REAP_S)

    def death(self) -> LabError:
        """Why it ended."""
        if self._refusal is not None:
            message, hint = self._refusal
            return NotAvailableError(message, hint=hint)
        said = self._said.decode(errors="replace")
        return death_of(self.pid, self._status or 0, said, python=self.python, was_ready=self.was_ready)

    def forget(self) -> None:
        """Close what a fork has copied: the child is another process's."""
        if self.has_ended or self.is_unwanted:
            return
        for descriptor in (self._read_end, self._write_end):
            with suppress(OSError):
                os.close(descriptor)

    @contextmanager
    def _numbered(self) -> Iterator[tuple[int, queue.SimpleQueue[Checked | Caches]]]:
        """A number for a question, and where its answer will be."""
        number = next(self._numbers)
        answers = self._answers[number] = queue.SimpleQueue()
        try:
            yield number, answers
        finally:
            del self._answers[number]

    def _await(self, answers: queue.SimpleQueue[Checked | Caches]) -> Checked | Caches | None:
        deadline_s = time.monotonic() + ANSWER_S
        while True:
            with suppress(queue.Empty):
                return answers.get(timeout=TICK_S)
            if self.has_ended:
                raise self.death()
            if time.monotonic() > deadline_s:
                if not self.is_busy:
                    self.kill()
                    raise self.death()
                return None  # what it runs leaves it no time; the request's own run finds what is wrong with it

    def _attend(self) -> None:
        """Start the process, read what it says, and see it off."""
        try:
            process = self._start()
        except OSError as error:
            self._refuse(f"{self.python} cannot be started: {error.strerror or error}", _CHOOSE)
        else:
            try:
                self._read(process)
            finally:
                self._see_off(process)
        finally:
            os.close(self._read_end)
            self._frames.close()
            self.is_busy = False
            self._ended.set()
            self._inbox.put(None)

    def _start(self) -> subprocess.Popen[bytes]:
        read_end, write_end = self._theirs
        words = [self.python, *_FLAGS, "-m", _MODULE, str(read_end), str(write_end), str(os.getpid())]
        try:
            process = subprocess.Popen(  # noqa: S603  # the user's own choice of python
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=self._theirs,
                start_new_session=True,
                env=_environment_for(self.python),
            )
        finally:
            for descriptor in self._theirs:
                os.close(descriptor)
        with self._life:
            self.pid = process.pid
        if self.is_unwanted:
            self._signal(signal.SIGKILL)
        return process

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        buffer, printed = FrameBuffer(), process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            for descriptor in (self._read_end, printed):
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                ready = [key.fd for key, _ in selector.select(TICK_S)]
                for descriptor in ready:
                    chunk = os.read(descriptor, CHUNK_BYTES)
                    if not chunk:
                        selector.unregister(descriptor)
                    elif descriptor == printed:
                        self._said = (self._said + chunk)[-_SAID_BYTES:]
                    else:
                        self._take_all(buffer, chunk)
                if not ready and _has_exited(process):
                    return

    def _take_all(self, buffer: FrameBuffer, chunk: bytes) -> None:
        for frame in buffer.add(chunk):
            try:
                self._take(decode_from_worker(frame))
            except msgspec.DecodeError as error:
                self._refuse(
                    f"{self.python} says what this version does not understand: {error}", _install(self.python)
                )

    def _take(self, message: FromWorker) -> None:
        match message:
            case Hello():
                self._greet(message)
            case Ready():
                self._ready.set()
            case Checked() | Caches():
                answers = self._answers.get(message.number)
                if answers is not None:
                    answers.put(message)
            case _:
                if isinstance(message, Finished | Raised):
                    self.is_busy = False
                self._inbox.put(message)

    def _greet(self, hello: Hello) -> None:
        self._greeted = True
        if (hello.protocol, hello.version) != (PROTOCOL, VERSION):
            self._refuse(
                f"{self.python} has omnirt-lab {hello.version}, and this process has {VERSION}",
                _install(self.python),
            )

    def _refuse(self, message: str, hint: str) -> None:
        self._refusal = self._refusal or (message, hint)
        self._signal(signal.SIGKILL)

    def _see_off(self, process: subprocess.Popen[bytes]) -> None:
        """Kill what is left of its group, and reap it; before that its number cannot become another process's."""
        self._signal(signal.SIGKILL)
        if sys.platform == "linux":  # elsewhere whoever wants to signal it must wait as long
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._life:
            self._status = process.wait()
            self._is_reaped = True
        assert process.stdout is not None
        process.stdout.close()
        if not (self._greeted or self.is_unwanted):
            last = self._said.decode(errors="replace").strip().rpartition("\n")[2]
            self._refuse(f"{self.python} cannot run jobs: {last or 'it ended at once'}", _install(self.python))

    def _signal(self, number: signal.Signals) -> None:
        with self._life, suppress(ProcessLookupError, PermissionError):
            if self.pid is not None and not self._is_reaped:
                os.killpg(self.pid, number)


_CHOOSE: Final = "Choose a python with omnirt_lab.configure(subprocess_python=…)."


def _install(python: str) -> str:
    return f"Install this version there: {python} -m pip install omnirt-lab=={VERSION}"


def _environment_for(python: str) -> dict[str, str]:
    others = () if python == sys.executable else _OTHERS_VARIABLES
    return {name: value for name, value in os.environ.items() if name not in others}


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has; where the system lets it be asked so, the process is not reaped by asking."""
    if sys.platform == "linux":
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    else:
        ended = process.poll()
    return ended is not None

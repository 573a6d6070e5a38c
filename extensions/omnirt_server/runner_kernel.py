"""One runner's process: a private kernel, started, spoken to, and noticed when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from omnirt_lab.errors import RunnerUnavailableError

_LOOK_EVERY_S: Final = 0.2
"""How often a kernel is looked after where the system has no pidfd."""

_log: Final = logging.getLogger(__name__)


class RunnerDiedError(RunnerUnavailableError):
    """The kernel ended while it was spoken to."""


class RunnerRefusedError(RunnerUnavailableError):
    """The kernel lives, and the code that it was sent raised."""


class _Manager(AsyncKernelManager):
    """Starts the runner's module, whatever kernels the user has installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-P", "-m", "omnirt_lab.engine.runner", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="OmniRT runner", language="python")


class RunnerKernel:
    """A kernel over Unix sockets in a directory that only this user can enter; the server's own kernels are others.

    Parameters
    ----------
    connection_file
        Where the kernel learns its sockets, which lie beside it. Must not exist.
    environment
        The whole environment of the process.
    """

    def __init__(self, connection_file: Path, environment: Mapping[str, str]) -> None:
        self.died = asyncio.Event()
        """Set at once when the process has ended."""
        self._environment = dict(environment)
        self._manager = _Manager(transport="ipc", connection_file=str(connection_file))
        self._client: AsyncKernelClient | None = None
        self._watch: int | asyncio.Task[None] | None = None
        self.pid: int | None = None

    async def start(self) -> None:
        """Start the process, from the thread of the server's life: the process ends with the thread."""
        await self._manager.start_kernel(env=self._environment)
        provisioner = self._manager.provisioner
        assert isinstance(provisioner, LocalProvisioner)
        assert provisioner.pid is not None
        self.pid = provisioner.pid
        self._watch_death(self.pid)
        self._client = self._manager.client()
        self._client.start_channels(iopub=False, stdin=False, hb=False, control=False)

    async def execute(self, code: str) -> None:
        """Have code run, and return when it has.

        Raises
        ------
        RunnerDiedError
            If the process ends before it answers.
        RunnerRefusedError
            If the code raised.
        """
        assert self._client is not None, "the kernel was not started"
        message_id = self._client.execute(code, silent=True, store_history=False, allow_stdin=False)
        reply = asyncio.create_task(self._reply_to(message_id))
        death = asyncio.create_task(self.died.wait())
        try:
            await asyncio.wait({reply, death}, return_when=asyncio.FIRST_COMPLETED)
            if self.died.is_set():
                raise RunnerDiedError(f"the runner {self.pid} ended", hint="See the server's log.")
            _raise_for(reply.result())
        finally:
            reply.cancel()
            death.cancel()
            await asyncio.gather(reply, death, return_exceptions=True)

    async def interrupt(self) -> None:
        """Raise KeyboardInterrupt in what it runs."""
        await self._manager.interrupt_kernel()

    async def kill(self) -> None:
        """End the process and what it started, and remove its files. Without effect on one that never started."""
        if self._manager.has_kernel:
            await self._manager.shutdown_kernel(now=True)
        self._unwatch()
        self.died.set()
        if self._client is not None:  # last, since `execute` waits on it until the process has died
            self._client.stop_channels()

    async def _reply_to(self, message_id: str) -> dict[str, object]:
        assert self._client is not None
        while True:
            message = await self._client.get_shell_msg(timeout=None)
            if message["parent_header"].get("msg_id") == message_id:
                content: dict[str, object] = message["content"]
                return content

    def _watch_death(self, pid: int) -> None:
        try:
            self._watch = os.pidfd_open(pid)
        except (AttributeError, OSError) as error:  # not Linux, or a kernel older than 5.3
            _log.info("no pidfd, so the runner is looked after every %.1f s: %s", _LOOK_EVERY_S, error)
            self._watch = asyncio.create_task(self._look(), name="omnirt-runner-watch")
        else:
            asyncio.get_running_loop().add_reader(self._watch, self._on_death)

    def _on_death(self) -> None:
        self._unwatch()
        self.died.set()

    async def _look(self) -> None:
        while await self._manager.is_alive():
            await asyncio.sleep(_LOOK_EVERY_S)
        self.died.set()

    def _unwatch(self) -> None:
        watch, self._watch = self._watch, None
        if isinstance(watch, int):
            with suppress(RuntimeError):  # the loop is closed
                asyncio.get_running_loop().remove_reader(watch)
            os.close(watch)
        elif watch is not None:
            watch.cancel()


def _raise_for(reply: Mapping[str, object]) -> None:
    if reply["status"] != "ok":
        what = f"{reply.get('ename', 'aborted')}: {reply.get('evalue', 'the code was not run')}"
        raise RunnerRefusedError(f"the runner raised {what}"[:500], hint="See the server's log.")

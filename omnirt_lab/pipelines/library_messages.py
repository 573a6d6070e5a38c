"""What diffusers and transformers say while they load: kept from the notebook, handed to the caller."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import transformers

_ANSI_COLOUR = re.compile(r"\x1b\[\d*m")

_switches = threading.RLock()


class _Collector(logging.Handler):
    """Keeps the messages that a library logs."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(_ANSI_COLOUR.sub("", record.getMessage()).strip())


@contextmanager
def quiet_libraries() -> Iterator[list[str]]:
    """Keep diffusers and transformers from drawing bars and printing; yields what they said at warning level.

    Their switches are the process's, so one thread at a time is in such a block.
    """
    messages: list[str] = []
    with _switches, _bars_off(), _logged_into(messages), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)
        yield messages
        messages.extend(str(warning.message) for warning in caught)


@contextmanager
def _bars_off() -> Iterator[None]:
    libraries: list[Any] = [diffusers.utils.logging, transformers.utils.logging]
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


@contextmanager
def _logged_into(messages: list[str]) -> Iterator[None]:
    loggers = [logging.getLogger("diffusers"), logging.getLogger("transformers")]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [_Collector(messages)], False
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)

"""Exceptions as ErrorInfo records, which can be stored and can cross a process, and back."""

from __future__ import annotations

import traceback
from typing import Final

from msgspec.structs import replace

from omnirt_lab.errors import LabError, errors_by_name
from omnirt_lab.records import ErrorInfo

MAX_TRACEBACK_CHARS: Final = 4_000

_OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "cannot allocate memory")
"""What torch says of a GPU, what its CPU allocator says, and the system's own words."""


class ElsewhereError(Exception):
    """An exception that is none of the lab's, raised in another process; `info` is all that came across."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(f"{info.type}: {info.message}")
        self.info = info


class ElsewhereTraceback(Exception):  # noqa: N818  # it is no error, it shows where one was raised
    """The traceback of an error in the process that raised it; stands as its cause, so that Python prints it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def error_info(error: BaseException, *, stage: str | None) -> ErrorInfo:
    """Describe `error` so that it can be stored and shown by another process."""
    if isinstance(error, ElsewhereError):
        return replace(error.info, stage=stage)
    cause = error.__cause__
    text = cause.text if isinstance(cause, ElsewhereTraceback) else "".join(traceback.format_exception(error))
    return ErrorInfo(
        type=type(error).__name__,
        message=str(error),
        hint=error.hint if isinstance(error, LabError) else hint_for(error),
        stage=stage,
        traceback=text[-MAX_TRACEBACK_CHARS:],
    )


def error_of(info: ErrorInfo) -> Exception:
    """The exception that was described, as far as it can be made again: the lab's own class, or an ElsewhereError."""
    kind = errors_by_name().get(info.type)
    error = ElsewhereError(info) if kind is None else kind(info.message, hint=info.hint or "See its report.")
    if info.traceback is not None:
        error.__cause__ = ElsewhereTraceback(info.traceback)
    return error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out, in whose words ever."""
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY)


def hint_for(error: BaseException) -> str | None:
    """What to try after an exception that is not the lab's own; None where its message says all that is known."""
    if is_out_of_memory(error):
        return "Make the picture smaller, ask for fewer at a time, or load the model with dtype='float16' on a GPU."
    if "expected all tensors to be on the same device" in str(error).lower():
        return "Components lie on different devices: see device_placement in the report."
    if isinstance(error, NameError) and error.name:  # diffusers leaves out what it could not import, and calls it
        return f"If {error.name} is a package that this pipeline needs: pip install {error.name}."
    if isinstance(error, (TypeError, ValueError)):
        return "The pipeline refused an argument: see config_resolved in the report."
    return None

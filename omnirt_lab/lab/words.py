"""The words that a person types, on the command line or after `%omnirt`, as options of a request."""

from __future__ import annotations

import argparse
import difflib
import functools
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, get_args

from omnirt_lab.errors import InvalidRequestError, UnknownOptionError
from omnirt_lab.lab.plan import MAX_CELLS
from omnirt_lab.records import DenoiserCache, ExecutionMode, Offload, Preset, Quantization, Task

if TYPE_CHECKING:
    from omnirt_lab.lab.history import History

_FIRST_OPTION = re.compile(r"(?:^|(?<=\s))--?[A-Za-z]")
_SIZE = re.compile(r"(\d+)(?:[xX](\d+))?")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_QUOTES: Final = "\"'"

VALUES: Final[dict[str, tuple[str, ...]]] = {
    "--task": get_args(Task),
    "--preset": get_args(Preset),
    "--offload": get_args(Offload),
    "--quantization": get_args(Quantization),
    "--denoiser-cache": get_args(DenoiserCache),
    "--execution-mode": get_args(ExecutionMode),
}
"""Option → what it may be, where that is a list."""


class WordsParser(argparse.ArgumentParser):
    """An argparse parser whose errors are the lab's own, with the nearest valid option; it never exits by itself."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and take no unknown words: so it is the subcommand, which knows its options, that refuses them."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong.

        Raises
        ------
        UnknownOptionError
            For an option that does not exist.
        InvalidRequestError
            For a missing or ill-formed value.
        """
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if unknown is None:
            raise InvalidRequestError(message, hint=f"See {self.prog} --help.")
        word = unknown[1]
        if not word.startswith("-"):
            raise InvalidRequestError(
                f"there are words after the options: {message.partition(': ')[2]!r}",
                hint="Write the prompt first, then the options; put quotes around a value of several words.",
            )
        known = [option for action in self._actions for option in action.option_strings]
        nearest = difflib.get_close_matches(word, known, n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"The options are {', '.join(sorted(known))}."
        raise UnknownOptionError(f"there is no option {word}", hint=hint)


def add_run_options(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the options of a run; each one left out is left to the model.

    Parameters
    ----------
    several
        Take lists such as `10,20` and ranges such as `1..4` where a sweep has an axis.
    """

    def kind(of: Callable[[str], object]) -> Callable[[str], object]:
        return functools.partial(axis_of, of) if several else of

    add = parser.add_argument_group("run").add_argument
    add(
        "--model",
        type=kind(str),
        metavar="NAME",
        help="a built-in model, a local folder, or a hub id (default: tiny-shapes)",
    )
    add(
        "--task",
        metavar="TASK",
        help=f"{', '.join(VALUES['--task'])} (default: text2image; image2image with --image, inpaint with --mask)",
    )
    add("--steps", type=kind(int), metavar="N", help="denoising steps, 1 to 10,000")
    add(
        "--seed",
        type=kind(int),
        metavar="N",
        help="seed of the first picture, 0 to 2^63 - 1" + ("; 0 if left out" if several else "; drawn if left out"),
    )
    add("--guidance", type=kind(float), metavar="W", dest="guidance_scale", help="classifier-free guidance weight")
    add("--size", metavar="WxH", help="pixels, such as 64x64 or 512")
    add(
        "--negative", metavar="TEXT", dest="negative_prompt", help="what the picture must not show; quote several words"
    )
    add("--num-images", type=int, metavar="N", dest="num_images", help="pictures of the prompt, seeds counting up")
    add("--scheduler", type=kind(str), metavar="NAME", help="ddim, euler, dpm++, …")
    add("--dtype", type=kind(str), metavar="NAME", help="float32, float16 or bfloat16")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    add("--preset", type=kind(str), metavar="NAME", help=", ".join(VALUES["--preset"]))
    modes = ", ".join(VALUES["--execution-mode"])
    add("--execution-mode", type=kind(str), metavar="MODE", dest="execution_mode", help=f"how it is executed: {modes}")
    _add_input_options(parser, kind)
    _add_memory_options(parser)


def _add_input_options(parser: argparse.ArgumentParser, kind: Callable[[Callable[[str], object]], Any]) -> None:
    add = parser.add_argument_group("pictures, videos and sounds").add_argument
    add("--image", metavar="FILE", help="the picture to start from: a file, or the sha256 of a stored picture")
    add("--mask", metavar="FILE", help="white where the picture may change, for --task inpaint")
    add("--strength", type=kind(float), metavar="X", help="how far from the picture the result may go, 0 to 1")
    add("--num-frames", type=kind(int), metavar="N", dest="num_frames", help="frames of a video")
    add("--fps", type=float, metavar="X", help="frames a second of a video")
    add("--audio-length", type=kind(float), metavar="S", dest="audio_length_s", help="seconds of sound")


def _add_memory_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("memory and speed").add_argument
    add("--offload", metavar="NAME", help="keep weights off the GPU until needed: " + ", ".join(VALUES["--offload"]))
    add("--device-map", metavar="NAME", dest="device_map", help="balanced spreads the components over all GPUs")
    add("--quantization", metavar="NAME", help="fewer bits for the weights: " + ", ".join(VALUES["--quantization"]))
    caches = ", ".join(VALUES["--denoiser-cache"])
    add("--denoiser-cache", metavar="NAME", dest="denoiser_cache", help=f"use earlier steps' work again: {caches}")
    add("--compile", metavar="BACKEND", nargs="?", const=True, help="compile the denoiser")
    for name, text in (
        ("--vae-slicing", "decode one picture after the other"),
        ("--vae-tiling", "decode large pictures tile by tile"),
        ("--channels-last", "hold the weights of convolutions with the channels last"),
        ("--result-cache", "answer from the history if the same run was made before; needs --seed"),
    ):
        add(name, action="store_true", default=None, dest=name[2:].replace("-", "_"), help=text)


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """Add what a sweep has beside its runs' options."""
    add = parser.add_argument_group("sweep").add_argument
    add("--name", metavar="NAME", help="what it is found again by: a sweep of the same name runs only what is missing")
    add(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="make up to N runs whose seeds count up in one call (default: 1)",
    )
    add("--retry-failed", action="store_true", help="run cells that have failed once more")


def axis_of(kind: Callable[[str], object], text: str) -> object:
    """Values between commas, of which whole numbers may be a range `1..4` with both ends; one value alone is no axis.

    Raises
    ------
    argparse.ArgumentTypeError
        For a value of another kind, or a range that is empty or too long.
    """
    values: list[object] = []
    for part in text.split(","):
        ends = _RANGE.fullmatch(part.strip()) if kind is int else None
        if ends is None:
            values.append(_value_of(kind, part.strip()))
            continue
        found = range(int(ends[1]), int(ends[2]) + 1)
        if not 1 <= len(found) <= MAX_CELLS:
            raise argparse.ArgumentTypeError(f"{part.strip()!r} is no range of 1 to {MAX_CELLS:,} numbers")
        values += found
    return values if len(values) > 1 else values[0]


def _value_of(kind: Callable[[str], object], text: str) -> object:
    try:
        return kind(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write 10,20,30 or 1..4") from error


def add_history_options(parser: argparse.ArgumentParser) -> None:
    """Add the filters of the history, named as `omnirt_lab.history` takes them."""
    add = parser.add_argument_group("history").add_argument
    add("--model", metavar="NAME", help="only runs of this model")
    add("--task", metavar="TASK", help="only runs of this task")
    add("--state", metavar="STATE", help="succeeded, failed, cancelled or lost")
    add("--since", metavar="AGE", help="30m, 12h, 7d, or a date")
    add("--prompt", metavar="TEXT", help="only prompts that contain this")
    add("--tag", metavar="TAG", help="only runs with this tag")
    add("--rating", type=int, metavar="N", help="only runs rated N, 1 to 5, or higher")
    add("--trashed", action="store_true", help="the runs in the trash, instead of all others")
    add("--limit", type=int, metavar="N", help=f"at most N runs (default: {LISTED_RUNS}; all for a file)")
    add("--csv", metavar="FILE", help="write all columns of these runs to a CSV file")
    add("--parquet", metavar="FILE", help="write them to a Parquet file")


def history_filters(arguments: argparse.Namespace) -> dict[str, Any]:
    """The filters that were given, as keyword arguments of `history`."""
    filters = {name: getattr(arguments, name) for name in _HISTORY_FILTERS}
    if filters["limit"] is None and not (arguments.csv or arguments.parquet):
        filters["limit"] = LISTED_RUNS
    return filters


def write_history(history: History, arguments: argparse.Namespace) -> list[Path]:
    """Write the files that were asked for; their paths."""
    written = [history.to_csv(arguments.csv)] if arguments.csv else []
    return [*written, history.to_parquet(arguments.parquet)] if arguments.parquet else written


_HISTORY_FILTERS: Final = ("model", "task", "state", "since", "prompt", "tag", "rating", "trashed", "limit")

LISTED_RUNS: Final = 20

RUN_OPTIONS: Final = (
    "model", "task", "steps", "seed", "guidance_scale", "negative_prompt", "num_images", "scheduler", "dtype", "device",
    "image", "mask", "strength", "num_frames", "fps", "audio_length_s", "preset", "denoiser_cache", "offload",
    "device_map", "quantization", "compile", "vae_slicing", "vae_tiling", "channels_last", "result_cache",
    "execution_mode",
)  # fmt: skip


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, as keyword arguments of `generate`.

    Raises
    ------
    InvalidRequestError
        If the size is not `WIDTHxHEIGHT` or one number.
    """
    given = vars(arguments)
    options = {name: given[name] for name in RUN_OPTIONS if given.get(name) is not None}
    size = given.get("size")
    if size is not None:
        match = _SIZE.fullmatch(size.strip())
        if match is None:
            raise InvalidRequestError(f"size is {size!r}", hint="Write it in pixels, such as 64x64 or 512.")
        options["width"] = int(match[1])
        options["height"] = int(match[2] or match[1])
    return options


def read_line(parser: WordsParser, line: str) -> tuple[str, argparse.Namespace]:
    """Split a magic's line into the prompt, exactly as typed, and the parsed options behind it.

    The prompt ends where the first option begins. Quotes around the whole of it are taken off; all others are its own.

    Raises
    ------
    InvalidRequestError
        For options that do not parse.
    """
    first = _FIRST_OPTION.search(line)
    prompt, rest = (line, "") if first is None else (line[: first.start()], line[first.start() :])
    return _unquoted(prompt.strip()), parser.parse_args(split_words(rest))


def split_words(text: str) -> Sequence[str]:
    """The words of options, as a shell splits them.

    Raises
    ------
    InvalidRequestError
        For a quote that is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidRequestError(
            f"the options {text!r} cannot be read: {error}", hint="Close each quote that an option's value opens."
        ) from error


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in _QUOTES and text[0] not in text[1:-1]:
        return text[1:-1]
    return text

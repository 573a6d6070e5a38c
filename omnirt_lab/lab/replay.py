"""A recorded run once more, and whether it made the same bits."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from omnirt_lab import records
from omnirt_lab.errors import InvalidRequestError, RunNotFoundError
from omnirt_lab.journal import METADATA_KEY, read_png_metadata
from omnirt_lab.lab.results import GenerateResult
from omnirt_lab.lab.stores import STORES
from omnirt_lab.records import VIDEO_TASKS, GenerateRequest, Json, Record
from omnirt_lab.views.replay import replay_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    from omnirt_lab.journal import Journal

    Pixels: TypeAlias = npt.NDArray[np.uint8]
    Levels: TypeAlias = npt.NDArray[np.int16]

Source: TypeAlias = "str | Path | bytes | records.RunReport | Image"

Verdict: TypeAlias = Literal["bit_exact", "close", "different"]

CLOSE_LEVELS: Final = 8
"""Largest difference of a colour value, of 255, that still counts as close: 3 %, which nobody sees."""

_SOUND_LEVELS: Final = 255

_PINNED: Final = {
    "steps": "num_inference_steps",
    **{name: name for name in ("guidance_scale", "width", "height", "strength", "num_frames")},
}
"""Field of the request → argument of the call that it became; another model's default must not come in."""

_PINNED_OPTIONS: Final = ("guidance_scale_2",)
"""Likewise of the pipeline's own arguments: it has another default where `guidance_scale` is given."""

_COMPARED: Final = (
    "environment",
    "pipeline_class",
    "components",
    "scheduler_config",
    "config_resolved",
    "device_placement",
    "execution_mode",
    "batch_size",
    "generators",
)
"""Fields of a report that may change bits."""


class Recorded(Record, frozen=True, kw_only=True):
    """What is known of the run to repeat."""

    request: GenerateRequest
    """With everything in it that the first run had only decided."""

    files: tuple[bytes, ...]
    """What it made, in order: PNG, MP4 or WAV files."""

    raw: tuple[str | None, ...] = ()
    """Of each, the sha256 before a lossy encoding; empty where a picture alone is known."""

    first_file: int = 0
    """Which output of the run the first of `files` is."""

    facts: dict[str, Json]
    """Dotted field → value, of whatever may change bits."""

    batch_size: int = 1
    """How many requests shared the call that made it."""


class Replay(Record, frozen=True, kw_only=True):
    """What came of running a recorded request again."""

    verdict: Verdict
    """`bit_exact`; `close`: no colour value differs by more than 8 of 255; `different`.

    A video or sound is `bit_exact` if what the pipeline returned was, before it was encoded.
    """

    max_abs_diff: int | None
    """Largest difference of a colour value, of 255, over all outputs; None where their number or size differs.

    Of videos as they are stored. For sounds it is the largest difference of a sample, full scale being 255.
    """

    differences: dict[str, tuple[Json, Json]]
    """Recorded field that may change bits → its value then, and now. Only those that differ."""

    result: GenerateResult
    """Of the new run, which is in the history as any other."""

    @property
    def differing_fields(self) -> tuple[str, ...]:
        """Names of the recorded fields that differ, such as `environment.torch_threads`."""
        return tuple(self.differences)

    def __str__(self) -> str:
        return replay_text(self.verdict, self.max_abs_diff, self.differences, run_id=self.result.report.run_id)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002  # IPython's
        shown = self.result._repr_mimebundle_()  # the protocol of IPython
        return {**shown, "text/plain": f"{self}\n\n{shown['text/plain']}"}


def recorded(journal: Journal, source: Source) -> Recorded:
    """Find the run that `source` names, or is.

    Raises
    ------
    InvalidRequestError
        If it cannot be repeated, or there is nothing to compare with; the message says why.
    RunNotFoundError
        If no run has this id.
    """
    if isinstance(source, records.RunReport):
        return _of_report(source)
    if isinstance(source, str) and not source.lower().endswith(".png"):
        return _of_report(journal.get_report(source))
    return _of_png(journal, _png_bytes(source))


def compared(then: Recorded, result: GenerateResult) -> Replay:
    """What a recorded run and its repetition have in common."""
    outputs = result.outputs[then.first_file : then.first_file + len(then.files)]
    verdict, max_abs_diff = verdict_of(then.files, [STORES.read(output.sha256) for output in outputs])
    if verdict == "bit_exact" and then.raw and then.raw != tuple(output.raw_sha256 for output in outputs):
        verdict = "close"
    return Replay(
        verdict=verdict,
        max_abs_diff=max_abs_diff,
        differences=differences(then.facts, facts_of(result.report)),
        result=result,
    )


def verdict_of(recorded_files: Sequence[bytes], new: Sequence[bytes]) -> tuple[Verdict, int | None]:
    """Compare the files of outputs value by value: the verdict, and the largest difference of a colour value."""
    import numpy as np  # heavy

    before, after = [levels(content) for content in recorded_files], [levels(content) for content in new]
    if [output.shape for output in before] != [output.shape for output in after]:
        return "different", None
    largest = max(int(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))
    if largest == 0:
        return "bit_exact", 0
    return ("close" if largest <= CLOSE_LEVELS else "different"), largest


def levels(content: bytes) -> Levels:
    """What a stored file shows, in 255ths: a picture's or a video's colour values, or a sound's samples.

    Raises
    ------
    NotAvailableError
        For a video where PyAV is not installed.
    """
    import numpy as np  # heavy

    if content[4:8] == b"ftyp":
        from omnirt_lab.pipelines.video import decode_mp4  # loads NumPy

        return decode_mp4(content).astype(np.int16)
    if content.startswith(b"RIFF"):
        from omnirt_lab.pipelines.sound import decode_wav  # loads NumPy

        return np.round(decode_wav(content) * _SOUND_LEVELS).astype(np.int16)
    return pixels(content).astype(np.int16)


def differences(before: Mapping[str, Json], after: Mapping[str, Json]) -> dict[str, tuple[Json, Json]]:
    """Field → its two values, for those that both runs have recorded and that differ."""
    return {name: (before[name], after[name]) for name in before if name in after and before[name] != after[name]}


def facts_of(report: records.RunReport) -> dict[str, Json]:
    """Whatever may change bits, by dotted names."""
    fields = msgspec.to_builtins(report)
    return leaves_of({name: fields[name] for name in _COMPARED})


def leaves_of(fields: Json) -> dict[str, Json]:
    """Dotted name → value, of everything inside nested dictionaries."""
    return dict(_leaves(fields))


def pixels(content: bytes) -> Pixels:
    """The picture as (height, width, 3) colour values, 0 to 255."""
    import numpy as np  # heavy
    from PIL import Image  # heavy

    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def _of_report(report: records.RunReport) -> Recorded:
    _require_repeatable(report)
    assert report.generators is not None
    resolved = report.config_resolved
    words = _PINNED | ({"fps": "fps"} if report.request.task in VIDEO_TASKS else {})
    pinned = {
        field: resolved[argument]
        for field, argument in words.items()
        if getattr(report.request.config, field) is None and isinstance(resolved.get(argument), int | float)
    }
    options = {name: resolved[name] for name in _PINNED_OPTIONS if isinstance(resolved.get(name), int | float)}
    pinned["options"] = options | report.request.config.options
    config = replace(report.request.config, seed=report.generators[0].seed, result_cache=False, **pinned)
    return Recorded(
        request=replace(report.request, config=config),
        files=tuple(STORES.read(artifact.sha256) for artifact in report.artifacts),
        raw=tuple(artifact.raw_sha256 for artifact in report.artifacts),
        facts=facts_of(report),
        batch_size=report.batch_size or 1,
    )


def _require_repeatable(report: records.RunReport) -> None:
    reason = _find_obstacle(report)
    if reason is not None:
        raise InvalidRequestError(
            f"run {report.run_id} cannot be replayed: {reason}",
            hint="Replay a run of generate() that succeeded and whose pictures are still there.",
        )


def _find_obstacle(report: records.RunReport) -> str | None:
    if report.state != "succeeded":
        return f"it {'is still going on' if report.state in ('queued', 'running') else f'ended as {report.state}'}"
    if not report.generators:
        return "it drew from the global random state, which nobody recorded"
    if any(generator.state is not None for generator in report.generators):
        return "its generator had been used before, by code outside the lab"
    if not report.artifacts:
        return "it kept nothing to compare with"
    return None


def _of_png(journal: Journal, content: bytes) -> Recorded:
    """A picture that the lab has made: its run's report where the history has it, else what the file itself says."""
    text = read_png_metadata(content).get(METADATA_KEY)
    if text is None:
        raise InvalidRequestError(
            "the picture does not say how it was made", hint="Give one that the lab stored with embed_metadata on."
        )
    facts = _decode(text)
    try:
        return _of_report(journal.get_report(facts.run_id))
    except RunNotFoundError:
        return _of_facts(facts, content)


class PictureFacts(Record, frozen=True, kw_only=True):
    """What a stored PNG says of its making."""

    run_id: str

    seed: int | None

    request: GenerateRequest

    packages: dict[str, str] = msgspec.field(default_factory=dict)


def _decode(text: str) -> PictureFacts:
    try:
        return msgspec.json.decode(text, type=PictureFacts)
    except msgspec.DecodeError as error:
        raise InvalidRequestError(
            f"the picture's account of its making cannot be read: {error}", hint="Give one that the lab has stored."
        ) from error


def _of_facts(facts: PictureFacts, content: bytes) -> Recorded:
    config = facts.request.config
    if facts.request.task in VIDEO_TASKS or facts.request.task == "text2audio":
        raise InvalidRequestError(
            f"run {facts.run_id} is not in this history, and the picture shows only what its output looks like",
            hint="Replay it where the run was made.",
        )
    if facts.seed is None or (config.seed is None and config.num_images > 1):
        raise InvalidRequestError(
            f"run {facts.run_id} is not in this history, and the picture alone does not tell its seed",
            hint="Replay it where the run was made.",
        )
    seed = facts.seed if config.seed is None else config.seed
    return Recorded(
        request=replace(facts.request, config=replace(config, seed=seed, result_cache=False)),
        files=(content,),
        first_file=facts.seed - seed,
        facts={f"environment.packages.{name}": version for name, version in facts.packages.items()},
    )


def _png_bytes(source: str | Path | bytes | Image) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | Path):
        try:
            return Path(source).read_bytes()
        except OSError as error:
            raise InvalidRequestError(
                f"{source} cannot be read: {error.strerror}", hint="Give the path of a PNG that the lab has stored."
            ) from error
    from PIL.PngImagePlugin import PngInfo  # heavy

    info, file = PngInfo(), io.BytesIO()
    if isinstance(source.info.get(METADATA_KEY), str):
        info.add_itxt(METADATA_KEY, str(source.info[METADATA_KEY]))
    source.save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def _leaves(value: Json, name: str = "") -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value

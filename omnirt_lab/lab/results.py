"""What the API hands back: the records, with the views of them a person calls for."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from omnirt_lab import records
from omnirt_lab.errors import ArtifactNotFoundError, InvalidRequestError
from omnirt_lab.export import chrome
from omnirt_lab.folds import diagnosis, trace
from omnirt_lab.lab.stores import STORES
from omnirt_lab.views import bundle, html, plotly, text
from omnirt_lab.views import diagnosis as diagnosis_view
from omnirt_lab.widgets.cell import is_shown_here

if TYPE_CHECKING:
    from PIL.Image import Image
    from plotly.graph_objects import Figure

    from omnirt_lab.pipelines.sound import Samples
    from omnirt_lab.pipelines.video import Frames
    from omnirt_lab.widgets.explorer import ReportExplorer


class RunReport(records.RunReport, frozen=True, kw_only=True):
    """One run: where its time and memory went. Shows itself in a notebook as a figure, a picture and text."""

    @classmethod
    def of(cls, report: records.RunReport) -> Self:
        """Give `report` its views; the fields are the same objects."""
        return msgspec.convert(report, cls, from_attributes=True)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; unknown fields are ignored.

        Raises
        ------
        InvalidRequestError
            If a field is missing or has another type, by name.
        """
        try:
            return msgspec.convert(fields, cls)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(
                f"this is no RunReport: {error}", hint="Pass what RunReport.to_dict() gave."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values; what was not measured is None."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields

    def to_json(self) -> str:
        """The report as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def to_text(self, *, width: int = 88) -> str:
        """The report as aligned plain text, at most `width` columns wide."""
        return text.report_text(self, width=width)

    def to_png(self, path: str | Path | None = None, *, scale: int = 2) -> bytes:
        """The report as one PNG picture, also written to `path` if given; `scale` 2 suits dense screens."""
        from omnirt_lab.views import png  # loads Pillow

        content = png.report_png(self, self.pictures(), scale=scale)
        if path is not None:
            Path(path).write_bytes(content)
        return content

    def to_html(self, path: str | Path | None = None) -> str:
        """The report as one HTML page with its outputs inside, also written to `path` if given; needs no network."""
        page = html.report_html(self, self.pictures(), self._media())
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def to_chrome_trace(self, path: str | Path | None = None) -> dict[str, Any]:
        """Stages, steps and memory as a Chrome trace, also written to `path` if given: open it in Perfetto."""
        content = chrome.encode(self, trace.of_report(self, job_id=self.job_id))
        if path is not None:
            Path(path).write_bytes(content)
        decoded: dict[str, Any] = msgspec.json.decode(content)
        return decoded

    def to_otlp(self) -> dict[str, Any]:
        """The run's spans as an OTLP/JSON request, as a collector takes them; prompts are left out."""
        from omnirt_lab.export import otlp  # loads OpenTelemetry

        decoded: dict[str, Any] = msgspec.json.decode(otlp.encode(trace.of_report(self, job_id=self.job_id)))
        return decoded

    def figure(self) -> Figure:
        """The waterfall and the memory curve as a plotly Figure, to change or save as you like."""
        from plotly.graph_objects import Figure  # heavy

        return Figure(plotly.figure_dict(self))

    def explore(self) -> ReportExplorer:
        """The report to look around in: zoom, brush and select, with mouse or keyboard, on one time axis.

        What is selected there stands in `explorer.selection`, for the next cell to read; `explorer.select(...)` sets
        it. The explorer itself lives as long as its kernel. Beside it in the same output stand the report's card and
        text: they are what nbconvert, and JupyterLab without a kernel, show of the saved notebook. With a new kernel,
        JupyterLab says that the widget's model is not found, until the cell is run again.
        """
        from omnirt_lab.widgets.explorer import ReportExplorer  # loads ipywidgets

        return ReportExplorer(self, read=STORES.read)

    def findings(self) -> tuple[diagnosis.Finding, ...]:
        """What an expert would read in it, in the order an expert would, each with what to try."""
        return diagnosis.diagnose(self)

    def debug(self) -> str:
        """The findings as text."""
        return diagnosis_view.findings_text(self.findings())

    def pictures(self) -> list[bytes]:
        """The stored PNGs to look at: the run's pictures, its videos' frames in a row, its sounds' waveforms.

        Those that were purged, or lie on another machine, are left out.
        """
        found = []
        for artifact in self.artifacts:
            try:
                found.append(STORES.read(artifact.preview_sha256 or artifact.sha256))
            except ArtifactNotFoundError:
                continue
        return found

    def _media(self) -> list[tuple[str, bytes]]:
        """Media type and stored file of its videos and sounds, without those that were purged."""
        found = []
        for artifact in self.artifacts:
            if artifact.preview_sha256 is not None:
                try:
                    found.append((artifact.media_type, STORES.read(artifact.sha256)))
                except ArtifactNotFoundError:
                    continue
        return found

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002  # IPython's
        if is_shown_here(self.run_id):  # a live view has become this report, in the same cell
            return {"text/plain": repr(self)}
        return bundle.mimebundle(self, self.pictures())

    def __repr__(self) -> str:
        took = "unfinished" if self.duration_ms is None else f"{self.duration_ms:.0f} ms"
        return f"<RunReport {self.run_id}: {self.model}, {self.state}, {took}>"

    def __str__(self) -> str:
        return self.to_text()


class GenerateResult(records.GenerateResult, frozen=True, kw_only=True):
    """What a finished job made: its pictures, videos or sounds, and the report of how."""

    metadata: RunReport

    @property
    def report(self) -> RunReport:
        """The same object as `metadata`."""
        return self.metadata

    @property
    def images(self) -> list[Image]:
        """The pictures as PIL images, read from the artifact store.

        Raises
        ------
        ArtifactNotFoundError
            If a picture was purged from the store.
        """
        from PIL import Image  # heavy

        return [Image.open(io.BytesIO(content)) for content in self._files("image/")]

    @property
    def videos(self) -> list[Frames]:
        """The videos as arrays of uint8 (frames, height, width, 3), read from the artifact store.

        They are what the stored files show, which H.264 has changed a little. `outputs` has each one's `fps`.

        Raises
        ------
        ArtifactNotFoundError
            If a video was purged from the store.
        NotAvailableError
            If PyAV is not installed.
        """
        from omnirt_lab.pipelines.video import decode_mp4  # loads NumPy

        return [decode_mp4(content) for content in self._files("video/")]

    @property
    def audio(self) -> list[Samples]:
        """The sounds as arrays of float32 (channels, samples) in -1 to 1, read from the artifact store.

        They have the 16 bits of the stored files. `outputs` has each one's `sample_rate_hz`.

        Raises
        ------
        ArtifactNotFoundError
            If a sound was purged from the store.
        """
        from omnirt_lab.pipelines.sound import decode_wav  # loads NumPy

        return [decode_wav(content) for content in self._files("audio/")]

    def _files(self, media_type: str) -> list[bytes]:
        return [STORES.read(artifact.sha256) for artifact in self.outputs if artifact.media_type.startswith(media_type)]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values, in the shape that the hosted API answers."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002  # IPython's
        return {"text/plain": repr(self)} if is_shown_here(self.metadata.run_id) else self.metadata._repr_mimebundle_()

    def __repr__(self) -> str:
        return f"<GenerateResult {len(self.outputs)} outputs, {self.metadata!r}>"


def result_of(report: records.RunReport) -> GenerateResult:
    """The result that a succeeded run's report describes."""
    own = report if isinstance(report, RunReport) else RunReport.of(report)
    return GenerateResult(outputs=own.artifacts, metadata=own)

"""The form of a panel: a field for each word that the chosen model and task take, and none for the others."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ipywidgets
import msgspec

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.views import numbers
from omnirt_lab.views.quoting import visible
from omnirt_lab.widgets.picture_field import PictureField

if TYPE_CHECKING:
    from omnirt_lab.pipelines.call_options import CallOptions
    from omnirt_lab.records import GenerateRequest, Task

_OWN: Final = ""
"""Stands for the model's own scheduler."""

_MAX_DRAWN_SEED: Final = 2**32
_LABEL_WIDTH: Final = "84px"
_WIDE: Final = {"width": "auto", "min_width": "0", "margin": "2px 0"}


class Number(NamedTuple):
    """A field that holds a number as text: empty for the model's own, and exact where a browser's numbers are not."""

    label: str
    kind: type[int | float]
    tooltip: str

    def read(self, text: str) -> float | None:
        """The number; None for an empty field.

        Raises
        ------
        InvalidRequestError
            If it is no number.
        """
        if not text.strip():
            return None
        try:
            return self.kind(text)
        except ValueError as error:
            wanted = "whole number" if self.kind is int else "number"
            raise InvalidRequestError(
                f"{self.label.lower()} is {visible(text, limit=40)!r}, which is no {wanted}",
                hint="Type digits, or leave the field empty for the model's own.",
            ) from error


NUMBERS: Final[dict[str, Number]] = {
    "seed": Number("Seed", int, "Of the first picture; empty: one is drawn for each run, and recorded"),
    "width": Number("Width", int, "Pixels"),
    "height": Number("Height", int, "Pixels"),
    "steps": Number("Steps", int, "Denoising steps"),
    "guidance_scale": Number("Guidance", float, "Weight of classifier-free guidance: how closely to follow the prompt"),
    "num_images": Number("How many", int, "Pictures, videos or sounds, each with the next seed"),
    "strength": Number("Strength", float, "How far to go from the picture, 0 to 1; 1 forgets it"),
    "num_frames": Number("Frames", int, "Of the video"),
    "fps": Number("Frames/s", float, "Of the stored video"),
    "audio_length_s": Number("Seconds", float, "Of sound"),
}


class RequestForm:
    """The fields, with what a person has written in them; what the model does not take is hidden, and kept.

    Parameters
    ----------
    models
        Names to choose from, at least one.
    tasks_of
        Asked for the tasks of a model that was chosen; may raise a LabError.
    options_of
        Asked for what a model and a task take; may raise a LabError.
    """

    def __init__(
        self,
        models: tuple[str, ...],
        *,
        tasks_of: Callable[[str], tuple[Task, ...]],
        options_of: Callable[[str, Task], CallOptions],
    ) -> None:
        self._tasks_of, self._options_of = tasks_of, options_of
        self._offered: CallOptions | None = None
        self.model = ipywidgets.Dropdown(options=models, **_described("Model"))
        self.task = ipywidgets.Dropdown(options=tasks_of(models[0]), **_described("Task"))
        self.prompt = ipywidgets.Textarea(rows=3, placeholder="What the picture shows", **_described("Prompt"))
        self.negative = ipywidgets.Textarea(
            rows=2, placeholder="What it must not show", **_described("Negative", "What the picture must not show")
        )
        self.scheduler = ipywidgets.Dropdown(options=[("", _OWN)], **_described("Scheduler"))
        self.numbers = {
            word: ipywidgets.Text(**_described(number.label, number.tooltip)) for word, number in NUMBERS.items()
        }
        self.pictures = {
            "image": PictureField("Start from…", "The picture to start from"),
            "mask": PictureField("Mask…", "White where the picture may change"),
        }
        self.dice = ipywidgets.Button(
            description="New seed", tooltip="Draw a seed", layout={"width": "auto", "flex": "0 0 auto"}
        )
        self.dice.on_click(lambda _: self.draw_seed())
        self.widget = ipywidgets.VBox(self._rows())

    def _rows(self) -> tuple[Any, ...]:
        field = self.numbers
        return (
            _pair(self.model, self.task),
            self.prompt,
            self.negative,
            *(picture.widget for picture in self.pictures.values()),
            _pair(field["seed"], self.dice),
            _pair(field["width"], field["height"]),
            _pair(field["steps"], field["guidance_scale"]),
            _pair(self.scheduler, field["num_images"]),
            _pair(field["num_frames"], field["fps"]),
            _pair(field["strength"], field["audio_length_s"]),
        )

    def offer_tasks(self) -> None:
        """Offer what the chosen model can do, and keep the chosen task if that is among it."""
        chosen, tasks = self.task.value, self._tasks_of(self.model.value)
        self.task.options = tasks  # which chooses the first
        if chosen in tasks:
            self.task.value = chosen
        self.offer_fields()

    def offer_fields(self) -> None:
        """Show the fields that the chosen model and task take, with the defaults that stand where one is empty."""
        offered = self._options_of(self.model.value, self.task.value)
        self._offered = offered
        fields = {
            "prompt": self.prompt,
            "negative_prompt": self.negative,
            "scheduler": self.scheduler,
            **{word: picture.widget for word, picture in self.pictures.items()},
            **self.numbers,
        }
        for word, field in fields.items():
            field.layout.display = None if word in offered.words else "none"
        self.dice.layout.display = self.numbers["seed"].layout.display
        for word, field in self.numbers.items():
            field.placeholder = _placeholder(word, offered)
        self._offer_schedulers(offered)

    def draw_seed(self) -> None:
        """Write a random seed into its field."""
        self.numbers["seed"].value = str(secrets.randbelow(_MAX_DRAWN_SEED))

    def words(self) -> tuple[str, dict[str, Any]]:
        """The prompt, and the other words that are set.

        Raises
        ------
        InvalidRequestError
            If a field for a number holds none.
        """
        offered = frozenset() if self._offered is None else self._offered.words
        chosen: dict[str, Any] = {"model": self.model.value, "task": self.task.value}
        held: dict[str, Any] = {word: picture.value for word, picture in self.pictures.items()}
        held |= {"negative_prompt": self.negative.value or None, "scheduler": self.scheduler.value or None}
        written = {word: number.read(self.numbers[word].value) for word, number in NUMBERS.items() if word in offered}
        found = {**written, **{word: value for word, value in held.items() if word in offered}}
        return self.prompt.value, chosen | {word: value for word, value in found.items() if value is not None}

    def load(self, request: GenerateRequest, *, seed: int | None) -> None:
        """Write a run's settings into the fields; `seed` is the one that it had, also where it was drawn."""
        self.model.options = tuple(dict.fromkeys((*self.model.options, request.model)))
        self.model.value, self.task.value = request.model, request.task
        self.prompt.value = request.inputs.prompt
        self.negative.value = request.inputs.negative_prompt or ""
        self.pictures["image"].show(request.inputs.image)
        self.pictures["mask"].show(request.inputs.mask)
        self._choose_scheduler(request.config.scheduler)
        config = msgspec.to_builtins(request.config)
        for word, field in self.numbers.items():
            value = seed if word == "seed" else config.get(word)
            field.value = "" if value is None else repr(value)

    def _offer_schedulers(self, offered: CallOptions) -> None:
        chosen = self.scheduler.value
        own = (f"{offered.own_scheduler} (the model's own)", _OWN)
        self.scheduler.options = [own, *((name, name) for name in offered.schedulers)]  # which chooses the first
        if chosen in offered.schedulers:
            self.scheduler.value = chosen

    def _choose_scheduler(self, name: str | None) -> None:
        if name is not None and name not in [value for _, value in self.scheduler.options]:
            self.scheduler.options = [*self.scheduler.options, (name, name)]
        self.scheduler.value = name or _OWN


def _placeholder(word: str, offered: CallOptions) -> str:
    if word == "seed":
        return "drawn for each run"
    default = offered.defaults.get(word)
    if not isinstance(default, int | float):
        return "the model's own"
    return numbers.plain(default) if isinstance(default, float) else str(default)


def _described(label: str, tooltip: str | None = None) -> dict[str, Any]:
    return {
        "description": label,
        "tooltip": tooltip,
        "style": {"description_width": _LABEL_WIDTH},
        "layout": dict(_WIDE),
    }


def _pair(first: Any, second: Any) -> Any:
    """Two fields in a line, or under each other where it is narrow."""
    for field in (first, second):
        if field.layout.flex is None:
            field.layout.flex = "1 1 180px"
    return ipywidgets.Box((first, second), layout={"display": "flex", "flex_flow": "row wrap", "grid_gap": "0 8px"})

"""What a person may set for a model and a task, with the defaults that stand where nothing is set; loads no weights."""

from __future__ import annotations

import inspect

from omnirt_lab.pipelines.call_arguments import OWN_WORDS, call_parameters, ignores_negative_prompt
from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.loading import get_pipeline_class
from omnirt_lab.pipelines.resolution import to_json
from omnirt_lab.pipelines.schedulers import compatible_names, find_scheduler
from omnirt_lab.records import IMAGE_TASKS, VIDEO_TASKS, Json, Record, Task


class CallOptions(Record, frozen=True, kw_only=True):
    """The request's own words that mean something to the pipeline's call."""

    words: frozenset[str]
    """Such as `prompt`, `steps`, `seed`, `width`, `scheduler`; the other words of a request would be refused."""

    defaults: dict[str, Json]
    """Word → what the pipeline takes where none is given; absent where its call does not say."""

    size_multiple_px: int
    """Width and height must be multiples of this."""

    own_scheduler: str | None = None
    """Class name of the scheduler that the model was saved with; None where its files are not here."""

    schedulers: tuple[str, ...] = ()
    """Short names of those that can stand in for it."""


def call_options(source: ModelSource, task: Task) -> CallOptions:
    """Read the signature of the pipeline's call and the model's configs.

    Raises
    ------
    UnsupportedTaskError
        If the model cannot do the task.
    ModelLoadError
        If the installed diffusers does not have its class.
    """
    accepted = call_parameters(get_pipeline_class(source, task))
    scheduler = find_scheduler(source)
    words = {word for name, word in OWN_WORDS.items() if name in accepted}
    words -= set() if task in IMAGE_TASKS else {"image"}
    words |= {"fps"} if task in VIDEO_TASKS else set()
    words -= set() if task == "inpaint" else {"mask"}
    words -= {"negative_prompt"} if ignores_negative_prompt(accepted, {}) else set()
    return CallOptions(
        words=frozenset(words if scheduler is None else words | {"scheduler"}),
        defaults={word: value for word, value in _defaults(source, accepted).items() if word in words},
        size_multiple_px=source.size_multiple_px,
        own_scheduler=None if scheduler is None else type(scheduler).__name__,
        schedulers=() if scheduler is None else compatible_names(scheduler),
    )


def _defaults(source: ModelSource, accepted: dict[str, inspect.Parameter]) -> dict[str, Json]:
    found = {
        word: to_json(accepted[name].default)
        for name, word in OWN_WORDS.items()
        if name in accepted and accepted[name].default not in (None, inspect.Parameter.empty)
    }
    sides = dict.fromkeys(("width", "height"), source.default_size_px) if source.default_size_px else {}
    return {**sides, **found}
